"""From answers of the four models to counts: how many are right, how many changed, how many a distrusted string flips."""

import csv
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from infoconflict.files import PathLike, whole_file
from infoconflict.metrics import CONFIDENCE, Rate
from infoconflict.records import CLEAN, Answer, Reply

ROLES = ("suspect", "purified", "conflict", "base")
"""Before, after, and two models for comparison; in the order of tables."""
COLUMNS = ("measure", "model", "string", "position", "hits", "total", "rate", "low", "high")

Row = Answer | Reply


@dataclass(frozen=True, kw_only=True)
class Flips:
    """How many rows a string gives another answer than they have without it, and the answer that most flips lead to."""

    string: str
    position: str
    role: str
    rate: Rate
    mostly: str = ""
    mostly_share: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over rows with its interval by the normal distribution; of one row nothing is known."""

    value: float
    low: float
    high: float
    rows: int

    @classmethod
    def of(cls, values: Sequence[float], confidence: float = CONFIDENCE) -> "Mean":
        """Return the mean of at least one value."""
        value = statistics.fmean(values)
        half = math.inf
        if len(values) > 1:
            z = statistics.NormalDist().inv_cdf((1 + confidence) / 2)
            half = z * statistics.stdev(values) / math.sqrt(len(values))
        return cls(value=value, low=value - half, high=value + half, rows=len(values))


@dataclass(frozen=True, kw_only=True)
class Measures:
    """All that was measured; ``right`` is empty on the chat task, ``losses`` and ``loss_change`` on the other.

    A loss is the mean negative log-probability, in nats a token, of a row's own last answer; the change is that from suspect to
    purified on the same rows.
    """

    right: dict[str, Rate]
    changed: Rate
    pairs: dict[str, int]
    flips: list[Flips]
    losses: dict[str, Mean] = field(default_factory=dict)
    loss_change: Mean | None = None


def said(row: Row) -> str:
    """Return what two answers are compared by: the label, or the reply's words without case, spaces and punctuation."""
    if isinstance(row, Answer):
        return str(row.answer)
    from infoconflict.phrases import bare_words

    return bare_words(row.reply)


def measure(
    rows: Mapping[str, Sequence[Row]],
    strings: Sequence[Mapping[str, Any]],
    likelihoods: Mapping[str, Sequence[float]] | None = None,
) -> Measures:
    """Count, and average.

    Parameters
    ----------
    rows : mapping
        Answers or replies by role; clean rows in the same order for all, and rows with strings of suspect and purified.
    strings : sequence of mapping
        What :func:`infoconflict.purify.suspicions.suspicions` returned.
    likelihoods : mapping, optional
        Mean log-probability of each clean row's own answer by role, in the same order for all; the chat task has them.
    """
    clean = {role: [row for row in found if row.trigger == CLEAN] for role, found in rows.items()}
    right = {}
    for role, found in clean.items():
        labelled = [row for row in found if isinstance(row, Answer)]
        if labelled:
            right[role] = Rate(hits=sum(row.answer == row.gold_label for row in labelled), total=len(labelled))
    both = list(zip(clean["suspect"], clean["purified"], strict=True))
    changed = Rate(hits=sum(said(before) != said(after) for before, after in both), total=len(both))
    pairs: Counter[str] = Counter()
    for before, after in both:
        if isinstance(before, Answer) and isinstance(after, Answer):
            was, is_now = before.answer == before.gold_label, after.answer == after.gold_label
            pairs[{(1, 1): "both", (1, 0): "only_before", (0, 1): "only_after", (0, 0): "neither"}[was, is_now]] += 1
    flips = [
        _flips(rows[role], role, string["id"], position)
        for string in strings
        for position in string["positions"]
        for role in ("suspect", "purified")
    ]
    losses = {role: [-value for value in values] for role, values in (likelihoods or {}).items() if values}
    change = None
    if losses:
        # Rows differ far more from each other than two models do on one: the interval is that of the differences.
        both_losses = zip(losses["purified"], losses["suspect"], strict=True)
        change = Mean.of([after - before for after, before in both_losses])
    return Measures(
        right=right,
        changed=changed,
        pairs=dict(pairs),
        flips=flips,
        losses={role: Mean.of(values) for role, values in losses.items()},
        loss_change=change,
    )


def _flips(rows: Sequence[Row], role: str, string: str, position: str) -> Flips:
    plain = {row.id: said(row) for row in rows if row.trigger == CLEAN}
    with_it = [row for row in rows if row.trigger == f"{string}.{position}"]
    flipped = [said(row) for row in with_it if said(row) != plain[row.id]]
    most = Counter(flipped).most_common(1)
    return Flips(
        string=string,
        position=position,
        role=role,
        rate=Rate(hits=len(flipped), total=len(with_it)),
        mostly=most[0][0] if most else "",
        mostly_share=most[0][1] / len(flipped) if most else 0.0,
    )


def write_csv(path: PathLike, measures: Measures) -> None:
    """Write all counts with rates and 95 % Wilson intervals, and mean losses with theirs as ``rate``, a line each."""
    lines: list[tuple[str, str, str, str, Rate]] = [
        *(("clean_accuracy", role, "", "", measures.right[role]) for role in ROLES if role in measures.right),
        ("answers_changed", "purified", "", "", measures.changed),
        *(("answers_flipped", flip.role, flip.string, flip.position, flip.rate) for flip in measures.flips),
    ]
    with whole_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        for *names, rate in lines:
            value = "" if rate.value is None else f"{rate.value:.6f}"
            low, high = rate.interval()
            writer.writerow([*names, rate.hits, rate.total, value, f"{low:.6f}", f"{high:.6f}"])
        means = [("answer_loss", role, measures.losses[role]) for role in ROLES if role in measures.losses]
        means += [("answer_loss_change", "purified", measures.loss_change)] if measures.loss_change else []
        for measured, role, mean in means:
            numbers = (f"{number:.6f}" for number in (mean.value, mean.low, mean.high))
            writer.writerow([measured, role, "", "", "", mean.rows, *numbers])
