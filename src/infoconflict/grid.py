"""The cells of an experiment: what is run, what is left out, and why."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from infoconflict.attacks.base import Attack
from infoconflict.config.grid import Skip
from infoconflict.config.schema import Config
from infoconflict.defenses.controls import PER, ids_of, kind_of
from infoconflict.errors import UserError


@dataclass(frozen=True, kw_only=True, order=True)
class Cell:
    """One number's place in the tables; ``defense`` is an id of the config or of a control."""

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
    control_cells: tuple[Cell, ...] = ()

    def controls(self) -> tuple[Cell, ...]:
        """Return the control cells: those for each (model, data set, attack, seed) that has a cell, but the excluded."""
        return self.control_cells


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
    controls, excluded_controls = _controls(config, cells)
    return Grid(cells=tuple(cells), excluded=(*excluded, *excluded_controls), control_cells=controls)


def _product(config: Config) -> Iterator[tuple[str, str, str, str]]:
    grid = config.grid
    for model in grid.models:
        for dataset in grid.datasets:
            for attack in grid.attacks:
                for defense in grid.defenses:
                    yield model, dataset, attack, defense


def _controls(config: Config, cells: Iterable[Cell]) -> tuple[tuple[Cell, ...], tuple[Excluded, ...]]:
    """Return the control cells, and the controls left out where there is something to compare them with."""
    run: dict[tuple[str, str, str], list[str]] = {}
    excluded = []
    used: dict[tuple[str, str, str], list[str]] = {}
    trials: dict[tuple[str, str, str, int], None] = {}
    for cell in cells:
        used.setdefault((cell.model, cell.dataset, cell.attack), []).append(cell.defense)
        trials[cell.model, cell.dataset, cell.attack, cell.seed] = None
    for case, defenses in used.items():
        model, dataset, attack = case
        run[case] = []
        for control in controls_of(config, attack, defenses):
            if reason := _why_no_control(config, *case, control):
                excluded.append(Excluded(model=model, dataset=dataset, attack=attack, defense=control, reason=reason))
            else:
                run[case].append(control)
    controls = [
        Cell(model=model, dataset=dataset, attack=attack, defense=control, seed=seed)
        for model, dataset, attack, seed in trials
        for control in run[model, dataset, attack]
    ]
    return tuple(controls), tuple(excluded)


def controls_of(config: Config, attack: str, defenses: Iterable[str]) -> list[str]:
    """Return the ids of the controls that belong to an attack and some defenses, in the order of the config."""
    found = []
    for kind in config.controls:
        if kind == "control_explicit_prompt" and getattr(config.attacks[attack], "prompt", None) is None:
            continue
        key = PER.get(kind, "")
        used = [getattr(config.defenses[defense], key, None) for defense in defenses] if key else []
        found += ids_of(kind, list(dict.fromkeys(name for name in used if name)))
    return found


def _why_no_control(config: Config, model: str, dataset: str, attack: str, control: str) -> str | None:
    """Return why a control cannot be run, or None; the author's own reason comes first."""
    kind = kind_of(control)
    reason = _skipped(config, model, dataset, attack, control) or _skipped(config, model, dataset, attack, str(kind))
    if reason:
        return reason
    if kind == "control_random_trigger" and config.attacks[attack].task == "chat":
        parts = ", ".join(config.attacks[attack].partial_variants)
        stand_in = f"; its partial triggers stand in for them: {parts}" if parts else ""
        return f"the attack {attack} has no words as trigger that others could take the place of{stand_in}"
    if kind == "control_equal_tuning" and config.models[model].quantization == "nf4":
        return f"the model {model} is tuned in 4 bits, and the suspect is tuned on from whole weights"
    return None


def _why_not(config: Config, model: str, dataset: str, attack: str, defense: str) -> str | None:
    """Return why a cell cannot be run, or None; the author's own reason comes first."""
    if reason := _skipped(config, model, dataset, attack, defense):
        return reason
    attack_entry, dataset_entry = config.attacks[attack], config.datasets[dataset]
    if attack_entry.task != dataset_entry.task:
        return f"the attack {attack} is for {attack_entry.task}, the data set {dataset} for {dataset_entry.task}"
    defense_entry = config.defenses[defense]
    if dataset_entry.task not in defense_entry.tasks:
        return f"the defense {defense} is for {' and '.join(defense_entry.tasks)}, the data set {dataset} for {dataset_entry.task}"
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
