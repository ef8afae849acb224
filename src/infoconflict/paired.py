"""Two defenses on the same rows: McNemar's exact test, an interval for the difference, and what may be called one.

Rates of two models on the same rows are not independent: most rows go the same way in both. What tells them apart are the
discordant rows, on which just one has a hit. Under the hypothesis of equal rates each of these is a fair coin (McNemar 1947,
Psychometrika 12). Every pair of a trial is tested, so the p-values are corrected by Holm 1979, Scand. J. Stat. 6, over all pairs of
the trial and the metric.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

from infoconflict.defenses.controls import kind_of
from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.mcnemar import mcnemar
from infoconflict.metrics import CONFIDENCE, CellFile, stream_answers, wilson, write_csv
from infoconflict.records import CLEAN, FULL_TRIGGER, Answer

PAIRED_COLUMNS = (
    *("model", "dataset", "attack", "seed", "metric", "first", "second"),
    *("rows", "both", "first_only", "second_only", "neither"),
    *("difference", "low", "high", "p", "p_holm", "verdict"),
)
PAIRED_METRICS = ("asr", "cda")
UNDEFENDED = "none"

Verdict = Literal["lower", "higher", "no difference shown"]
Outcomes = dict[str, dict[str, bool]]
"""By metric and row id, whether the row is a hit."""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows by who has a hit: both, only the first, only the second, neither."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def rows(self) -> int:
        """All rows that both were asked."""
        return self.both + self.first_only + self.second_only + self.neither


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values corrected for their number by Holm's step-down method, in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def paired_difference(counts: Counts, confidence: float = CONFIDENCE) -> tuple[float, float, float]:
    """Return the first rate less the second on the same rows with its interval, as (difference, low, high).

    Raises
    ------
    ValueError
        If there is no row.

    References
    ----------
    Newcombe 1998, "Improved confidence intervals for the difference between binomial proportions based on paired data", Stat.
    Med. 17, method 10: Wilson's intervals of both rates, joined with the correlation of the two.
    """
    n = counts.rows
    if n == 0:
        raise ValueError("a difference needs rows")
    a, b, c, d = counts.both, counts.first_only, counts.second_only, counts.neither
    one, two = (a + b) / n, (a + c) / n
    (low_one, high_one), (low_two, high_two) = wilson(a + b, n, confidence), wilson(a + c, n, confidence)
    correlation = 0.0
    if margins := (a + b) * (c + d) * (a + c) * (b + d):
        product = float(a * d - b * c)
        # The continuity correction of method 10; a negative correlation is taken as it is.
        product = max(product - n / 2, 0.0) if product > 0 else product
        correlation = product / math.sqrt(margins)
    below = _joined(one - low_one, high_two - two, correlation)
    above = _joined(high_one - one, two - low_two, correlation)
    difference = (b - c) / n
    return difference, max(-1.0, difference - below), min(1.0, difference + above)


def _joined(one: float, two: float, correlation: float) -> float:
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * two + two * two))


def verdict_of(difference: float, low: float, high: float, p: float, confidence: float = CONFIDENCE) -> Verdict:
    """Return what may be said of the first against the second: a difference is one only outside the interval.

    Both must hold: the interval leaves out zero, and the corrected p-value is below what the confidence allows.
    """
    # 1 - 0.95 is a hair above 0.05 in floating point.
    if p >= round(1 - confidence, 12) or low <= 0 <= high:
        return "no difference shown"
    return "lower" if difference < 0 else "higher"


def outcomes_of(answers: Iterable[Answer]) -> Outcomes:
    """Return the rows that the ``asr`` and the ``cda`` of :mod:`infoconflict.metrics` count, each with whether it is a hit.

    Raises
    ------
    UserError
        If a row occurs twice.
    """
    found: Outcomes = {metric: {} for metric in PAIRED_METRICS}
    for answer in answers:
        if answer.trigger == CLEAN:
            metric, label = "cda", answer.gold_label
        elif answer.trigger == FULL_TRIGGER and answer.gold_label != answer.target_label:
            metric, label = "asr", str(answer.target_label)
        else:
            continue
        if answer.id in found[metric]:
            raise UserError(
                f"row '{answer.id}' with trigger '{answer.trigger}' occurs twice; each row may be counted once only"
            )
        found[metric][answer.id] = answer.answer == label
    return found


def compare(first: Mapping[str, bool], second: Mapping[str, bool]) -> Counts:
    """Count the rows that both were asked by who has a hit."""
    shared = first.keys() & second.keys()
    both = sum(first[row] and second[row] for row in shared)
    first_only = sum(first[row] and not second[row] for row in shared)
    second_only = sum(second[row] and not first[row] for row in shared)
    return Counts(
        both=both,
        first_only=first_only,
        second_only=second_only,
        neither=len(shared) - both - first_only - second_only,
    )


def compared(defenses: Sequence[str]) -> list[tuple[str, str]]:
    """Return all pairs but those of two controls; a defense comes before the undefended model, both before a control."""
    ordered = sorted(defenses, key=lambda name: (kind_of(name) is not None, name == UNDEFENDED, name))
    return [(one, two) for one, two in combinations(ordered, 2) if kind_of(one) is None]


def paired_rows(files: Iterable[CellFile], *, confidence: float = CONFIDENCE) -> list[list[str]]:
    """Return the rows of ``paired.csv`` (:data:`PAIRED_COLUMNS`), in the order of trial, metric and pair.

    Parameters
    ----------
    files : iterable of (cell, path)
        Answers; cells with ``model``, ``dataset``, ``attack``, ``defense``, ``seed``. Of any order.
    confidence : float in (0, 1)
        Of the intervals; a corrected p-value must be below what it leaves.
    """
    trials: dict[tuple[Any, ...], dict[str, PathLike]] = defaultdict(dict)
    for cell, path in files:
        trial = (cell["model"], cell["dataset"], cell["attack"], int(cell["seed"]))
        trials[trial][str(cell["defense"])] = path
    rows = []
    for trial in sorted(trials):
        outcomes = {}
        for defense, path in sorted(trials[trial].items()):
            try:
                outcomes[defense] = outcomes_of(stream_answers(path))
            except UserError as error:
                raise error if str(error).startswith(str(path)) else UserError(f"{path}: {error}") from error
        for metric in PAIRED_METRICS:
            pairs = [
                (one, two, counts)
                for one, two in compared(list(outcomes))
                if (counts := compare(outcomes[one][metric], outcomes[two][metric])).rows
            ]
            p_values = [mcnemar(counts.first_only, counts.second_only) for _, _, counts in pairs]
            for (one, two, counts), p, corrected in zip(pairs, p_values, holm(p_values), strict=True):
                difference, low, high = paired_difference(counts, confidence)
                said = verdict_of(difference, low, high, corrected, confidence)
                numbers = (counts.rows, counts.both, counts.first_only, counts.second_only, counts.neither)
                texts = [f"{value:.6f}" for value in (difference, low, high)]
                texts += [f"{value:.6g}" for value in (p, corrected)]
                rows.append([*map(str, trial), metric, one, two, *map(str, numbers), *texts, said])
    return rows


def write_paired(files: Iterable[CellFile], path: PathLike, *, confidence: float = CONFIDENCE) -> None:
    """Write ``paired.csv``; see :func:`paired_rows`."""
    write_csv(path, PAIRED_COLUMNS, paired_rows(files, confidence=confidence))
