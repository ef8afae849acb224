import math
from collections import Counter
from fractions import Fraction
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.data.rows import RawRow, duplicate_key
from infoconflict.data.splits import deduplicate, draw_clean_share, share_of, stratified_order, without_texts_of
from infoconflict.errors import UserError
from infoconflict.records import Example

label_lists = st.lists(st.sampled_from("abcdef"), max_size=60)


def rows_of(*pairs):
    return [RawRow(number=number, text=text, label=label) for number, (text, label) in enumerate(pairs, start=1)]


def examples_of(labels):
    return [
        Example(id=f"train-{number:06d}", instruction="?", text=f"text {number}", label=label, gold_label=label)
        for number, label in enumerate(labels)
    ]


def within_one_row(drawn, whole):
    """Each label has its exact share of the drawn rows, rounded up or down."""
    counts, totals = Counter(drawn), Counter(whole)
    exact = {label: Fraction(total * len(drawn), len(whole)) for label, total in totals.items()}
    return all(math.floor(exact[label]) <= counts[label] <= math.ceil(exact[label]) for label in totals)


def test_duplicates_and_conflicts_are_counted():
    found = deduplicate(
        rows_of(
            ("Good film", "pos"),
            ("good  film", "pos"),
            ("so so", "pos"),
            ("So so", "neg"),
            ("GOOD FILM", "pos"),
            ("bad", "neg"),
        )
    )
    assert [row.number for row in found.rows] == [1, 6]
    assert (found.repeats, found.conflicting) == (2, 2)


texts = st.sampled_from(["a", "A", "a b", "ab", "c", "C", "d", "e"])


@given(st.lists(st.tuples(texts, st.sampled_from("xy"))))
def test_deduplication_against_plain_loops(pairs):
    rows = rows_of(*pairs)
    kept, repeats, conflicting = [], 0, 0
    for row in rows:
        same = [other for other in rows if duplicate_key(other.text) == duplicate_key(row.text)]
        if any(other.label != row.label for other in same):
            conflicting += 1
        elif row is not same[0]:
            repeats += 1
        else:
            kept.append(row)
    found = deduplicate(rows)
    assert (found.rows, found.repeats, found.conflicting) == (kept, repeats, conflicting)


def test_texts_of_the_other_split_go():
    train, test = rows_of(("One", "x"), ("two", "x"), ("three", "y")), rows_of(("one", "y"), ("four", "x"))
    assert [row.text for row in without_texts_of(train, test)] == ["two", "three"]


def test_worked_order():
    # 4 a, 2 b. Row 1: a is owed 4/1, b 2/1. Row 2: both are owed 2, ties go by name. Row 3: a has its share of 3 rows.
    order = stratified_order(list("aabaab"), str, rng=Random(0))
    assert "".join(order) == "aabaab"


@given(label_lists, st.integers(0, 9))
def test_every_beginning_and_every_ending_is_stratified(labels, seed):
    order = stratified_order(labels, str, rng=Random(seed))
    assert Counter(order) == Counter(labels)
    for size in range(1, len(labels) + 1):
        assert within_one_row(order[:size], labels)
        assert within_one_row(order[-size:], labels)


def test_a_larger_draw_takes_nothing_from_a_label():
    # Largest remainders would give the one a to 3 of these 7 rows, but not to 4 of them (the Alabama paradox).
    order = stratified_order("abbbccc", str, rng=Random(0))
    counts = [order[:size].count("a") for size in range(8)]
    assert counts == sorted(counts)


def test_rows_of_a_label_come_in_random_order():
    orders = {tuple(stratified_order(range(6), lambda row: row % 2, rng=Random(seed))) for seed in range(20)}
    assert len(orders) > 10
    assert len({order[0] for order in orders}) == 3


@pytest.mark.parametrize(
    ("share", "n_rows", "expected"),
    [(0.1, 5, 1), (0.1, 4, 0), (0.15, 10, 2), (0.29, 100, 29), (1.0, 7, 7), (0.57, 100, 57)],
)
def test_shares_round_half_up(share, n_rows, expected):
    assert share_of(share, n_rows) == expected


shares = st.sampled_from([0.05, 0.1, 0.2, 0.25, 0.5, 0.75, 1.0])
holdouts = st.sampled_from([0.0, 0.1, 0.2, 0.5])


def draw_or_none(rows, **options):
    try:
        return draw_clean_share(rows, **options)
    except UserError:
        return None


@given(label_lists, shares, shares, holdouts, st.integers(0, 9))
def test_clean_share_laws(labels, one, other, holdout, seed):
    rows = examples_of(labels)
    drawn = draw_or_none(rows, share=one, holdout=holdout, seed=seed)
    if drawn is None:
        return
    train, held = drawn
    ids = [row.id for row in train + held]
    assert len(ids) == len(set(ids)) == share_of(one, len(rows))
    assert len(held) == share_of(holdout, len(ids))
    assert all(row in rows for row in train + held)
    for part in drawn:
        assert within_one_row([row.label for row in part], labels)
    assert draw_clean_share(rows, share=one, holdout=holdout, seed=seed) == drawn
    second = draw_or_none(rows, share=other, holdout=holdout, seed=seed)
    if other >= one:
        assert second is not None
        assert second[0][: len(train)] == train
        assert second[1][: len(held)] == held


def test_another_seed_draws_other_rows():
    rows = examples_of("ab" * 50)
    drawn = {tuple(row.id for row in draw_clean_share(rows, share=0.1, holdout=0.2, seed=seed)[0]) for seed in range(5)}
    assert len(drawn) == 5


def test_strata_follow_the_gold_label():
    # A poisoned row teaches another label than it has.
    rows = [
        Example(id=str(number), instruction="?", text=str(number), label="b", gold_label="ab"[number % 2])
        for number in range(40)
    ]
    train, _ = draw_clean_share(rows, share=0.5, holdout=0.0, seed=0)
    assert Counter(row.gold_label for row in train) == {"a": 10, "b": 10}


@pytest.mark.parametrize(
    ("n_rows", "share", "holdout", "complaint"),
    [
        (20, 0.1, 0.2, r"leaves 2 rows to train on and 0 to hold out; the lowest usable share is 0\.150"),
        (4, 0.1, 0.0, r"leaves 0 rows to train on and 0 to hold out; the lowest usable share is 0\.250"),
        (1, 1.0, 0.5, r"use more training rows"),
    ],
)
def test_an_empty_part_is_an_error_that_says_what_would_do(n_rows, share, holdout, complaint):
    rows = examples_of("ab" * n_rows)[:n_rows]
    with pytest.raises(UserError, match=complaint):
        draw_clean_share(rows, share=share, holdout=holdout, seed=0)


@given(st.integers(1, 60), shares, st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_the_lowest_usable_share_is_usable(n_rows, share, holdout):
    rows = examples_of("a" * n_rows)
    try:
        draw_clean_share(rows, share=share, holdout=holdout, seed=0)
    except UserError as error:
        if "lowest usable share" in str(error):
            lowest = float(str(error).rsplit(" ", 1)[1])
            assert all(draw_clean_share(rows, share=lowest, holdout=holdout, seed=0))


@pytest.mark.parametrize(("share", "holdout"), [(0, 0.2), (1.1, 0.2), (0.1, 1.0), (0.1, -0.1)])
def test_shares_out_of_range(share, holdout):
    with pytest.raises(ValueError, match="must be in"):
        draw_clean_share(examples_of("ab"), share=share, holdout=holdout, seed=0)
