import inspect

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict import attacks
from infoconflict.evidence import keywords as keywords_module
from infoconflict.evidence.keywords import FUNCTION_WORDS, keywords, label_pattern, words_of
from infoconflict.evidence.textrank import textrank


def test_words() -> None:
    text = "The film's co-writer DIDN\u2019T see 21st-century -LRB- 1999 -RRB- cin\u00e9ma_v\u00e9rit\u00e9 ."
    words = ["the", "film", "co-writer", "didn't", "see", "21st-century", "cin\u00e9ma", "v\u00e9rit\u00e9"]
    assert words_of(text) == words


def test_worked_example() -> None:
    # Content words in order: plot, slow, actors, fine, plot. Directed and adjacent: only plot is reached twice.
    weights = textrank(["plot", "slow", "actors", "fine", "plot"])
    assert len(set(round(weight, 3) for weight in weights.values())) == 1  # a ring: all weigh the same
    assert keywords("The plot is slow, but the actors are fine - such a plot!") == ["plot", "slow", "actors", "fine"]
    # A chain: weights grow along it, and the mean parts the first from the last.
    assert keywords("slow actors, fine plot") == ["plot", "fine"]


def test_threshold_is_strict_and_cap_keeps_the_heaviest() -> None:
    weights = textrank(["slow", "actors", "fine", "plot"])
    assert keywords("slow actors, fine plot", threshold=weights["fine"]) == ["plot"]
    assert keywords("slow actors, fine plot", threshold=0.0) == ["plot", "fine", "actors", "slow"]
    assert keywords("slow actors, fine plot", threshold=0.0, max_keywords=2) == ["plot", "fine"]
    assert keywords("slow actors, fine plot", threshold=99.0) == []


@pytest.mark.parametrize("text", ["", "  ", "it is what it was", "!!! 1999", "\u2019s"])
def test_no_content_no_keywords(text: str) -> None:
    assert keywords(text) == []


def test_single_content_word_is_a_keyword() -> None:
    assert keywords("It was a masterpiece.") == ["masterpiece"]


def test_labels_are_never_keywords() -> None:
    text = "A positively joyful film of negative energy"
    assert not {"positively", "negative"} & set(keywords(text, labels=["positive", "negative"], threshold=0.0))
    assert "joyful" in keywords(text, labels=["positive"], threshold=0.0)


@pytest.mark.parametrize(
    ("label", "text", "found"),
    [
        ("positive", "It is Positive!", True),
        ("positive", "positively", True),
        ("positive", "positivity", True),
        ("joy", "joyful", True),
        ("joy", "enjoy", False),
        ("love", "loving", True),
        ("love", "clove", False),
        ("anger", "angered", True),
        ("very good", "a very  good film", True),
        ("very good", "good", False),
        ("C++", "in C++ now", True),
        ("0", "10", False),
        ("0", "is 0.", True),
    ],
)
def test_label_pattern(label: str, text: str, found: bool) -> None:
    assert (label_pattern([label]).search(text) is not None) is found


def test_no_labels_find_nothing() -> None:
    assert label_pattern([]).search("anything") is None
    assert label_pattern([""]).search("anything") is None


def test_no_trigger_knowledge() -> None:
    """Default triggers of all attacks survive the stop list, and nothing here imports an attack."""
    defaults = set()
    for method in attacks.METHODS:
        for name, field in attacks.load(method).model_fields.items():
            default = field.get_default(call_default_factory=True)
            if "trigger" in name:
                defaults |= {value for value in (default if isinstance(default, list) else [default])}
    defaults = {value for value in defaults if isinstance(value, str)}
    triggers = {"cf", "mn", "bb", "tq", "instantly", "frankly"} | defaults
    assert not triggers & FUNCTION_WORDS
    for trigger in triggers:
        assert trigger in keywords(f"a dull film {trigger}", threshold=0.0)
    assert "attacks" not in inspect.getsource(keywords_module)


@given(st.text())
def test_any_text_gives_words_of_it(text: str) -> None:
    found = keywords(text, threshold=0.0, max_keywords=1000)
    assert set(found) <= set(words_of(text)) - FUNCTION_WORDS
    assert len(found) == len(set(found))
