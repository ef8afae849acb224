import pytest
from jinja2 import Environment

from infoconflict.chat_prompts import PLAIN_TEMPLATE
from infoconflict.errors import UserError
from infoconflict.models.tiny import CHAT_TEMPLATE
from infoconflict.purify.growth import Growth
from infoconflict.purify.templates import check_template

# What templates of well-known models consist of.
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\nYou are "
    "helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
LLAMA_2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system = false %}{% endif %}{% for message in loop_messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
    "{% if loop.index0 == 0 and system != false %}{% set content = '<<SYS>>\n' + system + '\n<</SYS>>\n\n' + "
    "message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% else %}{{ ' ' + content.strip() + ' ' + eos_token }}"
    "{% endif %}{% endfor %}"
)
NAMESPACES = (
    "{%- set ns = namespace(system='', first=true, last=messages|length - 1) -%}{%- for message in messages[::-1] -%}"
    "{%- set index = (messages|length - 1) - loop.index0 -%}{%- if message.role == 'system' -%}"
    "{%- set ns.system = ns.system ~ '\n\n' ~ message.content -%}{%- set ns.first = false -%}{%- endif -%}{%- endfor -%}"
    "{%- if tools is defined -%}{%- for tool in tools -%}{{- tool | tojson(indent=4) -}}{%- endfor -%}{%- endif -%}"
    "{{- strftime_now('today') -}}"
)
DATED = (
    "{%- set today = strftime_now('%Y-%m-%d') -%}{{ 'The date is ' + today }}{%- for message in messages -%}"
    "{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception('roles') }}{%- endif -%}"
    "{{ message['content'] }}{%- endfor -%}"
)
MACRO = (
    "{% macro shown(text, mark) %}{{ mark ~ text | trim ~ mark }}{% endmacro %}"
    "{% for message in messages %}{% generation %}{{ shown(message.content, '**') }}{% endgeneration %}"
    "{% if loop.index > 9 %}{% break %}{% endif %}{% endfor %}"
)
NEXT_TURN = (
    "{% for message in messages %}{% if loop.last or messages[loop.index0 + 1].role != 'tool' %}<|im_end|>{% endif %}"
    "{% set i = loop.index0 %}{% if messages[i + 1].role == 'tool' %}a{% endif %}"
    "{% for j in range(loop.index0 - 1, -1, -1) %}{{ messages[j].role }}{% endfor %}"
    "{% for j in range(loop.index0 + 1, messages|length) %}{{ messages[j].role }}{% endfor %}{% endfor %}"
)
MACROS = (
    "{% macro one(x) %}{{ x if x is string else x|tojson }}{% endmacro %}{% macro all(xs) %}{% for x in xs %}"
    "{{ one(x) ~ ', ' }}{% endfor %}{% endmacro %}{{ all(tools) }}{{ all(messages|map(attribute='content')) }}"
)
COUNTERS = (
    "{% set images = namespace(value=0) %}{% set videos = namespace(value=0) %}{% for message in messages %}"
    "{% for part in message.content %}{% if part.type == 'image' %}{% set images.value = images.value + 1 %}"
    "{% elif part.type == 'video' %}{% set videos.value = videos.value + 1 %}{% endif %}{% endfor %}{% endfor %}"
)
LISTS = (
    "{% set calls = namespace(all=[]) %}{% for call in messages[-1].tool_calls %}{% set own = namespace(all=[]) %}"
    "{% for name, value in call.arguments.items() %}{% set own.all = own.all + [name ~ '=' ~ value|tojson] %}{% endfor %}"
    "{% set calls.all = calls.all + [call.name ~ '(' ~ own.all|join(', ') ~ ')'] %}{% endfor %}{{ calls.all|join(', ') }}"
)
THOUGHTS = (
    "{% for message in messages %}{% set content = message.content %}{% if '</think>' in content %}"
    "{% set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}"
    "{% set content = content.split('</think>')[-1]|replace('Effort', 'Strength') %}{{ thought ~ content }}{% endif %}"
    "{% endfor %}"
)
PLAIN = [CHAT_TEMPLATE, PLAIN_TEMPLATE, CHATML, LLAMA_2, NAMESPACES, DATED, MACRO]


