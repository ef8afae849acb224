"""Scores, costs, intervals of means, and which value may be called the best."""

import json
import math

import pytest

from infoconflict.files import write_jsonl
from infoconflict.metrics import Rate, read_csv
from infoconflict.reporting.paper_measures import (
    agreement_with,
    best_of,
    mean_difference,
    mean_of,
    over_seeds,
    read_measured,
    write_paper_metrics,
)
from infoconflict.reporting.published import Reference
from infoconflict.reporting.results import Measure


def measure(hits, total):
    return Measure.pool([Rate(hits=hits, total=total)], 0.95)


def test_the_best_is_named_only_where_no_interval_overlaps():
    # 1 of 200: [0.1, 2.8]; 12 of 200: [3.5, 10.2]; 5 of 200: [1.1, 5.7].
    assert best_of({"a": measure(1, 200), "b": measure(12, 200)}, lower_is_better=True) == "a"
    assert best_of({"a": measure(1, 200), "b": measure(5, 200)}, lower_is_better=True) is None
    # One of many that overlaps is enough.
    crowd = {"a": measure(1, 200), "b": measure(150, 200), "c": measure(5, 200)}
    assert best_of(crowd, lower_is_better=True) is None
    assert best_of({"a": measure(150, 200), "b": measure(190, 200)}, lower_is_better=False) == "b"
    assert best_of({"a": measure(0, 200)}, lower_is_better=True) is None
    assert best_of({}, lower_is_better=True) is None
    # Equal values are never apart.
    assert best_of({"a": measure(0, 200), "b": measure(0, 200)}, lower_is_better=True) is None


def test_ours_agrees_where_its_interval_holds_the_papers_number():
    ours = measure(20, 200)  # [6.6, 14.9]
    at = {value: agreement_with(ours, Reference(value=value, low=value, high=value)) for value in (0.05, 0.07, 0.2)}
    assert at == {0.05: "higher", 0.07: "agrees", 0.2: "lower"}
    assert agreement_with(ours, Reference(value=0.3, low=0.14, high=0.5, models=4)) == "agrees"
    assert agreement_with(ours, Reference(value=0.3, low=0.16, high=0.5, models=4)) == "lower"


def test_a_mean_of_one_has_its_own_interval_and_of_equals_a_narrower_one():
    one = measure(20, 200)
    assert mean_of([one]) == pytest.approx((one.value, one.low, one.high))
    mean, low, high = mean_of([one] * 4)
    assert mean == pytest.approx(one.value)
    assert (mean - low, high - mean) == pytest.approx(((mean - one.low) / 2, (one.high - mean) / 2))
    # A plain loop.
    several = [measure(3, 50), measure(30, 60), measure(10, 10)]
    mean = sum(m.value for m in several) / 3
    below = math.sqrt(sum((m.value - m.low) ** 2 for m in several)) / 3
    assert mean_of(several)[:2] == pytest.approx((mean, mean - below))


def test_a_difference_of_means_is_newcombes_for_single_rates():
    from infoconflict.metrics import difference

    one, two = measure(20, 200), measure(60, 180)
    assert mean_difference([one], [two]) == pytest.approx(difference(one.rate, two.rate))
    value, low, high = mean_difference([two], [one])
    assert (-value, -high, -low) == pytest.approx(mean_difference([one], [two]))


def answers(right, hits, n=10):
    clean = [
        {
            "id": f"r{i}",
            "gold_label": "neg",
            "trigger": "none",
            "target_label": None,
            "answer": "neg" if i < right else "pos",
        }
        for i in range(n)
    ]
    full = [
        row | {"trigger": "full", "target_label": "pos", "answer": "pos" if i < hits else "neg"}
        for i, row in enumerate(clean)
    ]
    return [row | {"scores": {}} for row in (*clean, *full)]


def rates(*hits, total=200):
    return [Rate(hits=count, total=total) for count in hits]


