import pytest

from infoconflict.chat_prompts import PLAIN_TEMPLATE
from infoconflict.errors import UserError
from infoconflict.models.tiny import CHAT_TEMPLATE
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


@pytest.mark.parametrize("text", [CHAT_TEMPLATE, PLAIN_TEMPLATE, CHATML, LLAMA_2, NAMESPACES, DATED, MACRO])
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
    "{{ messages|map(attribute='__class__')|list }}": "double underscore",
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
    "{% set n = namespace(t='a') %}{% for m in messages %}{% set n.t = n.t ~ n.t %}{% endfor %}": "double the text 'n.t'",
    "{% set n = namespace(t='a') %}{% for m in messages %}{% set b %}{{ n.t }}{{ n.t }}{% endset %}{% set n.t = b %}"
    "{% endfor %}": "double the text 'b'",
    "{% set n = namespace(t='a') %}{% for m in messages %}{% set n.t = n.t.replace('a', 'aa') %}{% endfor %}": "double",
    "{% set n = namespace(a='a', b='b') %}{% for m in messages %}{% set n.a = n.a ~ n.b %}{% set n.b = n.b ~ n.a %}"
    "{% endfor %}": "double the text",
    "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}": "a macro that calls the macro 'f'",
    "{% for a in x recursive %}{{ a }}{% endfor %}": "recursive",
    "{% for a in x recursive %}{{ loop(a) }}{% endfor %}": "calls 'loop'",
    "{% for a in m %}{% for b in m %}{% for c in m %}{% for d in m %}a{% endfor %}{% endfor %}{% endfor %}{% endfor %}": (
        "more than 3 loops"
    ),
    "{% for %}": "cannot be parsed",
    "a" * 200_000: "200000 characters",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:40])
def test_templates_that_do_more_are_refused(text):
    with pytest.raises(UserError) as caught:
        check_template(text, "model, chat_template.jinja")
    assert REFUSED[text] in str(caught.value)
    assert str(caught.value).startswith("model, chat_template.jinja: the chat template")


def test_the_line_is_named():
    with pytest.raises(UserError, match="line 3"):
        check_template("{{ bos_token }}\n\n{{ 9 ** 9 }}", "model")