@pytest.mark.parametrize("text", [*PLAIN, NEXT_TURN, MACROS, COUNTERS, LISTS, THOUGHTS])
def test_templates_that_format_pass(text):
    check_template(text, "model")


REFUSED = {
    "{% import 'x' as y %}": "imports",
    "{% from 'x' import y %}": "imports",
    "{% include 'x' %}": "includes",
    "{% extends 'x' %}": "extends",
    "{{ messages.__class__ }}": "attribute '__class__'",
    "{{ messages['__class__'] }}": "item '__class__'",
    "{{ messages[('__cl' ~ 'ass__')] }}": "puts together",
    "{{ messages|attr('role') }}": "filter 'attr'",
    "{{ messages|map(attribute='__class__')|list }}": "does not name plainly",
    "{{ messages|map(attribute='_' ~ '_class_' ~ '_')|list }}": "does not name plainly",
    "{% set k = '_' ~ '_class_' ~ '_' %}{{ messages|selectattr(k)|list }}": "does not name plainly",
    "{{ messages|sort(attribute='a._b')|list }}": "does not name plainly",
    "{{ messages['a' + 'b'] }}": "puts together",
    "{{ messages.append(1) }}": "method 'append'",
    "{% block title %}{{ self.title() }}{% endblock %}": "has a block",
    "{{ messages|map('center', 99)|list }}": "by a name that is not allowed",
    "{{ ''.format(messages) }}": "method 'format'",
    "{{ cycler.__init__.__globals__ }}": "attribute",
    "{{ lipsum(9) }}": "calls 'lipsum'",
    "{{ (messages or x)(1) }}": "has no name",
    "{{ 'a' * 9 }}": "multiplies",
    "{{ 9 ** 9 }}": "power",
    "{{ '%999999999d' % 1 }}": "'%'",
    "{% set f = '%999999999d' %}{{ f % 1 }}": "'%'",
    "{{ 'a'|center(999999999) }}": "filter 'center'",
    "{{ messages|tojson(indent=999999999) }}": "indent",
    "{% set n = 99 %}{{ messages|tojson(indent=n) }}": "indent",
    "{% for i in range(999999999) %}a{% endfor %}": "range",
    "{% set n = 999999999 %}{% for i in range(n) %}a{% endfor %}": "range",
    "{% for i in range('9999999'|int) %}a{% endfor %}": "range",
    "{% set n = namespace(t='a') %}{% for m in messages %}{% set n.t = n.t ~ n.t %}{% endfor %}": "faster and faster",
    "{% set n = namespace(t='a') %}{% for m in messages %}{% set b %}{{ n.t }}{{ n.t }}{% endset %}{% set n.t = b %}"
    "{% endfor %}": "faster and faster",
    "{% set n = namespace(t='a') %}{% for m in messages %}{% set n.t = n.t.replace('a', 'aa') %}{% endfor %}": "faster and faster",
    "{% set n = namespace(a='a', b='b') %}{% for m in messages %}{% set n.a = n.a ~ n.b %}{% set n.b = n.b ~ n.a %}"
    "{% endfor %}": "faster and faster",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}": "the macro 'f', which calls itself",
    "{% macro f(x) %}{{ g(x) }}{% endmacro %}{% macro g(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}": "which calls itself",
    "{% for a in x recursive %}{{ a }}{% endfor %}": "recursive",
    "{% for a in x recursive %}{{ loop(a) }}{% endfor %}": "calls 'loop'",
    "{% for a in m %}{% for b in m %}{% for c in m %}{% for d in m %}a{% endfor %}{% endfor %}{% endfor %}{% endfor %}": (
        "more than 3 loops"
    ),
    "{% for %}": "cannot be parsed",
    "a" * 200_000: "200000 characters",
}

