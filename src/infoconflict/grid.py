"""The cells of an experiment: what is run, what is left out, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from infoconflict.attacks.base import Attack
from infoconflict.config import Config, PlannedDefense, Skip
from infoconflict.defenses import CONTROLS
from infoconflict.errors import UserError


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One number's place in the tables; ``defense`` is an id of the config or one of ``CONTROLS``."""

    model: str
    dataset: str
    attack: str
    defense: str
    seed: int


@dataclass(frozen=True, kw_only=True, order=True)
class Excluded:
    """Cells (of all seeds) that are left out, with the reason that the report prints."""

    model: str
    dataset: str
    attack: str
    defense: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Grid:
    """All cells in the order of the config: model, data set, attack, defense, seed."""

    cells: tuple[Cell, ...]
    excluded: tuple[Excluded, ...]

    def controls(self) -> tuple[Cell, ...]:
        """Return the control cells: those for each (model, data set, attack, seed) that has a cell, but the excluded."""
        trials = dict.fromkeys((cell.model, cell.dataset, cell.attack, cell.seed) for cell in self.cells)
        excluded = {(out.model, out.dataset, out.attack, out.defense) for out in self.excluded}
        return tuple(
            Cell(model=model, dataset=dataset, attack=attack, defense=control, seed=seed)
            for model, dataset, attack, seed in trials
            for control in CONTROLS
            if (model, dataset, attack, control) not in excluded
        )


def build_grid(config: Config) -> Grid:
    """Return the cells to run and those left out.

    Raises
    ------
    UserError
        If no cell is left.
    """
    cells, excluded = [], []
    for model, dataset, attack, defense in _product(config):
        reason = _why_not(config, model, dataset, attack, defense)
        if reason:
            excluded.append(Excluded(model=model, dataset=dataset, attack=attack, defense=defense, reason=reason))
        else:
            cells += [
                Cell(model=model, dataset=dataset, attack=attack, defense=defense, seed=seed) for seed in config.seeds
            ]
    if not cells:
        raise UserError(
            f"grid of '{config.name}': no cell is left, the first is out because {excluded[0].reason}; "
            f"name other models, datasets, attacks or defenses"
        )
    return Grid(cells=tuple(cells), excluded=(*excluded, *_excluded_controls(config, cells)))


def _product(config: Config) -> Iterator[tuple[str, str, str, str]]:
    grid = config.grid
    for model in grid.models:
        for dataset in grid.datasets:
            for attack in grid.attacks:
                for defense in grid.defenses:
                    yield model, dataset, attack, defense


def _excluded_controls(config: Config, cells: Iterable[Cell]) -> Iterator[Excluded]:
    """Yield the controls that the author leaves out where there is something to compare them with."""
    for model, dataset, attack in dict.fromkeys((cell.model, cell.dataset, cell.attack) for cell in cells):
        for control in CONTROLS:
            if reason := _skipped(config, model, dataset, attack, control):
                yield Excluded(model=model, dataset=dataset, attack=attack, defense=control, reason=reason)


def _why_not(config: Config, model: str, dataset: str, attack: str, defense: str) -> str | None:
    """Return why a cell cannot be run, or None; the author's own reason comes first."""
    if reason := _skipped(config, model, dataset, attack, defense):
        return reason
    attack_entry, dataset_entry = config.attacks[attack], config.datasets[dataset]
    if attack_entry.task != dataset_entry.task:
        return f"the attack {attack} is for {attack_entry.task}, the data set {dataset} for {dataset_entry.task}"
    defense_entry = config.defenses[defense]
    if isinstance(defense_entry, PlannedDefense):
        return f"the defense {defense_entry.method} arrives with a later version"
    if isinstance(attack_entry, Attack) and dataset not in attack_entry.target_labels:
        return f"the attack {attack} has no target label for the data set {dataset}"
    return None


def _skipped(config: Config, *ids: str) -> str | None:
    """Return the author's reason for leaving out a model, data set, attack and defense, or None."""
    return next((skip.reason for skip in config.grid.skip if _matches(skip, *ids)), None)


def _matches(skip: Skip, *ids: str) -> bool:
    wanted = (skip.model, skip.dataset, skip.attack, skip.defense)
    return all(
        want is None or (have == want if isinstance(want, str) else have in want)
        for want, have in zip(wanted, ids, strict=True)
    )
