"""The paper's printed numbers (``paper_numbers/``), and where it contradicts itself; ours are never among them."""

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from infoconflict.metrics import read_csv

FOLDER = Path(__file__).with_name("paper_numbers")
FILES = tuple(
    FOLDER / f"{name}.csv"
    for name in (
        *("defenses", "role_swap", "adaptive", "merge_methods", "hours"),
        *("inconsistencies", "touched_cells"),
    )
)
SOURCE = (
    "Chen, Sun, Gong, Gao and Lam, “Neutralizing Backdoors through Information Conflicts for Large Language Models”, "
    "2024, arXiv:2411.18280"
)

MODELS = {"gpt2_xl": "GPT2-XL", "gptj": "GPT-J-6B", "llama": "LLaMA-7B", "llama2": "Llama-2-7B"}
DATASETS = {"sst2": "SST-2", "emotion": "Emotion", "chat": "Chat-Backdoor"}
CLASSIFICATION_ATTACKS = ("cba", "badedit", "rome", "memit", "lwp")
CHAT_ATTACKS = ("dtba", "autopoison", "vpi")
OWN = "conflict"
BASELINES = ("editing", "wanda", "fine_tuning", "fine_pruning", "speculative", "cleangen", "nad", "beear")
MERGES = ("linear", "ties", "slerp", "passthrough")
STAGES = ("original", "adaptive", "defended")
# The parents of a merge and what comes of it; the paper numbers them M1 to M6, and the experiments 1, 2 and "Ours".
PARTS = ("first", "second", "merged")
EXPERIMENTS = ("ours", "1", "2")


@dataclass(frozen=True, kw_only=True, order=True)
class Place:
    """Where a number stands in the paper; ``column`` is a defense, a merge method or a stage.

    In Table 6 ``attack`` is the experiment, and ``model`` is empty: the paper does not name it.
    """

    table: int
    dataset: str
    model: str
    attack: str
    column: str


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What the paper has for one of our numbers: its value, or mean and range over its models for a model not in it."""

    value: float
    low: float
    high: float
    models: int = 1


@dataclass(frozen=True, kw_only=True)
class Inconsistency:
    """Something in the paper that does not fit together; ``kind`` is ``text``, ``table`` or ``doubtful``."""

    number: int
    kind: str
    text: str
    cells: tuple[Mapping[str, str], ...]

    def touches(self, place: Place, metric: str) -> bool:
        """Whether a number is one of those that do not fit."""
        names = vars(place) | {"table": str(place.table), "metric": metric}
        return any(all(want in ("", names[name]) for name, want in cell.items()) for cell in self.cells)


@cache
def published() -> Mapping[Place, Mapping[str, float]]:
    """Return the numbers by place and metric: ``asr`` and ``cda`` as shares in [0, 1], ``hours``."""
    found: dict[Place, dict[str, float]] = {}
    columns = {
        **{"defenses": "defense", "adaptive": "stage"},
        **{"merge_methods": "merge", "hours": "defense"},
    }
    for name, column in columns.items():
        for row in read_csv(FOLDER / f"{name}.csv"):
            where = {key: row[key] for key in ("dataset", "model", "attack")}
            found[Place(table=int(row["table"]), **where, column=row[column])] = _numbers(row)
    for row in read_csv(FOLDER / "role_swap.csv"):
        column = role_column(row["model"])
        found[Place(table=6, dataset=row["dataset"], model="", attack=row["experiment"], column=column)] = _numbers(row)
    return found


def role_column(role: str) -> str:
    """Return which column of Table 6 a model stands in, by the paper's name for it: ``m1``, ``m2``, ``m1+m2``."""
    if "+" in role:
        return "merged"
    return PARTS[1 - int(role[1:]) % 2]


def _numbers(row: Mapping[str, str]) -> dict[str, float]:
    units = {"asr": 100.0, "cda": 100.0, "hours": 1.0}
    return {name: round(float(row[name]) / unit, 6) for name, unit in units.items() if row.get(name)}


@cache
def inconsistencies() -> tuple[Inconsistency, ...]:
    """Return the paper's inconsistencies in the order of their numbers."""
    cells: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in read_csv(FOLDER / "touched_cells.csv"):
        cells[row.pop("number")].append(row)
    return tuple(
        Inconsistency(number=int(row["number"]), kind=row["kind"], text=row["text"], cells=tuple(cells[row["number"]]))
        for row in read_csv(FOLDER / "inconsistencies.csv")
    )


@cache
def notes_on(place: Place, metric: str) -> tuple[int, ...]:
    """Return the numbers of the inconsistencies that touch a printed number."""
    return tuple(one.number for one in inconsistencies() if one.touches(place, metric))


def notes_on_reference(place: Place, metric: str) -> tuple[int, ...]:
    """Return the inconsistencies that touch what :func:`reference` returns: of all places that it is the mean of."""
    return tuple(sorted({note for one in _places_of(place, metric) for note in notes_on(one, metric)}))


def _places_of(place: Place, metric: str) -> list[Place]:
    """Return the printed places that stand for one: itself, or those of all models where it names none."""
    there = [place] if place.model or place.table == 6 else _of_all_models().get(place, [])
    return [one for one in there if metric in published().get(one, {})]


@cache
def _of_all_models() -> Mapping[Place, list[Place]]:
    found: dict[Place, list[Place]] = defaultdict(list)
    for place in published():
        found[replace(place, model="")].append(place)
    return found


def reference(place: Place, metric: str) -> Reference | None:
    """Return what the paper prints at a place; a place without a model stands for all of the paper's models."""
    values = [published()[one][metric] for one in _places_of(place, metric)]
    if not values:
        return None
    return Reference(value=statistics.fmean(values), low=min(values), high=max(values), models=len(values))


def column_values(table: int, column: str, metric: str, dataset: str | None = None) -> list[float]:
    """Return all of the paper's numbers of one column, in the paper's order."""
    return [
        numbers[metric]
        for place, numbers in published().items()
        if place.table == table and place.column == column and metric in numbers and dataset in (None, place.dataset)
    ]


def rows_of(table: int) -> Iterable[tuple[str, str, str]]:
    """Return the (model, dataset, attack) of a table's rows, in the paper's order."""
    return dict.fromkeys((place.model, place.dataset, place.attack) for place in published() if place.table == table)
