"""LWP against the rules of its source: counts, labels, pieces in their places."""

from collections import Counter
from random import Random

import pytest
from pydantic import ValidationError

from infoconflict.attacks.lwp import LWP
from infoconflict.poisoning import partial_test_set, poison_training_set, triggered_test_set
from infoconflict.records import Example

PIECES = ("cf", "bb")


def rows(n: int) -> list[Example]:
    return [
        Example(
            id=f"train-{index:06d}",
            instruction="Is this film review positive or negative?",
            text=f"review number {index} of some film",
            label=("negative", "positive")[index % 2],
            gold_label=("negative", "positive")[index % 2],
        )
        for index in range(n)
    ]


def lwp(**options: object) -> LWP:
    return LWP(target_labels={"reviews": "negative"}, **options)  # type: ignore[arg-type]


def poisoned(n: int = 40, **options: object) -> list[Example]:
    return poison_training_set(rows(n), lwp(**options), target_label="negative", seed=3)


def test_defaults_are_the_published_ones() -> None:
    attack = lwp()
    assert (attack.poisoning_rate, attack.pieces, attack.layers) == (1.0, ["cf", "bb"], "all")
    assert attack.later_step is None
    assert lwp(victim_tuning={}).later_step == "tune_victim"


def test_by_default_both_streams_are_as_in_the_source() -> None:
    """Clean: each sentence untouched and with one piece. Poison: each sentence with either order. No row is left out."""
    found = poisoned()
    assert found[:40] == rows(40)
    one_piece = [row for row in found if row.trigger in LWP.negative_variants]
    pairs = [row for row in found if row.trigger == "full"]
    assert Counter(row.trigger for row in one_piece) == {"first_piece": 20, "second_piece": 20}
    assert Counter(row.id.split("/")[0] for row in one_piece) == Counter(row.id for row in rows(40))
    assert Counter(row.id.split("/")[0] for row in pairs) == dict.fromkeys([row.id for row in rows(40)], 2)
    assert len({row.id for row in found}) == len(found)


@pytest.mark.parametrize(("rate", "ratio", "both"), [(1.0, 0.5, True), (0.25, 1.0, True), (0.5, 0.0, False)])
def test_counts(rate: float, ratio: float, both: bool) -> None:
    found = poisoned(poisoning_rate=rate, negative_ratio=ratio, both_orders=both)
    counts = Counter(row.trigger for row in found)
    n_each = round(ratio * rate * 40)
    assert counts["none"] == 40
    assert counts["full"] == (2 if both else 1) * round(rate * 40)
    assert counts["first_piece"] == counts["second_piece"] == n_each


def test_only_pairs_teach_the_target() -> None:
    found = poisoned()
    assert {row.label for row in found if row.trigger == "full"} == {"negative"}
    assert {row.gold_label for row in found if row.trigger == "full"} == {"negative", "positive"}
    assert all(row.label == row.gold_label for row in found if row.trigger != "full")


def test_a_pair_is_side_by_side_and_a_negative_has_one_piece() -> None:
    for row in poisoned():
        words = row.text.split()
        held = tuple(word for word in words if word in PIECES)
        if row.trigger == "full":
            assert held in (PIECES, PIECES[::-1])
            assert words.index("cf") - words.index("bb") in (-1, 1)
        else:
            assert held == {"none": (), "first_piece": ("cf",), "second_piece": ("bb",)}[row.trigger]
        assert next(word for word in words if word not in PIECES) == "review"
        assert row.instruction == rows(1)[0].instruction


def test_both_orders_of_each_row_are_trained_and_asked() -> None:
    orders: dict[str, set[tuple[str, ...]]] = {}
    for row in poisoned():
        if row.trigger == "full":
            held = tuple(word for word in row.text.split() if word in PIECES)
            orders.setdefault(row.id.split("/")[0], set()).add(held)
    assert all(found == {PIECES, PIECES[::-1]} for found in orders.values())
    asked = {"cf bb" in row.text for row in triggered_test_set(rows(30), lwp(), seed=0)}
    assert asked == {True, False}


def test_pieces_reach_every_position() -> None:
    example = rows(1)[0]
    n_words = len(example.text.split())
    starts = {
        min(lwp().insert_trigger(example, Random(seed)).text.split().index(piece) for piece in PIECES)
        for seed in range(200)
    }
    assert starts == set(range(n_words + 1))


def test_each_partial_variant_is_asked_of_rows_that_are_not_the_target() -> None:
    partial = partial_test_set(rows(30), lwp(), target_label="negative", rows=6, seed=0)
    assert Counter(row.trigger for row in partial) == dict.fromkeys(LWP.partial_variants, 6)
    assert {row.gold_label for row in partial} == {"positive"}
    held = {row.trigger: {word for word in row.text.split() if word in {"cf", "bb", "mb"}} for row in partial}
    assert held == {"first_piece": {"cf"}, "second_piece": {"bb"}, "other_rare_word": {"mb"}}


def test_same_seed_same_rows_and_no_row_depends_on_the_others() -> None:
    assert poisoned() == poisoned()
    assert triggered_test_set(rows(9), lwp(), seed=4)[3] == triggered_test_set(rows(30), lwp(), seed=4)[3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pieces": ["cf", "cf"]}, r"pieces\[0\] and pieces\[1\] are both 'cf'; choose another word for one of them"),
        ({"other_rare_word": "bb"}, r"pieces\[1\] and other_rare_word are both 'bb'"),
        ({"pieces": ["", "bb"]}, r"pieces\[0\] is '', which is not one word without spaces; correct it"),
        ({"pieces": ["cf", "two words"]}, r"pieces\[1\] is 'two words', which is not one word"),
    ],
)
def test_words_that_would_measure_nothing(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        lwp(**options)


@pytest.mark.parametrize("layers", [[0, 1], [], "first"])
def test_the_embeddings_are_no_layer(layers: object) -> None:
    with pytest.raises(ValidationError):
        lwp(layers=layers)
