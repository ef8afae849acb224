"""Metric files of the experiments beside the grid, from answers alone."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from infoconflict.experiments.roles import EXPERIMENTS, ROLES, share_name, share_of_role
from infoconflict.files import PathLike
from infoconflict.metrics import CONFIDENCE, CellFile, metric_rows, write_csv

RATE_COLUMNS = ("metric", "hits", "total", "rate", "low", "high")
CLEAN_SHARE_COLUMNS = ("model", "dataset", "attack", "defense", "share", "seed", *RATE_COLUMNS)
DIRECT_COLUMNS = ("direct", "dataset", "attack", "run", "seed", *RATE_COLUMNS)
ROLE_SWAP_COLUMNS = (
    *("model", "dataset", "attack", "merge", "experiment", "role", "stage", "pcs", "pbs", "seed"),
    *RATE_COLUMNS,
)
CLEAN_METRICS = ("cda", "invalid_rate")
TRIGGERED_METRICS = ("asr", "asr_all", "invalid_rate")
ROLE_METRICS = ("cda", "asr", "asr_all")


def write_clean_share(files: Iterable[CellFile], path: PathLike, *, confidence: float = CONFIDENCE) -> None:
    """Write ``clean_share.csv``: all metrics of each point of the curve.

    Parameters
    ----------
    files : iterable of (point, path)
        Points with ``model``, ``dataset``, ``attack``, ``defense``, ``share``, ``seed``, and their answers.
    path : path
        Written atomically.
    confidence : float in (0, 1)
        Of the Wilson intervals.
    """
    names = CLEAN_SHARE_COLUMNS[:6]
    _write(path, CLEAN_SHARE_COLUMNS, files, names, lambda _: None, confidence)


def write_direct(files: Iterable[CellFile], path: PathLike, *, confidence: float = CONFIDENCE) -> None:
    """Write ``direct.csv``: accuracy on clean rows, with an empty ``attack``, and success rates on triggered ones.

    Parameters
    ----------
    files : iterable of (questions, path)
        Questions with ``direct``, ``dataset``, ``attack`` (None for clean rows), ``run``, ``seed``, and their answers.
    path, confidence
        As for :func:`write_clean_share`.
    """
    names = DIRECT_COLUMNS[:5]

    def metrics(cell: Mapping[str, Any]) -> Sequence[str]:
        return CLEAN_METRICS if cell["attack"] is None else TRIGGERED_METRICS

    _write(path, DIRECT_COLUMNS, files, names, metrics, confidence)


def write_role_swap(
    files: Iterable[CellFile], path: PathLike, *, small_share: float, confidence: float = CONFIDENCE
) -> None:
    """Write ``role_swap.csv``: each model of each experiment before the merge, and the merged one.

    ``role`` and ``experiment`` are those of the paper's table 6, ``pcs`` and ``pbs`` the shares in [0, 1] of the clean and
    the backdoor rows that a model was tuned on, empty for a merged one.

    Parameters
    ----------
    files : iterable of (experiment, path)
        With ``model``, ``dataset``, ``attack``, ``merge``, ``experiment``, ``answered`` (``first``, ``second`` or
        ``merged``), ``seed``, and the answers.
    small_share : float in (0, 1)
        What few rows are of all.
    path, confidence
        As for :func:`write_clean_share`.
    """
    named = [({**cell, **role_fields(cell["experiment"], cell["answered"], small_share)}, file) for cell, file in files]
    _write(path, ROLE_SWAP_COLUMNS, named, ROLE_SWAP_COLUMNS[:10], lambda _: ROLE_METRICS, confidence)


def role_fields(experiment: str, answered: str, small_share: float) -> dict[str, str]:
    """Return which model of an experiment answered, and what it was tuned on."""
    pair = EXPERIMENTS[experiment]
    if answered == "merged":
        return {"role": "+".join(pair), "stage": "merged", "pcs": "", "pbs": ""}
    name = pair[answered == "second"]
    shares = (share_of_role(amount, small_share) for amount in (ROLES[name].clean, ROLES[name].backdoor))
    pcs, pbs = map(share_name, shares)
    return {"role": name, "stage": "pre_merge", "pcs": pcs, "pbs": pbs}


def _write(
    path: PathLike,
    columns: Sequence[str],
    files: Iterable[CellFile],
    names: Sequence[str],
    metrics: Callable[[Mapping[str, Any]], Sequence[str] | None],
    confidence: float,
) -> None:
    """Write the named fields of each file's cell before each of its metrics; rows come in the order of these fields."""

    def key(item: CellFile) -> tuple[Any, ...]:
        # Numbers are compared as numbers: 0.5 comes before 1, and seed 2 before 10.
        return tuple(item[0][name] if item[0][name] is not None else "" for name in names)

    rows = []
    for cell, file in sorted(files, key=key):
        fields = [share_name(cell[name]) if name == "share" else cell[name] for name in names]
        rows += [[*fields, *row] for row in metric_rows(file, metrics(cell), confidence=confidence)]
    write_csv(path, columns, rows)
