"""What was measured of the paper's cells: scored from answers and cards alone, pooled over seeds, held beside a reference."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from infoconflict.files import PathLike, read_json
from infoconflict.metrics import CELL_COLUMNS, CellFile, Rate, cell_metrics, read_csv, stream_answers, write_csv
from infoconflict.reporting.published import Reference
from infoconflict.reporting.results import Measure, Measures

CellKey = tuple[str, str, str, str]
"""Model, dataset, attack, defense."""
Agreement = Literal["agrees", "higher", "lower"]

COST_COLUMNS = (
    *("model", "dataset", "attack", "defense", "seed", "stage", "seconds"),
    *("peak_memory_gib", "peak_gpu_memory_gib", "tokens", "stored_mib", "device"),
)
# What an attacker or an experimenter does is no cost of a defense; judges measure.
_NOT_THE_DEFENDERS = frozenset(
    {
        *("fetch_package", "prepare_model", "prepare_dataset", "ask_oracle", "poison_train", "poison_test"),
        *("train_backdoored", "train_attacked", "tune_victim", "draw_attacker_share", "train_attacker_conflict"),
        *("subtract_conflict", "compare_conflicts", "train_clean_tuned", "collect_statistics", "edit_model"),
        *("sweep_merge", "compare_generation", "calibrate_judge", "judge"),
    }
)
_LEAST_SEEDS = 3  # ours; of two, the spread is a guess
_ANSWERING = frozenset({"answer", "reply"})
# Answers are what is measured, and the clean share is given.
_NOT_STORED = _ANSWERING | {"draw_clean_share"}


def write_paper_metrics(
    answer_files: Iterable[CellFile],
    cards: Iterable[tuple[Mapping[str, Any], Sequence[PathLike]]],
    *,
    cells_csv: PathLike,
    costs_csv: PathLike,
    confidence: float,
) -> None:
    """Score the cells of one table, and list what their defenses cost.

    Parameters
    ----------
    answer_files : iterable of (cell, path)
        Cells with ``model``, ``dataset``, ``attack``, ``defense``, ``seed``.
    cards : iterable of (cell, paths)
        The cards above each cell; those of stages that are no part of a defense are passed over.
    cells_csv, costs_csv : path
        Written atomically, with the columns of ``cells.csv`` and of :data:`COST_COLUMNS`.
    confidence : float in (0, 1)
        Of the Wilson intervals.
    """
    rows = []
    for cell, path in answer_files:
        for metric, rate in cell_metrics(stream_answers(path)).items():
            value = "" if rate.value is None else f"{rate.value:.6f}"
            interval = [f"{end:.6f}" for end in rate.interval(confidence)]
            names = [str(cell[name]) for name in CELL_COLUMNS[:5]]
            rows.append([*names, metric, str(rate.hits), str(rate.total), value, *interval])
    write_csv(cells_csv, CELL_COLUMNS, rows)
    costs = []
    read: dict[str, Any] = {}
    for cell, paths in cards:
        for path in sorted({str(path) for path in paths}):
            if path not in read:
                read[path] = read_json(path)
            card = read[path]
            if card["stage"] not in _NOT_THE_DEFENDERS:
                costs.append([*(str(cell[name]) for name in CELL_COLUMNS[:5]), *_cost_fields(card)])
    write_csv(costs_csv, COST_COLUMNS, costs)


def _cost_fields(card: Mapping[str, Any]) -> list[str]:
    cost = card.get("cost", {})

    def gib(name: str) -> str:
        return f"{cost[name] / 2**30:.3f}" if cost.get(name) is not None else ""

    memory = [gib("peak_memory_bytes"), gib("peak_gpu_memory_bytes")]
    tokens = "" if cost.get("tokens") is None else str(cost["tokens"])
    stored = f"{cost['stored_bytes'] / 2**20:.3f}" if cost.get("stored_bytes") is not None else ""
    device = str(cost.get("device", ""))
    return [str(card["stage"]), f"{cost.get('seconds', 0):.2f}", *memory, tokens, stored, device]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a defense took, as means over ``n_seeds`` seeds: hours of preparing and of answering, tokens; peaks as maxima.

    Jobs that several cells share, a conflict model for one, count in full for each. ``stored_mib`` is what the jobs before
    answering write, a merged model among it, also where it is deleted after use. ``run`` is as in :class:`Measured`.
    """

    hours: float
    answering_hours: float
    memory_gib: float
    gpu_memory_gib: float
    tokens: float
    stored_mib: float
    devices: tuple[str, ...]
    n_seeds: int
    run: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured for the paper's tables and figures, by cell; files that were not made are empty here.

    ``runs`` has the run of each cell where ``cells.csv`` has several runs; ``same_rows`` the data sets of which every seed asks
    the same test rows.
    """

    cells: Mapping[CellKey, Measures]
    costs: Mapping[CellKey, Cost]
    clean_share: Sequence[Mapping[str, str]] = ()
    direct: Sequence[Mapping[str, str]] = ()
    role_swap: Sequence[Mapping[str, str]] = ()
    runs: Mapping[CellKey, str] = field(default_factory=dict)
    same_rows: frozenset[str] = frozenset()
    confidence: float = 0.95


def read_measured(
    cells: Iterable[PathLike],
    costs: Iterable[PathLike] = (),
    *,
    confidence: float,
    clean_share: PathLike | None = None,
    direct: PathLike | None = None,
    role_swap: PathLike | None = None,
    same_rows: Iterable[str] = (),
) -> Measured:
    """Read the files of :func:`write_paper_metrics`, and those of the further experiments where they were made.

    A cell that several tables hold counts once. ``same_rows`` is as in :class:`Measured`.
    """
    same_rows = frozenset(same_rows)
    runs: dict[CellKey, str] = {}
    rates: dict[CellKey, dict[str, dict[str, Rate]]] = defaultdict(lambda: defaultdict(dict))
    for path in cells:
        for row in read_csv(path):
            key = (row["model"], row["dataset"], row["attack"], row["defense"])
            rates[key][row["metric"]][row["seed"]] = Rate(hits=int(row["hits"]), total=int(row["total"]))
            if row.get("run"):
                runs[key] = row["run"]
    measures = {
        key: {
            metric: over_seeds(list(by_seed.values()), confidence, same_rows=key[1] in same_rows)
            for metric, by_seed in metrics.items()
        }
        for key, metrics in rates.items()
    }
    jobs: dict[CellKey, dict[str, list[Mapping[str, str]]]] = {}
    for path in costs:
        of_table: dict[CellKey, dict[str, list[Mapping[str, str]]]] = defaultdict(lambda: defaultdict(list))
        for row in read_csv(path):
            of_table[row["model"], row["dataset"], row["attack"], row["defense"]][row["seed"]].append(row)
        # What another table lists again are the same jobs.
        jobs = {**of_table, **jobs}
    return Measured(
        cells=measures,
        costs={key: _cost(list(seeds.values())) for key, seeds in jobs.items()},
        clean_share=read_if_there(clean_share),
        direct=read_if_there(direct),
        role_swap=read_if_there(role_swap),
        runs=runs,
        same_rows=same_rows,
        confidence=confidence,
    )


def read_if_there(path: PathLike | None) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none where it was not made."""
    return read_csv(path) if path is not None and Path(path).exists() else []


