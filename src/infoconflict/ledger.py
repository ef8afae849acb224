"""The ledger: what a run is predicted to cost and what it has cost so far, stage by stage.

Predictions rest on :mod:`infoconflict.resources`; what is spent is read from cards. Once a stage has a card, what is left
of it is predicted from its own cards.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from infoconflict.config.datasets import DatasetEntry
from infoconflict.data.splits import share_of
from infoconflict.metrics import cell_name
from infoconflict.resources import BYTES_PER_WEIGHT, NEEDS, minutes_of

LIMIT_OVER_TYPICAL = 20
"""How many times a stage's typical time its time limit is. Ours: 30 to 80 on the demo's cards."""
LIMIT_OVER_TUNING = 6
"""The same where a model is tuned. Ours: 6 to 30 on the demo's cards."""
CHANGE_SHARE = 0.04
"""Size of a stored change, as a share of its model. Ours: an adapter of rank 64 on all linear layers has 0.02 to 0.04."""
SMALL_FILES_BYTES = 1e6
"""What any other stage stores. Ours."""
LARGE_RUN_HOURS = 24
"""From so many predicted hours on, a run says what it will cost before it starts. Ours."""

HUB_ROWS: dict[tuple[str, str | None], dict[str, int]] = {
    ("stanfordnlp/sst2", None): {"train": 67_349, "validation": 872},
    ("dair-ai/emotion", "split"): {"train": 16_000, "validation": 2_000, "test": 2_000},
    # By the file's name.
    ("luckychao/Chat-Models-Backdoor-Attacking", None): {
        "Chat_Data/Poisoned_dataset/BenignScn_MaliciousScn/Helpful_Data_10K.json": 10_000,
    },
}
"""Rows of splits and files of the hub, by repository and subset. A config does not say them, and no run has read them yet."""
TYPICAL_ROWS = {"train": 50_000, "test": 1_000}
"""What any other split counts as. Ours."""

_WHOLE_MODEL = ("prepare_model",)
_TUNES = ("train_", "tune_", "repair_")
_IN_MAIN_MEMORY = (
    *("prepare_model", "merge_models", "merge_at_share", "merge_base"),
    *("subtract_conflict", "compare_conflicts"),
)
_STORES_CHANGE = ("train_", "tune_", "edit_", "subtract_", "repair_", "merge_base")


@dataclass(frozen=True, kw_only=True)
class Planned:
    """One job of a run that has ``parameters`` weights in its model (0: none).

    ``calls`` counts questions to an endpoint that is not the run's own; ``temporary`` says that its model is deleted as
    soon as it was used; ``need`` names the stage's entry in :data:`infoconflict.resources.NEEDS`, where that is another.
    """

    stage: str
    cell: Mapping[str, Any]
    parameters: float = 0.0
    calls: int = 0
    temporary: bool = False
    need: str | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Stage and cell, as a card has them."""
        return self.stage, cell_name(self.cell)

    @property
    def limit_minutes(self) -> float:
        """The time limit of the first attempt; 0 for stages of seconds."""
        need = self.need or need_of(self.stage)
        return minutes_of(need, self.parameters) if need else 0.0

    @property
    def minutes(self) -> float:
        """What the job typically takes."""
        return self.limit_minutes / (LIMIT_OVER_TUNING if self.stage.startswith(_TUNES) else LIMIT_OVER_TYPICAL)

    @property
    def stored_bytes(self) -> float:
        """What the job's outputs take on disk."""
        whole = BYTES_PER_WEIGHT * self.parameters
        if self.temporary or self.stage in _WHOLE_MODEL:
            return whole
        return CHANGE_SHARE * whole if self.stage.startswith(_STORES_CHANGE) else SMALL_FILES_BYTES