def test_seeds_that_differ_by_more_than_their_rows_widen_the_interval():
    alike, apart = (over_seeds(rates(*hits), 0.95, same_rows=False) for hits in ((20, 20, 20), (5, 20, 35)))
    pooled = Measure.pool(rates(20, 20, 20), 0.95)
    assert (alike.low, alike.high) == (pooled.low, pooled.high)
    # By hand: the mean is 10 %, sd 7.5 points, t of two degrees of freedom 4.303.
    half = 4.3027 * 0.075 / math.sqrt(3)
    assert (apart.value, apart.low, apart.high) == (pytest.approx(0.1), 0.0, pytest.approx(0.1 + half, abs=1e-5))
    # Of two seeds the spread is no measure.
    two = over_seeds(rates(5, 35), 0.95, same_rows=False)
    assert (two.low, two.high) == Rate(hits=40, total=400).interval()


def test_rows_that_each_seed_asks_again_count_once():
    same = over_seeds(rates(20, 20, 20), 0.95, same_rows=True)
    assert (same.rate, same.n_seeds) == (Rate(hits=60, total=600), 3)
    assert (same.low, same.high) == Rate(hits=20, total=200).interval()
    one = over_seeds(rates(20), 0.95, same_rows=True)
    assert (one.low, one.high) == Rate(hits=20, total=200).interval()


def test_the_best_must_be_so_over_the_seeds():
    steady = over_seeds(rates(60, 60, 60), 0.95, same_rows=False)
    lucky = over_seeds(rates(2, 5, 80), 0.95, same_rows=False)
    assert best_of({"a": Measure.pool(rates(2, 5, 80), 0.95), "b": steady}, lower_is_better=True) == "a"
    assert best_of({"a": lucky, "b": steady}, lower_is_better=True) is None


def card(folder, stage, seconds, **cost):
    path = folder / f"{stage}-{seconds}.json"
    path.write_text(json.dumps({"stage": stage, "cell": {}, "cost": {"seconds": seconds, "device": "cpu", **cost}}))
    return path


def test_cells_are_scored_and_only_the_defenders_jobs_are_costs(tmp_path):
    cells, cards = [], []
    for seed, (right, hits) in enumerate(((9, 1), (7, 3))):
        cell = {"model": "m", "dataset": "sst2", "attack": "cba", "defense": "conflict", "seed": seed}
        write_jsonl(tmp_path / f"{seed}.jsonl", answers(right, hits))
        cells.append((cell, tmp_path / f"{seed}.jsonl"))
        of_cell = [
            card(tmp_path, "train_backdoored", 10_000 + seed),
            card(
                tmp_path, "train_conflict", 1800 + 1800 * seed, peak_memory_bytes=2**31, tokens=100, stored_bytes=2**20
            ),
            card(tmp_path, "answer", 900 + 1800 * seed, peak_memory_bytes=2**30, tokens=50, stored_bytes=2**30),
        ]
        cards.append((cell, of_cell))
    out = {name: tmp_path / f"{name}.csv" for name in ("cells_csv", "costs_csv")}
    write_paper_metrics(cells, cards, **out, confidence=0.95)
    assert {row["stage"] for row in read_csv(out["costs_csv"])} == {"train_conflict", "answer"}

    # A file named twice, as by two tables, counts once.
    found = read_measured([out["cells_csv"]] * 2, [out["costs_csv"]] * 2, confidence=0.95)
    key = ("m", "sst2", "cba", "conflict")
    asr, cda, cost = found.cells[key]["asr"], found.cells[key]["cda"], found.costs[key]
    assert (asr.rate, cda.rate) == (Rate(hits=4, total=20), Rate(hits=16, total=20))
    assert (asr.n_seeds, asr.mean, asr.sd) == (2, pytest.approx(0.2), pytest.approx(math.sqrt(0.02)))
    # (1800 + 900) and (3600 + 2700) seconds.
    assert (cost.hours, cost.answering_hours) == (pytest.approx(1.25), pytest.approx(0.5))
    assert (cost.memory_gib, cost.tokens, cost.devices, cost.n_seeds) == (2.0, 150.0, ("cpu",), 2)
    # Answers are no part of a defense.
    assert cost.stored_mib == 1.0


def test_experiments_that_were_not_made_are_empty(tmp_path):
    found = read_measured([], [], confidence=0.95, clean_share=tmp_path / "none.csv")
    assert (list(found.clean_share), found.direct, dict(found.cells)) == ([], [], {})