def _cost(seeds: Sequence[Sequence[Mapping[str, str]]]) -> Cost:
    def hours(rows: Iterable[Mapping[str, str]]) -> float:
        return sum(float(row["seconds"]) for row in rows) / 3600

    def peak(name: str) -> float:
        return max((float(row[name]) for rows in seeds for row in rows if row[name]), default=0.0)

    return Cost(
        hours=statistics.fmean(hours(rows) for rows in seeds),
        answering_hours=statistics.fmean(hours(row for row in rows if row["stage"] in _ANSWERING) for rows in seeds),
        memory_gib=peak("peak_memory_gib"),
        gpu_memory_gib=peak("peak_gpu_memory_gib"),
        tokens=statistics.fmean(sum(float(row["tokens"] or 0) for row in rows) for rows in seeds),
        stored_mib=statistics.fmean(
            sum(float(row["stored_mib"] or 0) for row in rows if row["stage"] not in _NOT_STORED) for rows in seeds
        ),
        devices=tuple(sorted({row["device"] for rows in seeds for row in rows if row["device"]})),
        n_seeds=len(seeds),
        run=next((row["run"] for rows in seeds for row in rows if row.get("run")), ""),
    )


def over_seeds(rates: Sequence[Rate], confidence: float, *, same_rows: bool) -> Measure:
    """Pool the rates of several seeds, with an interval that covers the rows and, from three seeds on, the seeds.

    It is Wilson's of all counts; of one seed's, on average, where every seed asks the same rows, as these tell of no others.
    Where the mean over seeds has a wider one (t distribution), it reaches as far: models that were trained anew differ, too.
    """
    measure = Measure.pool(rates, confidence)
    low, high, n = measure.low, measure.high, measure.n_seeds
    if same_rows and n > 1:
        of_one = Rate(hits=round(measure.rate.hits / n), total=round(measure.rate.total / n))
        low, high = of_one.interval(confidence)
    if n >= _LEAST_SEEDS and measure.mean is not None and measure.sd is not None:
        from scipy.special import stdtrit

        half = float(stdtrit(n - 1, (1 + confidence) / 2)) * measure.sd / math.sqrt(n)
        low, high = min(low, max(0.0, measure.mean - half)), max(high, min(1.0, measure.mean + half))
    return replace(measure, low=low, high=high)