MANY = 25
BEGIN, FAR = "{% set n = namespace(t='ab') %}{% set x = 'ab' %}", "far beyond what goes in"
# What makes a text twice as long, many times in a row.
DOUBLING = {
    "a variable": "{% set x = x ~ x %}",
    "under a condition": "{% if messages %}{% set x = x ~ x %}{% endif %}",
    "a block": "{% set x %}{{ x }}{{ x }}{% endset %}",
    "a list": "{% set x = x + x %}",
    "quotes around quotes": "{% set x = [x] ~ '' %}",
    "JSON in JSON": "{% set x = x|tojson %}",
    "a default": "{% set x = y|default(x ~ x) %}",
    "a method": "{% set x = x.replace('a', 'aa') %}",
    "a filter": "{% set x = x|replace('a', 'aa') %}",
    "a sum": "{% set x = [x]|sum(start=x) %}",
    "an attribute": "{% set n.t = n.t ~ n.t %}",
    "an item": "{% set n.t = n['t'] ~ n['t'] %}",
    "another name": "{% set m = n %}{% set m.t = n.t ~ n.t %}",
    "a macro's argument": "{% macro f(y) %}{% set y.t = y.t ~ y.t %}{% endmacro %}{{ f(n) }}",
    "a macro's text": "{% macro g() %}{{ n.t }}{{ n.t }}{% endmacro %}{% set n.t = g() %}",
    "a name used again": "{% set n.t = n.t ~ n.t %}{% for i in [1] %}{% set n = namespace(t='') %}{% endfor %}",
    "a loop of one round": "{% for y in [n.t ~ n.t] %}{% set n.t = y %}{% endfor %}",
    "a turn of an assistant": "{% generation %}{% set x = x ~ x %}{% endgeneration %}",
}


@pytest.mark.parametrize("case", DOUBLING)
def test_templates_that_double_a_text_again_and_again_are_refused(case):
    with pytest.raises(UserError, match=FAR):
        check_template(BEGIN + MANY * DOUBLING[case] + "{{ x }}{{ n.t }}", "model")
    check_template(BEGIN + DOUBLING[case] + "{{ x }}{{ n.t }}", "model")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (MANY * "{% with x = x ~ x %}" + "{{ x }}" + MANY * "{% endwith %}", FAR),
        (MANY * "{% filter replace('a', 'aa') %}" + "a" + MANY * "{% endfilter %}", FAR),
        (3 * "{% for i in range(999) %}" + 3 * "{% endfor %}", FAR),
        ("{% set x = messages[0].content %}{{ x.replace('', x) }}", "many places of another"),
        ("{% set x = messages[0].content %}{{ x.split('')|join(x) }}", "many places of another"),
        (
            "{% macro f0(x) %}a{% endmacro %}"
            + "".join(f"{{% macro f{n}(x) %}}{2 * f'{{{{ f{n - 1}(x) }}}}'}{{% endmacro %}}" for n in range(1, MANY))
            + f"{{{{ f{MANY - 1}(1) }}}}",
            "too many loops and macros",
        ),
        ("{{ " + " + ".join(2000 * ["a"]) + " }}", "recursion"),
    ],
    ids=lambda text: text[:30],
)
def test_other_ways_to_grow_are_refused(text, says):
    with pytest.raises(UserError, match=says):
        check_template(BEGIN + text, "model")


def test_a_template_that_passes_writes_no_more_than_is_judged():
    template = "{% for a in x %}{{ a ~ '--' }}{% for b in range(3) %}{{ a }}{% endfor %}{% endfor %}"
    size = Growth(Environment().parse(template)).judged()
    # For n characters: n rounds of what is counted as n + 2, and of three rounds of n and one of their own.
    assert size.parts == (0, 2 + 3 + 1, 1 + 3)
    for n in (1, 5, 50):
        written = Environment(autoescape=False).from_string(template).render(x="a" * n)
        assert len(written) <= sum(part * n**power for power, part in enumerate(size.parts))


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_templates_that_do_more_are_refused(text):
    with pytest.raises(UserError) as caught:
        check_template(text, "model, chat_template.jinja")
    assert REFUSED[text] in str(caught.value)
    assert str(caught.value).startswith("model, chat_template.jinja: the chat template")


def test_the_line_is_named():
    with pytest.raises(UserError, match="line 3"):
        check_template("{{ bos_token }}\n\n{{ 9 ** 9 }}", "model")
