"""What the experiments beside the grid ask for, taken from the config and the grid. Light: Snakemake imports this."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infoconflict.attacks.base import planted_by_rows_alone
from infoconflict.config.experiments import CleanShareCurve, RoleSwap
from infoconflict.config.schema import Config
from infoconflict.experiments.roles import EXPERIMENTS, share_name
from infoconflict.grid import Cell, Grid


@dataclass(frozen=True, kw_only=True, order=True)
class CurvePoint(Cell):
    """A cell of the grid with another share of clean rows for its defender."""

    share: float

    @property
    def share_name(self) -> str:
        """The share as it stands in paths."""
        return share_name(self.share)


@dataclass(frozen=True, kw_only=True, order=True)
class DirectQuestions:
    """Test rows that an external model is asked: clean ones, or an attack's triggered ones."""

    direct: str
    dataset: str
    attack: str | None
    run: int
    seed: int

    @property
    def asked(self) -> str:
        """The rows' name in paths; ids hold no dot."""
        return "clean" if self.attack is None else f"{self.attack}.triggered"


@dataclass(frozen=True, kw_only=True, order=True)
class RoleMerge:
    """One experiment with exchanged roles: two models and their merge."""

    model: str
    dataset: str
    attack: str
    merge: str
    experiment: str
    seed: int


def curve_points(config: Config, grid: Grid) -> list[CurvePoint]:
    """Return the points of the clean-share curve: each cell of its defenses at each share, in the order of the grid."""
    curve = config.clean_share_curve
    return [
        CurvePoint(**vars(cell), share=share)
        for cell in grid.cells
        if cell.defense in curve.defenses and _is_asked_for(curve, cell)
        for share in sorted(curve.shares)
    ]


def own_points(config: Config, grid: Grid) -> list[CurvePoint]:
    """Return the points that are no cell of the grid already."""
    return [point for point in curve_points(config, grid) if point.share != config.clean_share.share]


def role_merges(config: Config, grid: Grid) -> list[RoleMerge]:
    """Return the experiments with exchanged roles, for each model, data set, attack and seed that has a cell.

    An attack that plants nothing (``poisoning_rate: 0``) has no rows for the roles.
    """
    swap = config.role_swap
    trials = dict.fromkeys(
        (cell.model, cell.dataset, cell.attack, cell.seed)
        for cell in grid.cells
        if planted_by_rows_alone(type(config.attacks[cell.attack]))
        and getattr(config.attacks[cell.attack], "poisoning_rate", 0) > 0
        and _is_asked_for(swap, cell)
    )
    return [
        RoleMerge(model=model, dataset=dataset, attack=attack, merge=merge, experiment=experiment, seed=seed)
        for model, dataset, attack, seed in trials
        for merge in swap.merges
        for experiment in EXPERIMENTS
    ]


def direct_questions(config: Config, grid: Grid) -> list[DirectQuestions]:
    """Return what external models are asked: clean rows of data sets that have a cell, and triggered rows of such attacks."""
    pairs = {(cell.dataset, cell.attack) for cell in grid.cells}
    with_cells = {dataset for dataset, _ in pairs}
    return [
        DirectQuestions(direct=name, dataset=dataset, attack=attack, run=run, seed=seed)
        for name, entry in config.direct.items()
        for dataset in entry.datasets
        if dataset in with_cells
        for attack in [None, *(attack for attack in entry.attacks if (dataset, attack) in pairs)]
        for seed in config.seeds
        for run in range(entry.runs)
    ]


def _is_asked_for(experiment: CleanShareCurve | RoleSwap, cell: Cell) -> bool:
    chosen: Iterable[tuple[str, Sequence[str] | None]] = (
        (cell.model, experiment.models),
        (cell.dataset, experiment.datasets),
        (cell.attack, experiment.attacks),
    )
    return all(wanted is None or name in wanted for name, wanted in chosen)