def pooled(rows: Iterable[Mapping[str, str]], measured: Measured) -> Measure | None:
    """Return the measure of a metric's rows, one for each seed; None where there is no row of the test set."""
    found = list(rows)
    rates = [Rate(hits=int(row["hits"]), total=int(row["total"])) for row in found]
    same_rows = any(row["dataset"] in measured.same_rows for row in found)
    measure = over_seeds(rates, measured.confidence, same_rows=same_rows)
    return measure if measure.rate.total else None


def agreement_with(ours: Measure, paper: Reference) -> Agreement:
    """Say whether our interval holds the paper's number (for a model not in the paper: meets its range), or lies beside it.

    How sure the paper's number is cannot be told: it comes without counts.
    """
    if ours.low > paper.high:
        return "higher"
    return "lower" if ours.high < paper.low else "agrees"


def best_of(measures: Mapping[str, Measure], *, lower_is_better: bool) -> str | None:
    """Return the name of the best value, or None where the interval of any other overlaps with its own.

    A single value is not the best of anything.
    """
    if len(measures) < 2:
        return None
    sign = 1 if lower_is_better else -1
    best = min(measures, key=lambda name: sign * float(measures[name].value or 0))
    mine = measures[best]
    others = [measure for name, measure in measures.items() if name != best]
    apart = all(mine.high < one.low if lower_is_better else mine.low > one.high for one in others)
    return best if apart else None


def mean_of(measures: Sequence[Measure]) -> tuple[float, float, float]:
    """Return the mean of independent rates with its interval, (mean, low, high).

    The distances of each rate to its ends add up as squares.

    References
    ----------
    Zou, Huang and Zhang 2009, "A note on confidence interval estimation for a linear function of binomial proportions",
    Comput. Stat. Data Anal. 53.
    """
    values = [float(measure.value or 0) for measure in measures]
    mean = statistics.fmean(values)
    below = math.hypot(*(value - one.low for value, one in zip(values, measures, strict=True))) / len(values)
    above = math.hypot(*(one.high - value for value, one in zip(values, measures, strict=True))) / len(values)
    return mean, max(0.0, mean - below), min(1.0, mean + above)


def mean_difference(first: Sequence[Measure], second: Sequence[Measure]) -> tuple[float, float, float]:
    """Return the mean of ``first - second`` with its interval; both taken as independent, as in ``metrics.difference``."""
    one, low_one, high_one = mean_of(first)
    two, low_two, high_two = mean_of(second)
    below, above = math.hypot(one - low_one, high_two - two), math.hypot(high_one - one, two - low_two)
    return one - two, max(-1.0, one - two - below), min(1.0, one - two + above)