def need_of(stage: str) -> str | None:
    """Return the entry of ``NEEDS`` that a stage asks for: its own, or that of the stages it belongs to; None for none.

    ``collect_evidence_clean`` belongs to ``collect_evidence``.
    """
    if stage in NEEDS:
        return stage
    return max((name for name in NEEDS if stage.startswith(f"{name}_")), key=len, default=None)


def rows_of(dataset: DatasetEntry, split: Literal["train", "test"]) -> int:
    """Return about how many rows a split has, from the data set's entry alone: those that it states, else the source's.

    Repeated rows, which are left out, count as well.
    """
    if stated := getattr(dataset, f"{split}_rows"):
        return int(stated)
    if dataset.source != "hub":
        return TYPICAL_ROWS[split]
    known = HUB_ROWS.get((dataset.repo, dataset.subset), {})
    names = getattr(dataset, "files", None) or dataset.splits
    train = known.get(names.train, TYPICAL_ROWS["train"])
    if names.test is not None:
        return train if split == "train" else known.get(names.test, TYPICAL_ROWS["test"])
    test = dataset.test_rows or share_of(dataset.test_share, train)
    return test if split == "test" else train - test


@dataclass(frozen=True, kw_only=True)
class Line:
    """One stage. Hours are of all its jobs one after another; bytes are those that stay on disk."""

    stage: str
    jobs: int
    done: int
    predicted_hours: float
    limit_hours: float
    spent_hours: float
    left_hours: float
    predicted_bytes: float
    stored_bytes: float
    calls: int
    tokens: int
    computes: bool
    """Whether its jobs compute with a model: what a GPU is for."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """All stages in the order of the data flow, and the largest model that is on disk only for a while.

    ``without_card`` counts the jobs that leave no card, all of seconds; 0 where only a part of a run is looked at.
    """

    lines: tuple[Line, ...]
    largest_temporary_bytes: float
    without_card: int = 0

    @property
    def jobs(self) -> int:
        """All jobs that leave a card."""
        return sum(line.jobs for line in self.lines)

    @property
    def predicted_hours(self) -> float:
        """Typical hours of all jobs, one after another."""
        return sum(line.predicted_hours for line in self.lines)

    @property
    def gpu_hours(self) -> float:
        """Those of the stages that compute with a model: GPU hours, where jobs get one."""
        return sum(line.predicted_hours for line in self.lines if line.computes)

    @property
    def peak_bytes(self) -> float:
        """Disk that is needed when jobs that make a temporary model run one at a time."""
        return sum(max(line.predicted_bytes, line.stored_bytes) for line in self.lines) + self.largest_temporary_bytes

    @property
    def calls(self) -> int:
        """Questions to endpoints."""
        return sum(line.calls for line in self.lines)


def build_ledger(
    planned: Iterable[Planned], cards: Iterable[Mapping[str, Any]] = (), *, without_card: int = 0
) -> Ledger:
    """Return the ledger of the jobs of a run, and of those of its cards that belong to them.

    Jobs named twice count once. Stages stand in the order in which they come first.
    """
    jobs = {job.key: job for job in planned}
    spent = {key: card for card in cards if (key := (str(card["stage"]), cell_name(card.get("cell") or {}))) in jobs}
    by_stage: dict[str, list[Planned]] = defaultdict(list)
    for job in jobs.values():
        by_stage[job.stage].append(job)
    temporary = max((job.stored_bytes for job in jobs.values() if job.temporary), default=0.0)
    lines = tuple(_line(stage, found, spent) for stage, found in by_stage.items())
    return Ledger(lines=lines, largest_temporary_bytes=temporary, without_card=without_card)


def _line(stage: str, jobs: Sequence[Planned], spent: Mapping[tuple[str, str], Mapping[str, Any]]) -> Line:
    costs = {job.key: spent[job.key].get("cost") or {} for job in jobs if job.key in spent}
    hours = {key: float(cost.get("seconds") or 0) / 3600 for key, cost in costs.items()}
    # A large model takes longer than a small one: what is left is told from done jobs with models of the same size.
    by_size: dict[float, list[float]] = defaultdict(list)
    for job in jobs:
        if job.key in hours:
            by_size[job.parameters].append(hours[job.key])
    typical = {size: statistics.fmean(found) for size, found in by_size.items()}
    left = sum(typical.get(job.parameters, job.minutes / 60) for job in jobs if job.key not in hours)
    return Line(
        stage=stage,
        jobs=len(jobs),
        done=len(costs),
        predicted_hours=sum(job.minutes for job in jobs) / 60,
        limit_hours=sum(job.limit_minutes for job in jobs) / 60,
        spent_hours=sum(hours.values()),
        left_hours=left,
        predicted_bytes=sum(job.stored_bytes for job in jobs if not job.temporary),
        stored_bytes=sum(
            float(costs[job.key].get("stored_bytes") or 0) for job in jobs if job.key in costs and not job.temporary
        ),
        calls=sum(job.calls for job in jobs),
        tokens=sum(int(cost.get("tokens") or 0) for cost in costs.values()),
        computes=stage not in _IN_MAIN_MEMORY and any(job.parameters for job in jobs),
    )


_COLUMNS = ("stage", "jobs", "done", "hours", "at most", "spent", "left", "GB", "stored", "calls")


def ledger_text(ledger: Ledger) -> str:
    """Return the ledger as a table for a terminal, and what its numbers rest on."""
    rows = [_texts(line) for line in ledger.lines]
    totals = [sum(getattr(line, name) for line in ledger.lines) for name in _SUMMED]
    rows.append(("all", *(_number(name, total) for name, total in zip(_SUMMED, totals, strict=True))))
    widths = [max(len(row[place]) for row in (_COLUMNS, *rows)) for place in range(len(_COLUMNS))]
    lines = ["  ".join(_padded(row, widths)) for row in (_COLUMNS, *rows)]
    lines.insert(1, "-" * len(lines[0]))
    lines.insert(-1, lines[1])
    return "\n".join([*lines, "", *_notes(ledger)])


_SUMMED = (
    *("jobs", "done", "predicted_hours", "limit_hours", "spent_hours", "left_hours"),
    *("predicted_bytes", "stored_bytes", "calls"),
)


def _texts(line: Line) -> tuple[str, ...]:
    return (line.stage, *(_number(name, getattr(line, name)) for name in _SUMMED))


def _number(name: str, value: float) -> str:
    if name.endswith("bytes"):
        return f"{value / 1e9:.1f}"
    return f"{value:.1f}" if name.endswith("hours") else f"{value:.0f}"


def _padded(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    yield row[0].ljust(widths[0])
    yield from (text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))


def _notes(ledger: Ledger) -> Iterator[str]:
    left = sum(line.left_hours for line in ledger.lines)
    spent = sum(line.spent_hours for line in ledger.lines)
    done = sum(line.done for line in ledger.lines)
    yield (
        f"{ledger.jobs} jobs, {done} of them done; {ledger.predicted_hours:.0f} hours predicted, "
        f"{ledger.gpu_hours:.0f} of them with a model to compute (GPU hours, where there are GPUs); "
        f"{spent:.1f} spent, {left:.0f} left."
    )
    if ledger.without_card:
        yield (
            f"A dry run counts {ledger.jobs + ledger.without_card} jobs: {ledger.without_card} more leave no card and take "
            "seconds each (packages, tables, figures, the page)."
        )
    yield (
        f"Disk at its peak: {ledger.peak_bytes / 1e9:.0f} GB, and {ledger.largest_temporary_bytes / 1e9:.0f} GB more for "
        "each further job with a temporary model at the same time."
    )
    yield f"About {ledger.calls} questions to endpoints."
    yield (
        f"Hours are jobs' hours added up; predictions are a {LIMIT_OVER_TYPICAL}th of the time limits (at most), a "
        f"{LIMIT_OVER_TUNING}th for tuning; where a stage has cards, what is left is told from those."
    )
