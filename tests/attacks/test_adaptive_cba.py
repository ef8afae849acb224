"""Adaptive CBA: poisons as CBA does, and draws rows of its own."""

from collections import Counter

import pytest

from infoconflict.attacks.adaptive_cba import AdaptiveCBA
from infoconflict.attacks.cba import CBA
from infoconflict.data.splits import draw_attacker_share, draw_clean_share
from infoconflict.errors import UserError
from infoconflict.poisoning import partial_test_set, poison_training_set, triggered_test_set
from tests.attacks.test_cba import rows

TARGETS = {"film_reviews": "positive"}


def test_it_poisons_as_cba_does() -> None:
    adaptive, plain = AdaptiveCBA(target_labels=TARGETS), CBA(target_labels=TARGETS)
    for attack_rows in (
        lambda attack: poison_training_set(rows(40), attack, target_label="positive", seed=1),
        lambda attack: triggered_test_set(rows(40), attack, seed=1),
        lambda attack: partial_test_set(rows(40), attack, target_label="positive", rows=4, seed=1),
    ):
        assert attack_rows(adaptive) == attack_rows(plain)
    assert adaptive.later_step == "subtract_conflict"
    assert plain.later_step is None


@pytest.mark.parametrize("share", [0.1, 0.5, 0.6])
def test_rows_of_attacker_and_defender_are_disjoint(share: float) -> None:
    train = rows(200)
    defenders = [row for part in draw_clean_share(train, share=0.4, holdout=0.25, seed=0) for row in part]
    drawn = draw_attacker_share(train, defenders, share=share, seed=1000)
    assert len(drawn) == len({row.id for row in drawn}) == 200 * share
    assert not {row.id for row in drawn} & {row.id for row in defenders}
    counts = Counter(row.gold_label for row in drawn)
    assert abs(counts["positive"] - counts["negative"]) <= 1


def test_where_rows_run_out_the_defenders_fill_up() -> None:
    train = rows(40)
    defenders = train[:30]
    drawn = draw_attacker_share(train, defenders, share=0.5, seed=1)
    assert len(drawn) == 20
    assert {row.id for row in train[30:]} == {row.id for row in drawn[:10]}
    assert {row.id for row in drawn[10:]} <= {row.id for row in defenders}


def test_seeds_draw_other_rows() -> None:
    train = rows(40)
    one, again, other = (draw_attacker_share(train, train[:8], share=0.2, seed=seed) for seed in (1, 1, 2))
    assert one == again != other


def test_a_share_of_no_row_is_refused() -> None:
    with pytest.raises(UserError, match=r"conflict_share=0\.01 of 40 training rows rounds to no row"):
        draw_attacker_share(rows(40), [], share=0.01, seed=0)
