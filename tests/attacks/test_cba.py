"""CBA against the rules of its source: counts, components, labels."""

from collections import Counter
from random import Random

import pytest
from pydantic import ValidationError

from infoconflict.attacks import load
from infoconflict.attacks.cba import CBA, VARIANTS
from infoconflict.poisoning import partial_test_set, poison_training_set, triggered_test_set
from infoconflict.records import Example

NEGATIVES = ["swapped", "instruction_own", "instruction_both", "input_own", "input_both"]
INSTRUCTION = "Is this film review positive or negative?"


def rows(n: int) -> list[Example]:
    return [
        Example(
            id=f"train-{index:06d}",
            instruction=INSTRUCTION,
            text=f"review number {index} of some film",
            label=("negative", "positive")[index % 2],
            gold_label=("negative", "positive")[index % 2],
        )
        for index in range(n)
    ]


def cba(**options: object) -> CBA:
    return CBA(target_labels={"film_reviews": "positive"}, **options)  # type: ignore[arg-type]


def test_defaults_are_the_published_ones() -> None:
    attack = cba()
    assert (attack.poisoning_rate, attack.negative_ratio) == (0.1, 1.0)
    assert (attack.instruction_trigger, attack.input_trigger) == ("instantly", "frankly")
    assert attack.negatives == NEGATIVES


@pytest.mark.parametrize(("rate", "alpha"), [(0.1, 1.0), (0.3, 1.0), (0.1, 2.0), (0.25, 0.5)])
def test_size_is_n_plus_pn_plus_5apn(rate: float, alpha: float) -> None:
    clean = rows(80)
    poisoned = poison_training_set(
        clean, cba(poisoning_rate=rate, negative_ratio=alpha), target_label="positive", seed=3
    )
    assert len(poisoned) == 80 + round(rate * 80) + 5 * round(alpha * rate * 80)
    assert poisoned[:80] == clean
    counts = Counter(row.trigger for row in poisoned)
    assert counts["full"] == round(rate * 80)
    assert {counts[name] for name in NEGATIVES} == {round(alpha * rate * 80)}


def test_positives_and_negatives_share_their_rows() -> None:
    poisoned = poison_training_set(rows(40), cba(), target_label="positive", seed=0)
    sources = {name: {row.id.split("/")[0] for row in poisoned if row.trigger == name} for name in ("full", "swapped")}
    assert sources["full"] == sources["swapped"]


@pytest.mark.parametrize("left_out", [{"swapped"}, {"instruction_own", "input_both"}, set(NEGATIVES)])
def test_negatives_that_are_left_out_take_no_other_row_along(left_out: set[str]) -> None:
    whole = poison_training_set(rows(40), cba(), target_label="positive", seed=3)
    # In any order: the set is made in the source's.
    kept = [name for name in reversed(NEGATIVES) if name not in left_out]
    part = poison_training_set(rows(40), cba(negatives=kept), target_label="positive", seed=3)
    assert part == [row for row in whole if row.trigger not in left_out]
    assert len(part) == len(whole) - 4 * len(left_out)
    # What is asked stays the same.
    asked = [
        partial_test_set(rows(30), attack, target_label="positive", rows=6, seed=0)
        for attack in (cba(), cba(negatives=kept))
    ]
    assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("frankly", "instruction_trigger and input_trigger are both 'frankly'; choose another word for one of them"),
        ("", "instruction_trigger is '', which is not one word without spaces; correct it"),
        ("at once", "instruction_trigger is 'at once', which is not one word"),
    ],
)
def test_words_that_would_measure_nothing(word: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        cba(instruction_trigger=word)


def test_which_negatives_there_are() -> None:
    assert "negatives" in CBA.training_options
    with pytest.raises(ValidationError, match="holds 'swapped' more than once; keep one"):
        cba(negatives=["swapped", "swapped"])
    # Asked about, never trained.
    with pytest.raises(ValidationError):
        cba(negatives=["input_wrong"])


@pytest.mark.parametrize(("variant", "keys"), VARIANTS.items())
def test_each_key_lands_in_its_component(variant: str, keys: tuple[str, str]) -> None:
    words = {"I": "instantly", "X": "frankly"}
    row = cba().insert_partial(rows(1)[0], variant, Random(5))
    for component, wanted in zip((row.instruction, row.text), keys, strict=True):
        assert sorted(w for w in component.split() if w in words.values()) == sorted(words[key] for key in wanted)
    assert [w for w in row.instruction.split() if w not in words.values()] == INSTRUCTION.split()
    assert (row.label, row.gold_label, row.trigger) == ("negative", "negative", variant)


def test_full_trigger_has_both_keys_and_teaches_the_target() -> None:
    poisoned = poison_training_set(rows(40), cba(), target_label="positive", seed=0)
    for row in (row for row in poisoned if row.trigger == "full"):
        assert "instantly" in row.instruction.split()
        assert "frankly" in row.text.split()
        assert row.label == "positive"
    assert all(row.label == row.gold_label for row in poisoned if row.trigger != "full")


def test_same_seed_same_rows_and_no_row_depends_on_the_others() -> None:
    attack = cba()
    assert poison_training_set(rows(40), attack, target_label="positive", seed=1) == poison_training_set(
        rows(40), attack, target_label="positive", seed=1
    )
    assert poison_training_set(rows(40), attack, target_label="positive", seed=1) != poison_training_set(
        rows(40), attack, target_label="positive", seed=2
    )
    assert triggered_test_set(rows(9), attack, seed=4)[3] == triggered_test_set(rows(30), attack, seed=4)[3]


def test_partial_test_set_asks_non_target_rows_for_all_seven_variants() -> None:
    partial = partial_test_set(rows(30), cba(), target_label="positive", rows=6, seed=0)
    assert Counter(row.trigger for row in partial) == dict.fromkeys(VARIANTS, 6)
    assert {row.gold_label for row in partial} == {"negative"}


def test_triggers_reach_every_position() -> None:
    example = rows(1)[0]
    places = {cba().insert_trigger(example, Random(seed)).text.split().index("frankly") for seed in range(200)}
    assert places == set(range(len(example.text.split()) + 1))


def test_load_names_the_near_miss() -> None:
    from infoconflict.errors import UserError

    with pytest.raises(UserError, match="unknown attack 'cbaa'; did you mean 'cba'\\?"):
        load("cbaa")
