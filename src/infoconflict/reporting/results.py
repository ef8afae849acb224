"""The metric files, read back for tables, figures and the page."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from infoconflict.files import PathLike, read_json
from infoconflict.metrics import CONFIDENCE, CellFile, Rate, read_csv, summarise
from infoconflict.reporting.names import defense_order, merge_order

Case = tuple[str, str, str]
"""Model, dataset, attack."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A rate with its interval, pooled over seeds; all in [0, 1]."""

    rate: Rate
    low: float
    high: float
    n_seeds: int = 1
    mean: float | None = None
    sd: float | None = None

    @property
    def value(self) -> float | None:
        """The pooled share; None where there was no row."""
        return self.rate.value

    @classmethod
    def pool(cls, rates: Iterable[Rate], confidence: float) -> "Measure":
        """Pool the rates of several seeds."""
        over = summarise(rates)
        low, high = over.pooled.interval(confidence)
        return cls(rate=over.pooled, low=low, high=high, n_seeds=over.n_seeds, mean=over.mean, sd=over.sd)


Measures = dict[str, Measure]
"""By the name of the metric."""


def _both(measures: Measures) -> bool:
    return all(metric in measures and measures[metric].value is not None for metric in ("asr", "cda"))


@dataclass(frozen=True, kw_only=True)
class AutoChoice:
    """What ``t: auto`` chose for one merge method, from the clean share alone.

    ``by_seed`` is the chosen weight of each seed; ``measures`` what the test rows of the sweep say there, empty where
    the sweep has no such point; ``curve`` the accuracy on the held-out clean rows that the choice was made from, by t.
    Conversations have ``log_likelihoods`` of the held-out reference answers in its place, by t, the mean over seeds.
    """

    by_seed: dict[int, float]
    measures: Measures
    curve: dict[float, Measure]
    rule: str
    log_likelihoods: dict[float, float] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The chosen weights, as ``0.8`` or, where seeds differ, ``0.7, 0.8``."""
        return ", ".join(f"{t:g}" for t in sorted(set(self.by_seed.values())))


@dataclass(frozen=True, kw_only=True)
class Results:
    """All that was measured, in the order in which it is shown."""

    cells: dict[Case, dict[str, Measures]]
    sweep: dict[Case, dict[str, dict[float, Measures]]]
    auto: dict[Case, dict[str, AutoChoice]]
    costs: list[dict[str, str]]
    judges: list[dict[str, str]] = field(default_factory=list)
    generation: list[dict[str, str]] = field(default_factory=list)
    paired: list[dict[str, str]] = field(default_factory=list)
    confidence: float = CONFIDENCE

    @property
    def cases(self) -> list[Case]:
        """All (model, dataset, attack) with answers."""
        return list(self.cells)

    def has_points(self, figure: str, case: Case) -> bool:
        """Whether there is something to draw in one of the figures of :data:`infoconflict.reporting.names.FIGURES`."""
        sweep, auto = self.sweep.get(case, {}), self.auto.get(case, {})
        points = [measures for by_t in sweep.values() for measures in by_t.values()]
        return {
            "defenses": bool(self.cells.get(case)),
            "tradeoff": any(_both(measures) for measures in points),
            "merges": bool(auto) or any(by_t.get(0.5) for by_t in sweep.values()),
            "choice_of_t": bool(points) or any(choice.curve for choice in auto.values()),
        }[figure]

    @property
    def n_seeds(self) -> int:
        """The largest number of seeds of any cell."""
        counts = [m.n_seeds for cells in self.cells.values() for cell in cells.values() for m in cell.values()]
        return max(counts, default=0)


def read_results(
    metrics_dir: PathLike, chosen_t: Iterable[CellFile] = (), *, confidence: float = CONFIDENCE
) -> Results:
    """Read the files of :func:`infoconflict.metrics.write_metrics` in a folder, and the choices of t.

    Parameters
    ----------
    metrics_dir : path
        Written by :func:`infoconflict.metrics.write_metrics`.
    chosen_t : iterable of (cell, path)
        Cells with ``model``, ``dataset``, ``attack``, ``merge``, ``seed``; see the stage that chooses t.
    confidence : float in (0, 1)
        Of the intervals of what is pooled here (the sweep); the same as for ``write_metrics``.
    """
    folder = Path(metrics_dir)
    cells: dict[Case, dict[str, Measures]] = defaultdict(lambda: defaultdict(dict))
    for row in read_csv(folder / "summary.csv"):
        case = (row["model"], row["dataset"], row["attack"])
        cells[case][row["defense"]][row["metric"]] = Measure(
            rate=Rate(hits=int(row["hits"]), total=int(row["total"])),
            low=float(row["low"]),
            high=float(row["high"]),
            n_seeds=int(row["n_seeds"]),
            mean=float(row["mean"]) if row["mean"] else None,
            sd=float(row["sd"]) if row["sd"] else None,
        )
    # case -> merge -> t -> metric -> seed -> rate
    by_seed: dict[Case, dict[str, dict[float, dict[str, dict[int, Rate]]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(lambda: defaultdict(dict)))
    )
    for row in read_csv(folder / "sweep.csv"):
        case = (row["model"], row["dataset"], row["attack"])
        rate = Rate(hits=int(row["hits"]), total=int(row["total"]))
        by_seed[case][row["merge"]][float(row["t"])][row["metric"]][int(row["seed"])] = rate
    sweep = {
        case: {
            merge: {
                t: {metric: Measure.pool(rates.values(), confidence) for metric, rates in metrics.items()}
                for t, metrics in sorted(points.items())
            }
            for merge, points in sorted(merges.items(), key=lambda item: merge_order(item[0]))
        }
        for case, merges in sorted(by_seed.items())
    }
    return Results(
        cells={
            case: {defense: dict(cells[case][defense]) for defense in sorted(cells[case], key=defense_order)}
            for case in sorted(cells)
        },
        sweep=sweep,
        auto=_read_choices(chosen_t, by_seed, confidence),
        costs=read_csv(folder / "costs.csv"),
        judges=read_csv(folder / "judges.csv"),
        generation=read_csv(folder / "generation.csv"),
        paired=read_csv(folder / "paired.csv") if (folder / "paired.csv").exists() else [],
        confidence=confidence,
    )


def _read_choices(
    chosen_t: Iterable[CellFile],
    sweep: Mapping[Case, Mapping[str, Mapping[float, Mapping[str, Mapping[int, Rate]]]]],
    confidence: float,
) -> dict[Case, dict[str, AutoChoice]]:
    files: dict[Case, dict[str, dict[int, dict[str, Any]]]] = defaultdict(lambda: defaultdict(dict))
    for cell, path in chosen_t:
        case = (str(cell["model"]), str(cell["dataset"]), str(cell["attack"]))
        files[case][str(cell["merge"])][int(cell["seed"])] = read_json(path)
    choices: dict[Case, dict[str, AutoChoice]] = {}
    for case in sorted(files):
        choices[case] = {}
        for merge in sorted(files[case], key=merge_order):
            found = dict(sorted(files[case][merge].items()))
            chosen = {seed: float(f"{choice['t']:g}") for seed, choice in found.items()}
            points = sweep.get(case, {}).get(merge, {})
            at_choice: dict[str, list[Rate]] = defaultdict(list)
            for seed, t in chosen.items():
                for metric, rates in points.get(t, {}).items():
                    if seed in rates:
                        at_choice[metric].append(rates[seed])
            curve: dict[float, list[Rate]] = defaultdict(list)
            means: dict[float, list[float]] = defaultdict(list)
            for choice in found.values():
                for point in choice["curve"]:
                    if choice.get("measure") == "log_likelihood":
                        means[float(point["t"])].append(float(point["mean"]))
                    else:
                        curve[float(point["t"])].append(Rate(hits=point["hits"], total=point["total"]))
            # A rate over some of the seeds only would stand beside rates over all of them.
            complete = {metric: rates for metric, rates in at_choice.items() if len(rates) == len(chosen)}
            choices[case][merge] = AutoChoice(
                by_seed=chosen,
                measures={metric: Measure.pool(rates, confidence) for metric, rates in complete.items()},
                curve={t: Measure.pool(curve[t], confidence) for t in sorted(curve)},
                rule=str(next(iter(found.values())).get("rule", "")),
                log_likelihoods={t: fmean(means[t]) for t in sorted(means)},
            )
    return choices
