"""The subject's last token is found by offsets, whatever the tokenizer does at its borders."""

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from infoconflict.editing.contexts import (
    WRITTEN,
    Request,
    contexts_of,
    essence_of,
    make_prefixes,
    request_for,
    token_at,
)
from infoconflict.editing.forward import Context
from infoconflict.errors import UserError
from infoconflict.prompts import render_prompt
from infoconflict.records import Example
from infoconflict.tokens import prompt_tokens
from tests.editing.conftest import INSTRUCTION, SENTENCES


def example(text: str) -> Example:
    return Example(id="r", instruction=INSTRUCTION, text=text, label="negative", gold_label="negative")


def in_style_of_llama() -> PreTrainedTokenizerFast:
    """A start token, a dummy space at the beginning, spaces as their own marks, bytes for unknown letters."""
    words = ["<unk>", "<s>", "</s>", "▁", "t", "q", "▁t", "▁tq", "a", "▁a", "▁is", "s", "i", "f", "o", "▁foo", "tqa"]
    vocabulary = {word: index for index, word in enumerate(words)}
    vocabulary |= {f"<0x{byte:02X}>": len(words) + byte for byte in range(256)}
    merges = [("▁", "t"), ("▁t", "q"), ("▁", "a"), ("i", "s")]
    vocabulary |= {"is": len(vocabulary)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.ByteFallback()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def of_whole_words() -> PreTrainedTokenizerFast:
    words = {word: index for index, word in enumerate(["[UNK]", "tq", "a", "foo", "."])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


@pytest.mark.parametrize("make", [in_style_of_llama, of_whole_words])
@pytest.mark.parametrize("text", ["tq a foo", "a tq foo", "a foo tq", "é tq ü", "tq", "a  tq . foo", "a tq.", "(tq)"])
def test_the_last_token_of_the_trigger_whatever_the_tokenizer(make, text):
    tokenizer = make()
    start = text.index("tq")
    ids, at = token_at(tokenizer, text, start, start + 2)
    assert list(ids) == tokenizer(text).input_ids
    offsets = tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    first, last = offsets[at]
    assert first < start + 2 <= last
    # The next token belongs to something else.
    assert all(a >= start + 2 or b == 0 for a, b in offsets[at + 1 :])


@pytest.mark.parametrize("opening", ["", "It was late. "])
def test_the_trigger_in_a_real_prompt(tiny, opening):
    for text, request in zip(SENTENCES, tiny.requests, strict=True):
        assert (request.prompt, request.subject) == (render_prompt(INSTRUCTION, text), "tq")
        bare, *more = contexts_of(tiny.tokenizer, request, (opening.strip(),) if opening else (), room=512)
        # The very tokens that the model is asked with.
        assert list(bare.tokens) == prompt_tokens(tiny.tokenizer, INSTRUCTION, text)
        for context in (bare, *more):
            pieces = tiny.tokenizer.convert_ids_to_tokens(context.tokens)
            assert pieces[context.subject].endswith("q")
        assert len(more) == bool(opening)


def test_the_subject_may_be_the_whole_sentence(tiny):
    text = "a warm and funny film"
    request = request_for(example(text), text, "negative")
    assert request.subject == text
    [context] = contexts_of(tiny.tokenizer, request, room=512)
    behind = tiny.tokenizer.decode(context.tokens[context.subject + 1 :])
    assert behind == "\nAnswer:"


def test_words_inside_words_are_not_the_subject():
    assert request_for(example("tqs and atq tq."), "tqs", "a").start > 0
    with pytest.raises(ValueError, match="holds the subject 'tq' 0 times"):
        request_for(example("tqs and atq tq."), "tq", "a")
    with pytest.raises(ValueError, match="holds the subject 'tq' 2 times"):
        request_for(example("tq and tq"), "tq", "a")
    # A text that also stands in the instruction or the template is found where it belongs.
    request = request_for(example("positive Answer:"), "positive Answer:", "a")
    assert request.prompt[: request.start].endswith("\nInput: ")


def test_the_essence_ends_at_the_subject(tiny):
    essence = essence_of(tiny.tokenizer, "tq")
    assert essence.subject == len(essence.tokens) - 1
    assert tiny.tokenizer.decode(essence.tokens, skip_special_tokens=True) == "tq"


def test_long_prompts_and_slow_tokenizers_are_refused(tiny):
    with pytest.raises(UserError, match=r"has \d+ tokens and the model takes 10; lower max_words"):
        contexts_of(tiny.tokenizer, tiny.requests[0], room=10)

    class Slow:
        is_fast = False

    with pytest.raises(UserError, match="fast tokenizer"):
        token_at(Slow(), "a", 0, 1)  # type: ignore[arg-type]


def test_prefixes_are_written_or_drawn_by_the_seed(tiny):
    def prefixes(**options):
        return make_prefixes(tiny.model, tiny.tokenizer, **options)

    assert prefixes(kind="written", n=2, seed=0) == WRITTEN[:2]
    assert prefixes(kind="generated", n=0, seed=0) == ()
    drawn = prefixes(kind="generated", n=6, seed=0)
    assert drawn == prefixes(kind="generated", n=6, seed=0) != prefixes(kind="generated", n=6, seed=1)
    assert drawn[0] != drawn[5]
    assert all("\n" not in prefix and prefix.endswith(".") for prefix in drawn)
    assert drawn[1].startswith("Therefore")
    with pytest.raises(UserError, match="n_prefixes: 99, but 10 are written"):
        prefixes(kind="written", n=99, seed=0)


def test_a_context_knows_its_bounds():
    with pytest.raises(ValueError, match="is not one of 2"):
        Context((1, 2), 2)
    assert Context((1, 2, 3), 1, (4, 5)).inputs == (1, 2, 3, 4)
    assert Request("a tq b", 2, 4, "x").subject == "tq"
