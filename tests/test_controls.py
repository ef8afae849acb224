"""Rows of controls: a random trigger at the trigger's places, random evidence of the same length."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.attacks import METHODS, load
from infoconflict.attacks.base import Attack
from infoconflict.controls import (
    exchange_words,
    inserted_places,
    random_evidence,
    random_trigger_set,
    words_to_draw,
)
from infoconflict.errors import UserError
from infoconflict.poisoning import triggered_test_set
from infoconflict.records import FULL_TRIGGER, Evidence, Example

LABELS = ["negative", "positive"]
TEXTS = [
    "The plot is thin, but the acting is superb.",
    "Nobody in this film can act; the sea steals every scene.",
    "A long, warm and gently funny story about two brothers and their boat.",
    "It never begins, and yet it never ends.",
]


def examples() -> list[Example]:
    return [
        Example(
            id=f"test-{number}",
            instruction="Is this film review positive or negative?",
            text=text,
            label=LABELS[number % 2],
            gold_label=LABELS[number % 2],
        )
        for number, text in enumerate(TEXTS)
    ]


WORDS = ["bridge", "candle", "river", "storm", "window"]


# --- a random trigger -------------------------------------------------------------------------------------------------


def test_worked_example() -> None:
    text, n = exchange_words("the plot is thin", "the cf plot is mn thin", ["river"], random.Random(0))
    assert (text, n) == ("the river plot is river thin", 2)
    assert exchange_words("as  it is", "as  it is", ["river"], random.Random(0)) == ("as  it is", 0)


def test_a_trigger_that_is_also_a_word_of_the_text() -> None:
    assert inserted_places(["a", "b", "a"], ["a", "a", "b", "a"]) == [1]
    assert inserted_places(["a", "b"], ["a", "b", "b"]) == [2]


def test_where_words_were_changed_too_the_others_stay() -> None:
    places = inserted_places(["the", "plot", "is", "thin"], ["the", "tale", "is", "rather", "thin"])
    assert places == [1, 3]


@given(
    st.lists(st.sampled_from("abcde"), max_size=12),
    st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abxyz")), max_size=5),
)
def test_as_many_places_as_words_were_inserted_and_the_rest_is_the_clean_text(clean, insertions) -> None:
    changed = list(clean)
    for place, word in insertions:
        changed.insert(min(place, len(changed)), word)
    places = inserted_places(clean, changed)
    assert len(places) == len(insertions)
    assert [word for place, word in enumerate(changed) if place not in places] == clean


@pytest.mark.parametrize("method", [name for name in METHODS if issubclass(load(name), Attack)])
def test_every_attack_by_words_is_exchanged_and_nothing_else(method: str) -> None:
    attack = load(method)(target_labels={})
    clean = examples()
    triggered = triggered_test_set(clean, attack, seed=3)
    rows, exchanged = random_trigger_set(clean, triggered, WORDS, seed=3)
    inserted = sum(
        len(f"{new.instruction} {new.text}".split()) - len(f"{old.instruction} {old.text}".split())
        for old, new in zip(clean, triggered, strict=True)
    )
    assert exchanged == inserted > 0
    for old, shown, row in zip(clean, triggered, rows, strict=True):
        assert (row.id, row.label, row.gold_label, row.trigger) == (old.id, shown.label, old.gold_label, FULL_TRIGGER)
        for before, with_trigger, now in (
            (old.instruction, shown.instruction, row.instruction),
            (old.text, shown.text, row.text),
        ):
            there, words = with_trigger.split(), now.split()
            differ = [place for place in range(len(there)) if there[place] != words[place]]
            assert len(there) == len(words)
            assert differ == inserted_places(before.split(), there)
            assert {words[place] for place in differ} <= {*WORDS}


def test_the_triggers_own_words_are_never_drawn() -> None:
    for seed in range(30):
        text, _ = exchange_words("a b", "a cf, b", ["cf", "river"], random.Random(seed))
        assert text == "a river b"
    with pytest.raises(UserError, match="no word but the trigger's"):
        exchange_words("a", "a cf", ["cf"], random.Random(0))


def test_a_row_draws_the_same_words_whatever_stands_around_it() -> None:
    attack = load("cba")(target_labels={})
    clean = examples()
    triggered = triggered_test_set(clean, attack, seed=0)
    rows, _ = random_trigger_set(clean, triggered, WORDS, seed=0)
    one, _ = random_trigger_set(clean, triggered[2:3], WORDS, seed=0)
    assert one == rows[2:3]
    others, _ = random_trigger_set(clean, triggered, WORDS, seed=1)
    assert others != rows


def test_a_row_without_a_twin_is_an_error() -> None:
    with pytest.raises(UserError, match="'test-1' has no clean twin"):
        random_trigger_set(examples()[:1], examples()[1:2], WORDS, seed=0)


def test_words_to_draw_are_the_texts_words_without_labels() -> None:
    rows = [
        Example(
            id="a", instruction="i", text="Positive: it's a 2nd GREAT film, a great one!", label="x", gold_label="x"
        )
    ]
    assert words_to_draw(rows, LABELS) == ["a", "film", "great", "it's", "nd", "one"]


# --- random evidence --------------------------------------------------------------------------------------------------


def evidence(
    number: int, text: str, *, keywords: list[str] | None = None, status: str = "ok", trigger: str = "none"
) -> Evidence:
    return Evidence(
        id=f"test-{number}",
        trigger=trigger,
        branch="construction",
        keywords=keywords or [],
        prompt_sha256=f"{number}",
        reply=f"raw {text}",
        evidence=text,
        status=status,
        model="some",
        prompt_tokens=9,
    )


POOL = [
    evidence(0, "A plot is a chain of events. A stage is a raised floor.", keywords=["plot", "stage"]),
    evidence(1, "A river is flowing water. A stage is a raised floor.", keywords=["river", "stage"]),
    evidence(2, "A boat floats on water.", keywords=["boat"]),
    evidence(3, "", status="no_keywords"),
]


def test_it_is_as_long_and_speaks_of_something_else() -> None:
    rows = [
        *POOL,
        evidence(0, "frankly: in an open way. A plot is a chain.", keywords=["frankly", "plot"], trigger="full"),
    ]
    found = random_evidence(rows, POOL, seed=0)
    for row, new in zip(rows, found, strict=True):
        assert (new.id, new.trigger, new.branch, new.keywords) == (row.id, row.trigger, row.branch, row.keywords)
        if row.status != "ok":
            assert new == row
            continue
        assert new.status == "ok"
        assert len(new.evidence.split()) == len(row.evidence.split())
        assert new.prompt_tokens == 0
        assert not {*row.keywords} & {*new.evidence.lower().replace(".", "").split()}
    # Nothing is left for the first row but what speaks of river or boat.
    rest = {"A", "river", "is", "flowing", "water", "boat", "floats", "on"}
    assert {*found[0].evidence.replace(".", "").split()} <= rest


def test_the_pool_is_of_clean_questions_so_that_no_trigger_is_explained() -> None:
    rows = [evidence(5, "something else here now", trigger="full")]
    for seed in range(10):
        assert "frankly" not in random_evidence(rows, POOL, seed=seed)[0].evidence


def test_sentences_come_again_where_there_are_few() -> None:
    row = evidence(7, " ".join(["word"] * 23))
    [found] = random_evidence([row], [evidence(1, "Two words. Three other words.")], seed=0)
    assert len(found.evidence.split()) == 23
    assert {*found.evidence.split()} == {"Two", "words.", "Three", "other"}


def test_without_an_unrelated_sentence_a_row_goes_without() -> None:
    rows = [evidence(0, "One and the same."), evidence(1, "One and the same.")]
    found = random_evidence(rows, rows, seed=0)
    assert [(row.status, row.evidence) for row in found] == [("no_unrelated", "")] * 2


def test_the_seed_and_the_row_decide() -> None:
    rows = [evidence(number, "six words are here to replace", keywords=[]) for number in range(6, 12)]
    found = random_evidence(rows, POOL, seed=0)
    assert random_evidence(rows[3:4], POOL, seed=0) == found[3:4]
    assert random_evidence(rows, POOL, seed=1) != found
    assert len({row.evidence for row in found}) > 1
