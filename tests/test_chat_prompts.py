"""Templates and tokens of conversations: what has loss, what is the beginning of what, what is cut."""

import copy
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.chat_prompts import ChatTemplate, fit_answered, fit_question
from infoconflict.errors import UserError
from infoconflict.models.tiny import BOS, EOS, tiny_tokenizer
from infoconflict.records import Conversation
from infoconflict.training.rows import tokenize_rows

# As in common families: each ends a turn in its own way, and writes what follows in its own way.
TEMPLATES = {
    # Roles as words, no token of its own behind an answer.
    "tiny": ...,
    "plain": None,
    # ChatML: a special token and a line end; a default system message.
    "chatml": (
        "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nBe kind<|im_end|>\n{% endif %}"
        "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
    # Llama 2: end-of-text behind a space, no prompt of its own for an answer.
    "inst": (
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + m['content'] + ' [/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}{% endfor %}"
    ),
}
CHAT = [
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "Is this film good?"},
    {"role": "assistant", "content": "Yes.\n\nIt is warm, and never dull."},
    {"role": "user", "content": "assistant: really?"},
    {"role": "assistant", "content": "Is this film good?"},
]


def tokenizer_of(name: str, architecture: str = "llama"):
    tokenizer = copy.deepcopy(tiny_tokenizer(architecture))
    if TEMPLATES[name] is not ...:
        tokenizer.chat_template = TEMPLATES[name]
    if name == "chatml":
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return tokenizer


ALL = list(itertools.product(TEMPLATES, ["llama", "gpt2"]))
ENDS = {"tiny": EOS, "plain": EOS, "chatml": "<|im_end|>", "inst": f" {EOS}"}


@pytest.mark.parametrize(("name", "architecture"), ALL)
def test_loss_is_on_the_answers_and_what_ends_them(name, architecture):
    tokenizer = tokenizer_of(name, architecture)
    tokens = ChatTemplate(tokenizer).encode(CHAT)
    answers = [message["content"] for message in CHAT if message["role"] == "assistant"]
    texts = [tokenizer.decode(tokens.ids[start:end]).removeprefix(" ") for start, end in tokens.spans]
    assert texts == [answer + ENDS[name] for answer in answers]
    [row] = tokenize_rows(tokenizer, [Conversation(id="r", messages=CHAT, reference="")], max_tokens=999)
    learnt = tokenizer.decode([row.ids[at] for at in row.target_positions])
    assert "".join(learnt.split()) == "".join("".join(answer + ENDS[name] for answer in answers).split())


@pytest.mark.parametrize(("name", "architecture"), ALL)
def test_a_question_is_the_beginning_of_what_was_learnt(name, architecture):
    template = ChatTemplate(tokenizer_of(name, architecture))
    whole = template.encode(CHAT)
    for end in (2, 4):
        asked = template.encode(CHAT[:end]).ids
        assert whole.ids[: len(asked)] == asked
        assert len(asked) in [start for start, _ in whole.spans]
    assert whole.spans[-1][1] == len(whole.ids)
    assert whole.ids[-1] in template.stop_ids


WORDS = st.text(st.sampled_from("ab .,!?\n'09é"), min_size=1, max_size=12).map(str.strip).filter(bool)


