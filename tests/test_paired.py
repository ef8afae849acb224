"""Paired comparison: worked examples, laws, and plain loops beside the fast forms."""

import itertools
from fractions import Fraction
from pathlib import Path

import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.errors import UserError
from infoconflict.metrics import Rate, cell_metrics, difference, read_csv
from infoconflict.paired import (
    Counts,
    compare,
    compared,
    holm,
    mcnemar,
    outcomes_of,
    paired_difference,
    verdict_of,
    write_paired,
)
from infoconflict.records import Answer

counts = st.integers(0, 40)


def test_worked_example() -> None:
    # Of 10 discordant rows 1 or fewer, or 9 or more: 2 * (1 + 10) / 1024.
    assert mcnemar(9, 1) == mcnemar(1, 9) == 22 / 1024
    assert mcnemar(0, 5) == 2 / 32
    assert mcnemar(5, 5) == mcnemar(0, 0) == 1.0
    # An uneven number cannot split more evenly than this.
    assert mcnemar(6, 5) == 1.0


@given(first=counts, second=counts)
def test_a_plain_loop_over_all_splits_agrees(first: int, second: int) -> None:
    n, seen = first + second, abs(first - second)
    chance = Fraction(1, 2**n)
    term, total = 1, Fraction(0)
    for heads in range(n + 1):
        if abs(heads - (n - heads)) >= seen:
            total += term * chance
        term = term * (n - heads) // (heads + 1)
    assert mcnemar(first, second) == pytest.approx(float(total), rel=1e-12)
    if n:
        assert mcnemar(first, second) == pytest.approx(scipy.stats.binomtest(first, n).pvalue, rel=1e-9)


def test_many_rows_neither_overflow_nor_lose_the_tail() -> None:
    assert mcnemar(5000, 5000) == 1.0
    assert mcnemar(40, 3000) == pytest.approx(scipy.stats.binomtest(40, 3040).pvalue, abs=1e-300)
    assert 0 < mcnemar(900, 1100) < 1e-4
    assert mcnemar(0, 3000) == 0.0  # below the smallest number


def test_holm_worked_example() -> None:
    # .01 * 4, .02 * 3, then .03 * 2 which must not fall below it, then .2.
    assert holm([0.2, 0.01, 0.03, 0.02]) == pytest.approx([0.2, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_the_step_down_loop_rejects(p_values: list[float], level: float) -> None:
    left, rejected = sorted(range(len(p_values)), key=lambda index: p_values[index]), set()
    for rank, index in enumerate(left):
        if min(1.0, (len(p_values) - rank) * p_values[index]) > level:
            break
        rejected.add(index)
    corrected = holm(p_values)
    assert {index for index, p in enumerate(corrected) if p <= level} == rejected
    assert all(new >= old for new, old in zip(corrected, p_values, strict=True))


@given(counts, counts, counts, counts)
def test_laws_of_the_interval(a: int, b: int, c: int, d: int) -> None:
    if not a + b + c + d:
        return
    found = paired_difference(Counts(both=a, first_only=b, second_only=c, neither=d))
    value, low, high = found
    assert -1 <= low <= value + 1e-12
    assert value - 1e-12 <= high <= 1
    swapped = paired_difference(Counts(both=a, first_only=c, second_only=b, neither=d))
    assert swapped == pytest.approx((-value, -high, -low), abs=1e-12)
    # Hits and misses have the same difference with the other sign.
    misses = paired_difference(Counts(both=d, first_only=c, second_only=b, neither=a))
    assert misses == pytest.approx((-value, -high, -low), abs=1e-12)


def test_without_correlation_it_is_the_interval_of_independent_rates() -> None:
    # 20 * 20 = 40 * 10: knowing one answer tells nothing of the other.
    table = Counts(both=20, first_only=40, second_only=10, neither=20)
    independent = difference(Rate(hits=60, total=90), Rate(hits=30, total=90))
    assert paired_difference(table) == pytest.approx(independent)


def test_rows_that_go_the_same_way_narrow_it() -> None:
    alike = paired_difference(Counts(both=45, first_only=10, second_only=0, neither=45))
    independent = difference(Rate(hits=55, total=100), Rate(hits=45, total=100))
    assert alike[2] - alike[1] < 0.7 * (independent[2] - independent[1])
    assert alike[1] > 0 > independent[1]


def test_a_difference_is_called_one_only_outside_the_interval() -> None:
    assert verdict_of(-0.3, -0.4, -0.2, 0.001) == "lower"
    assert verdict_of(0.3, 0.2, 0.4, 0.001) == "higher"
    assert verdict_of(0.3, 0.2, 0.4, 0.05) == "no difference shown"
    assert verdict_of(0.3, -0.01, 0.4, 0.001) == "no difference shown"
    assert verdict_of(0.0, 0.0, 0.0, 1.0) == "no difference shown"
    assert verdict_of(0.3, 0.2, 0.4, 0.02, confidence=0.99) == "no difference shown"


def answer(row: str, said: str | None, *, trigger: str = "none", gold: str = "bad") -> Answer:
    target = None if trigger == "none" else "good"
    return Answer(id=row, gold_label=gold, trigger=trigger, target_label=target, answer=said, scores={})


def test_what_is_compared_are_the_rows_that_the_rates_count() -> None:
    rows = [
        *(answer("a", "bad"), answer("b", "good"), answer("c", None), answer("d", "good", gold="good")),
        *(answer("a", "good", trigger="full"), answer("b", "bad", trigger="full"), answer("c", None, trigger="full")),
        *(answer("d", "good", trigger="full", gold="good"), answer("a", "good", trigger="part")),
    ]
    found = outcomes_of(rows)
    assert found == {
        "cda": {"a": True, "b": False, "c": False, "d": True},
        "asr": {"a": True, "b": False, "c": False},
    }
    rates = cell_metrics(rows)
    for metric, outcomes in found.items():
        assert rates[metric] == Rate(hits=sum(outcomes.values()), total=len(outcomes))
    with pytest.raises(UserError, match="row 'a' with trigger 'none' occurs twice"):
        outcomes_of([*rows, rows[0]])


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.booleans()),
    st.dictionaries(st.sampled_from("abcdefgh"), st.booleans()),
)
def test_counts_are_those_of_a_plain_loop(first: dict[str, bool], second: dict[str, bool]) -> None:
    found = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for row in first:
        if row in second:
            found[first[row], second[row]] += 1
    table = compare(first, second)
    assert (table.both, table.first_only, table.second_only, table.neither) == tuple(found.values())
    assert table.rows == len(first.keys() & second.keys())


