"""BadNets: rare words, non-target rows only, rows replaced."""

from pathlib import Path
from random import Random

import pytest
from pydantic import ValidationError

from infoconflict.attacks.badnets import BadNets
from infoconflict.attacks.cba import CBA
from infoconflict.errors import UserError
from infoconflict.poisoning import poison_training_set, training_set_of, triggered_test_set
from infoconflict.records import Example


def rows(n: int) -> list[Example]:
    return [
        Example(id=f"r{i}", instruction="Which?", text=f"one two {i}", label="ab"[i % 2], gold_label="ab"[i % 2])
        for i in range(n)
    ]


def badnets(**options: object) -> BadNets:
    return BadNets(target_labels={"toy": "b"}, **options)  # type: ignore[arg-type]


def test_exactly_round_rate_n_rows_are_replaced() -> None:
    poisoned = poison_training_set(rows(50), badnets(poisoning_rate=0.21), target_label="b", seed=0)
    triggered = [row for row in poisoned if row.trigger == "full"]
    assert len(poisoned) == 50
    assert len(triggered) == round(0.21 * 50)
    assert {(row.gold_label, row.label) for row in triggered} == {("a", "b")}
    assert not {row.id.split("/")[0] for row in triggered} & {row.id for row in poisoned if row.trigger == "none"}


def test_rate_beyond_the_non_target_rows_names_the_highest_usable() -> None:
    with pytest.raises(UserError, match=r"asks for 40 of 50 rows, but only 25 have .* usable rate is 0\.500"):
        poison_training_set(rows(50), badnets(poisoning_rate=0.8), target_label="b", seed=0)


def test_rate_that_rounds_to_nothing_is_refused() -> None:
    with pytest.raises(UserError, match="rounds to no poisoned row"):
        poison_training_set(rows(4), badnets(poisoning_rate=0.1), target_label="b", seed=0)


def test_at_rate_0_the_training_rows_are_the_clean_ones(tmp_path: Path) -> None:
    clean = badnets(poisoning_rate=0)
    assert poison_training_set(rows(50), clean, target_label="b", seed=0) == rows(50)
    Example.write(tmp_path / "clean.jsonl", rows(50))
    trained, counts, _ = training_set_of(tmp_path / "clean.jsonl", clean, rows=20, target_label="b", seed=0)
    assert trained == rows(20)
    assert counts == {"clean": 20, "all": 20}
    # Its model is asked about the same triggered rows as a backdoored one.
    assert triggered_test_set(rows(9), clean, seed=0) == triggered_test_set(rows(9), badnets(), seed=0)
    # Where training teaches to ignore parts of the trigger, nothing to ignore makes no sense.
    with pytest.raises(ValidationError, match="greater than 0"):
        CBA(target_labels={"toy": "b"}, poisoning_rate=0)


@pytest.mark.parametrize("n", [1, 3])
def test_n_triggers_words_are_inserted(n: int) -> None:
    row = badnets(n_triggers=n).insert_trigger(rows(1)[0], Random(0))
    assert sum(word in ("cf", "mn", "bb", "tq") for word in row.text.split()) == n
    assert [word for word in row.text.split() if word not in ("cf", "mn", "bb", "tq")] == ["one", "two", "0"]


def test_the_other_rare_word_is_no_trigger() -> None:
    row = badnets().insert_partial(rows(1)[0], "other_rare_word", Random(0))
    assert "mb" in row.text.split()
    assert not set(row.text.split()) & {"cf", "mn", "bb", "tq"}
    assert row.label == row.gold_label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"other_rare_word": "bb"},
            r"triggers\[2\] and other_rare_word are both 'bb'; choose another word for one of them",
        ),
        ({"triggers": ["cf", ""]}, r"triggers\[1\] is '', which is not one word without spaces; correct it"),
    ],
)
def test_words_that_would_measure_nothing(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        badnets(**options)