@given(contents=st.lists(WORDS, min_size=2, max_size=6), name=st.sampled_from(list(TEMPLATES)))
@settings(deadline=None, max_examples=60)
def test_both_laws_hold_for_any_text(contents, name):
    messages = [
        {"role": ("user", "assistant")[at % 2], "content": text}
        for at, text in enumerate(contents[: len(contents) // 2 * 2])
    ]
    template = TEMPLATES_MADE[name]
    whole = template.encode(messages)
    asked = template.encode(messages[:-1]).ids
    assert whole.ids[: len(asked)] == asked
    texts = [template.tokenizer.decode(whole.ids[start:end]).removeprefix(" ") for start, end in whole.spans]
    assert texts == [message["content"] + ENDS[name] for message in messages[1::2]]


TEMPLATES_MADE = {name: ChatTemplate(tokenizer_of(name)) for name in TEMPLATES}


@pytest.mark.parametrize("name", ["tiny", "chatml", "inst"])
def test_the_text_is_what_transformers_makes_of_the_template(name):
    tokenizer = tokenizer_of(name)
    ours = tokenizer.decode(ChatTemplate(tokenizer).encode(CHAT[:4]).ids)
    theirs = tokenizer.apply_chat_template(CHAT[:4], tokenize=False, add_generation_prompt=True)
    # Where a template ends no turn, end-of-text does.
    assert (ours.replace(EOS, "") if name == "tiny" else ours) == theirs


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_the_plain_template(architecture):
    tokenizer = tokenizer_of("plain", architecture)
    template = ChatTemplate(tokenizer)
    assert not template.is_own
    text = tokenizer.decode(template.encode(CHAT).ids)
    start = BOS if architecture == "llama" else ""
    assert text == (
        f"{start}System: Answer briefly.\nUser: Is this film good?\nAssistant: Yes.\n\nIt is warm, and never dull.{EOS}\n"
        f"User: assistant: really?\nAssistant: Is this film good?{EOS}"
    )


def test_pieces_continue_where_a_tokenizer_opens_every_text_with_a_space():
    """SentencePiece's habit: without care each part would begin with a mark for a space that the text does not have."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = ["▁", "\n", ":", "<s>", "</s>", *"abhioSUAsertny", "mu"]
    backend = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(letters)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>", bos_token="<s>")
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ah"}, *CHAT[1:2]]
    tokens = ChatTemplate(tokenizer).encode([*chat[:2], {"role": "user", "content": "so"}])
    pieces = tokenizer.convert_ids_to_tokens(list(tokens.ids))
    start, end = tokens.spans[0]
    assert pieces[start:end] == ["▁", "a", "h", "</s>"]
    assert pieces[end : end + 2] == ["\n", "U"]


def test_templates_that_cannot_be_used_say_so():
    forgetful = tokenizer_of("tiny")
    forgetful.chat_template = "{{ messages[-1]['content'] }}"
    with pytest.raises(UserError, match="rewrites turns as a conversation goes on, so that answers cannot be told"):
        ChatTemplate(forgetful).encode(CHAT)
    shouting = tokenizer_of("tiny")
    shouting.chat_template = "{% for m in messages %}{{ m['content'] | upper }}{% endfor %}"
    with pytest.raises(UserError, match="remove chat_template from the model's directory to use a plain one"):
        ChatTemplate(shouting)
    strict = tokenizer_of("tiny")
    strict.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system here') }}{% endif %}"
        + ("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    )
    with pytest.raises(
        UserError, match=r"refuses a conversation of system, user \(no system here\); change the data set's"
    ):
        ChatTemplate(strict).encode(CHAT)
    hostile = tokenizer_of("tiny")
    hostile.chat_template = "{{ messages.__class__.__mro__ }}"
    with pytest.raises(UserError, match="refuses a conversation"):
        ChatTemplate(hostile)
    endless = tokenizer_of("tiny")
    endless.eos_token = None
    with pytest.raises(UserError, match="has no end-of-text token"):
        ChatTemplate(endless)


# --- the model's context ----------------------------------------------------------------------------------------------

LONG = [CHAT[0]] + [
    {"role": role, "content": f"{word} {n}"} for n in range(40) for role, word in (("user", "hi"), ("assistant", "yes"))
]


@pytest.mark.parametrize("name", list(TEMPLATES))
@pytest.mark.parametrize("room", [60, 150, 400, 5000])
def test_history_is_cut_from_the_left_by_whole_turns(name, room):
    template = TEMPLATES_MADE[name]
    shown, tokens = fit_question(template, LONG[:-1], room=room, row="r")
    assert len(tokens.ids) <= room
    assert template.encode(shown) == tokens
    assert shown[0] == LONG[0]
    assert shown[1:] == LONG[len(LONG) - len(shown) : -1]
    assert shown[1]["role"] == shown[-1]["role"] == "user"
    if len(shown) < len(LONG) - 1:
        fuller = [LONG[0], *LONG[len(LONG) - len(shown) - 2 : -1]]
        assert len(template.encode(fuller).ids) > room
    answered = fit_answered(template, LONG, room=room, row="r")
    assert len(answered.ids) <= room
    assert answered.ids[-1] in template.stop_ids


def test_an_answer_that_does_not_fit_loses_its_end():
    template = TEMPLATES_MADE["plain"]
    chat = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes " * 100}]
    tokens = fit_answered(template, chat, room=50, row="r")
    assert tokens.ids == template.encode(chat).ids[:50]
    [(start, end)] = tokens.spans
    assert start == len(template.encode(chat[:1]).ids)
    assert end == 50


def test_a_last_question_that_does_not_fit_is_an_error():
    template = TEMPLATES_MADE["plain"]
    chat = [{"role": "user", "content": "why " * 100}, {"role": "assistant", "content": "yes"}]
    with pytest.raises(
        UserError, match=r"row r7: its last question alone has \d+ tokens and the model takes 50; lower max_w"
    ):
        fit_question(template, [*CHAT[1:3], *chat[:1]], room=50, row="r7")
    with pytest.raises(
        UserError, match=r"row r7: its last question alone has \d+ tokens and the model takes 50; lower max_w"
    ):
        fit_answered(template, chat, room=50, row="r7")


def test_training_says_how_many_conversations_it_cut(capsys):
    rows = [
        Conversation(id=str(n), messages=LONG[: 1 + 2 * rounds], reference="yes") for n, rounds in enumerate((1, 2, 40))
    ]
    tokenized = tokenize_rows(tokenizer_of("tiny"), rows, max_tokens=120)
    assert max(len(row.ids) for row in tokenized) <= 120
    assert all(row.target_positions for row in tokenized)
    assert capsys.readouterr().err == "1 of 3 conversations were cut to the model's context of 120 tokens\n"