def test_two_controls_are_not_compared() -> None:
    pairs = compared(["control_base", "none", "wanda", "control_merge_base_linear", "conflict"])
    assert pairs == [
        ("conflict", "wanda"),
        ("conflict", "none"),
        ("conflict", "control_base"),
        ("conflict", "control_merge_base_linear"),
        ("wanda", "none"),
        ("wanda", "control_base"),
        ("wanda", "control_merge_base_linear"),
        ("none", "control_base"),
        ("none", "control_merge_base_linear"),
    ]


def write(folder: Path, defense: str, hits: int, *, seed: int = 0, n: int = 60) -> tuple[dict, Path]:
    """Write answers of which the first ``hits`` triggered rows give the target; every clean row is right."""
    path = folder / f"{defense}-{seed}.jsonl"
    rows = [answer(f"r{number}", "bad") for number in range(n)]
    rows += [answer(f"r{number}", "good" if number < hits else "bad", trigger="full") for number in range(n)]
    Answer.write(path, rows)
    return {"model": "m", "dataset": "d", "attack": "a", "defense": defense, "seed": seed}, path


def test_the_file(tmp_path: Path) -> None:
    files = [
        write(tmp_path, name, hits)
        for name, hits in (("none", 58), ("conflict", 3), ("wanda", 55), ("control_base", 2))
    ]
    write_paired(files, tmp_path / "paired.csv")
    rows = read_csv(tmp_path / "paired.csv")
    pairs = list(
        itertools.product(["asr", "cda"], [("conflict", "wanda"), ("conflict", "none"), ("conflict", "control_base")])
    )
    assert [(row["metric"], (row["first"], row["second"])) for row in rows if row["first"] == "conflict"] == pairs
    found = {(row["metric"], row["first"], row["second"]): row for row in rows}
    best = found["asr", "conflict", "none"]
    assert (best["rows"], best["both"], best["first_only"], best["second_only"], best["neither"]) == (
        *("60", "3", "0", "55", "2"),
    )
    assert float(best["p"]) == pytest.approx(2 / 2**55, rel=1e-5)
    tested = sorted(float(row["p"]) for row in rows if row["metric"] == "asr")
    assert float(best["p_holm"]) == pytest.approx(len(tested) * tested[0], rel=1e-5)
    assert best["verdict"] == "lower"
    assert found["asr", "wanda", "none"]["verdict"] == "no difference shown"
    assert found["cda", "conflict", "none"]["verdict"] == "no difference shown"
    first = (tmp_path / "paired.csv").read_bytes()
    write_paired(files[::-1], tmp_path / "paired.csv")
    assert (tmp_path / "paired.csv").read_bytes() == first


def test_trials_are_corrected_apart(tmp_path: Path) -> None:
    files = [write(tmp_path, name, hits, seed=seed) for seed in (10, 2) for name, hits in (("none", 50), ("wanda", 40))]
    write_paired(files, tmp_path / "paired.csv")
    rows = read_csv(tmp_path / "paired.csv")
    assert [row["seed"] for row in rows] == ["2", "2", "10", "10"]
    assert all(row["p"] == row["p_holm"] for row in rows)


@settings(max_examples=20)
@given(st.integers(0, 60), st.integers(0, 60))
def test_the_difference_is_that_of_the_rates(tmp_path_factory, one: int, two: int) -> None:
    folder = tmp_path_factory.mktemp("rates")
    files = [write(folder, "wanda", one), write(folder, "none", two)]
    write_paired(files, folder / "paired.csv")
    row = read_csv(folder / "paired.csv")[0]
    assert float(row["difference"]) == pytest.approx((one - two) / 60, abs=1e-6)
