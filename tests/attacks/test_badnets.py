"""BadNets: rare words, non-target rows only, rows replaced."""

from random import Random

import pytest
from pydantic import ValidationError

from infoconflict.attacks.badnets import BadNets
from infoconflict.errors import UserError
from infoconflict.poisoning import poison_training_set
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
