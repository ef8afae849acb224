"""Which cells of a grid stand in which table of the paper, and under which of the paper's names."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from infoconflict.defenses.base import DecodingDefense, WeightsDefense
from infoconflict.reporting.names import CLEAN_TUNED
from infoconflict.reporting.published import (
    BASELINES,
    CHAT_ATTACKS,
    CLASSIFICATION_ATTACKS,
    MERGES,
    OWN,
    STAGES,
)

if TYPE_CHECKING:
    from infoconflict.config.schema import Config
    from infoconflict.grid import Cell

TABLES = tuple(f"table_{number}" for number in range(1, 10))
FIGURES = ("figure_3", "figure_4")
GOAL = "goal"
"""What the further defenses are held against, by our goal: the clean-tuned model, in no table of the paper."""

_MODELS = {
    "gpt2_xl": r"gpt2?xl",
    "gptj": r"gptj(6b)?",
    "llama2": r"(meta)?llama2(7b)?(hf)?",
    "llama": r"llama1?(7b)?(hf)?",
}
_DATASETS = {
    1: ("sst2",),
    2: ("emotion",),
    3: ("chat",),
    4: ("emotion", "sst2"),
    5: ("chat",),
    8: ("emotion", "sst2", "chat"),
    9: ("emotion", "chat"),
}
_WITHOUT_CLEANGEN = tuple(name for name in BASELINES if name != "cleangen")
_ABLATION = ("none", "internal", "external", OWN)
COLUMNS = {
    1: ("none", *_WITHOUT_CLEANGEN, OWN),
    2: ("none", *_WITHOUT_CLEANGEN, OWN),
    3: ("none", *BASELINES, OWN),
    4: _ABLATION,
    5: _ABLATION,
    7: STAGES,
    8: MERGES,
    9: (*BASELINES, OWN),
}
# Ids that stand for a method before others of the same method; in a row without their cells the others do.
_PREFERRED = {"fine_tuning": ("fine_tuning", "ft_full", "ft_10")}


@dataclass(frozen=True, kw_only=True)
class Roles:
    """The paper's names by our ids; what is not in the paper is not here. ``further`` are defenses beside the paper's.

    ``stand_ins`` are further ids of the method of a column, the first first; each stands in the rows where those before it have
    no cell. ``merges`` are the defenses of Table 8 by merge method, all of them of method ``merge_kind``. ``rows`` are the cases
    of the grid that have a place in a table, by its number, computed or not. ``same_rows`` are the data sets of which every seed
    asks the same test rows. ``generating`` are the ids that generate answers to classifications, where others are asked by label
    scores; ``as_fast`` those that only change weights, and answer at the suspect's pace. All of it is plain JSON, so that a rule's
    params can hold it.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    datasets: Mapping[str, str] = field(default_factory=dict)
    attacks: Mapping[str, str] = field(default_factory=dict)
    defenses: Mapping[str, str] = field(default_factory=dict)
    stand_ins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    merges: Mapping[str, str] = field(default_factory=dict)
    merge_kind: str = ""
    further: tuple[str, ...] = ()
    rows: Mapping[str, Sequence[tuple[str, str, str]]] = field(default_factory=dict)
    same_rows: tuple[str, ...] = ()
    generating: tuple[str, ...] = ()
    as_fast: tuple[str, ...] = ()

    def ids_of(self, column: str) -> tuple[str, ...]:
        """Return the ids that may stand in a column of defenses, in order of preference."""
        if column in self.further:
            return (column,)
        plain = (name for name, role in self.defenses.items() if role == column)
        return (*plain, *self.stand_ins.get(column, ()))

    def role_of(self, defense: str) -> str | None:
        """Return the paper's defense that an id may stand for."""
        stand_in = next((role for role, names in self.stand_ins.items() if defense in names), None)
        return self.defenses.get(defense, stand_in)

    def chosen(self, column: str, row: tuple[str, str, str], found: Container[tuple[str, str, str, str]]) -> str | None:
        """Return the id that stands in a column, in the row of a model, a data set and an attack; None without a cell."""
        return next((name for name in self.ids_of(column) if (*row, name) in found), None)

    def undefended(
        self, defense: str, row: tuple[str, str, str], found: Container[tuple[str, str, str, str]]
    ) -> str | None:
        """Return the id of the undefended model that was asked in the same way as a defense; None without a cell.

        None, too, for a defense that only changes weights: its answers take as long, and what differs is the machine's noise.
        """
        if defense in self.as_fast:
            return None
        ids = self.ids_of("none")
        if self.datasets.get(row[1]) != "chat":
            ids = tuple(name for name in ids if (name in self.generating) == (defense in self.generating))
        return next((name for name in ids if (*row, name) in found), None)

    def as_spec(self) -> dict[str, Any]:
        """Return the roles as plain values."""
        return asdict(self)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Roles":
        """Return the roles of :meth:`as_spec`."""
        stand_ins = {column: tuple(names) for column, names in spec["stand_ins"].items()}
        rows = {table: tuple((row[0], row[1], row[2]) for row in cases) for table, cases in spec["rows"].items()}
        lists = {name: tuple(spec[name]) for name in ("further", "same_rows", "generating", "as_fast")}
        return cls(**{**spec, **lists, "stand_ins": stand_ins, "rows": rows})


def roles_of(config: "Config", cells: Iterable["Cell"] = ()) -> Roles:
    """Return the paper's names for the ids of a config: by its section ``paper``, by method, and by the names of models.

    ``cells`` are those of its grid; a table then has a row for each case of them, whether it is computed or not.
    """
    named = config.paper
    models = {
        name: found
        for name in config.grid.models
        if (
            found := named.models.get(name)
            or _paper_model(
                name, getattr(config.models[name], "repo", None), getattr(config.models[name], "path", None)
            )
        )
    }
    datasets = {
        name: found
        for name in config.grid.datasets
        if (
            found := named.datasets.get(name)
            or _paper_dataset(name, config.datasets[name].task, getattr(config.datasets[name], "repo", None))
        )
    }
    known = (*CLASSIFICATION_ATTACKS, *CHAT_ATTACKS, "adaptive_cba")
    attacks = {name: method for name in config.grid.attacks if (method := config.attacks[name].method) in known}
    methods = {name: str(getattr(config.defenses[name], "method", "")) for name in config.grid.defenses}
    further = tuple(name for name in named.further_defenses if name in methods)
    defenses: dict[str, str] = {}
    stand_ins: dict[str, tuple[str, ...]] = {}
    for method in ("none", *BASELINES, "internal", "external", OWN):
        ids = [name for name, used in methods.items() if used == method and name not in further]
        if ids:
            wanted = (method, *_PREFERRED.get(method, ()))
            first, *others = sorted(ids, key=lambda name: wanted.index(name) if name in wanted else len(wanted))
            defenses[first] = method
            # Another merge is another column, of Table 8.
            alike = tuple(name for name in others if _merge_of(config, name) == _merge_of(config, first))
            if alike:
                stand_ins[method] = alike
    merge_kind, merges = _merges_of(config, methods, further)
    roles = Roles(
        models=models,
        datasets=datasets,
        attacks=attacks,
        defenses=defenses,
        stand_ins=stand_ins,
        merges=merges,
        merge_kind=merge_kind,
        further=further,
        same_rows=tuple(name for name in config.grid.datasets if _has_whole_test_split(config.datasets[name])),
        generating=tuple(name for name in methods if _generates(config, name)),
        as_fast=tuple(name for name in methods if _only_changes_weights(config, name)),
    )
    one_seed = {(cell.model, cell.dataset, cell.attack, cell.defense): cell for cell in cells}
    return replace(roles, rows=_rows_of(list(one_seed.values()), roles))


def _has_whole_test_split(dataset: object) -> bool:
    """Whether all rows of a test split are asked, so that a seed has no choice of them."""
    files = getattr(dataset, "files", None) or getattr(dataset, "splits", None) or dataset
    return getattr(files, "test", None) is not None and getattr(dataset, "test_rows", None) is None


def _rows_of(cells: Sequence["Cell"], roles: Roles) -> dict[str, tuple[tuple[str, str, str], ...]]:
    """Return the rows of each table that has some, by its number."""
    found = {}
    for target in TABLES:
        number = target.removeprefix("table_")
        rows = {
            (cell.model, cell.dataset, cell.attack): None
            for cell in cells_of(target, cells, roles)
            # What stands beside the numbers of a table makes no row: the original attack, the undefended model's time.
            if not (number == "7" and roles.attacks[cell.attack] == "cba")
            and not (number == "9" and roles.role_of(cell.defense) == "none")
        }
        if rows:
            found[number] = tuple(rows)
    return found


def _merge_of(config: "Config", defense: str) -> str:
    """Return the merge method of a defense, empty for one that does not merge."""
    name = getattr(config.defenses[defense], "merge", None)
    return config.merges[name].method if name else ""


def _generates(config: "Config", defense: str) -> bool:
    """Say whether answers of a defense to classifications are generated text."""
    entry = config.defenses[defense]
    mode = getattr(entry, "mode", None) or config.evaluation.mode
    return isinstance(entry, DecodingDefense) or mode == "generate"


def _only_changes_weights(config: "Config", defense: str) -> bool:
    """Say whether a defense answers the same prompts as the suspect does, with other weights of the same size."""
    entry = config.defenses[defense]
    return isinstance(entry, WeightsDefense) or (hasattr(entry, "merge") and not hasattr(entry, "evidence"))


def _merges_of(config: "Config", methods: Mapping[str, str], further: Iterable[str]) -> tuple[str, dict[str, str]]:
    """Return what Table 8 compares: the whole method for each merge, or else the internal conflict alone."""
    found: dict[str, dict[str, str]] = {}
    for kind in (OWN, "internal"):
        found[kind] = {}
        # The plain name first: it is the paper's setting.
        for name in sorted((name for name, used in methods.items() if used == kind), key=lambda name: name != kind):
            merge = _merge_of(config, name)
            if name not in further and merge not in found[kind].values():
                found[kind][name] = merge
    # All columns of one kind, if possible: evidence would else stand beside no evidence.
    kind = max(found, key=lambda one: len(found[one]))
    return (kind, found[kind]) if found[kind] else ("", {})


def _paper_model(*names: str | None) -> str | None:
    for name in filter(None, names):
        plain = re.sub(r"[^a-z0-9]", "", str(name).rstrip("/").rpartition("/")[2].lower())
        for model, pattern in _MODELS.items():
            if re.fullmatch(pattern, plain):
                return model
    return None


def _paper_dataset(name: str, task: str, repo: str | None) -> str | None:
    if task == "chat":
        return "chat"
    for one in filter(None, (name, repo)):
        plain = re.sub(r"[^a-z0-9]", "", one.rpartition("/")[2].lower())
        for dataset in ("sst2", "emotion"):
            if plain.startswith(dataset):
                return dataset
    return None


def attacks_of(table: int, dataset: str) -> tuple[str, ...]:
    """Return the attacks that a table has on a data set."""
    if table == 7:
        return ("cba", "adaptive_cba")
    if dataset == "chat":
        return CHAT_ATTACKS
    return CLASSIFICATION_ATTACKS[:3] if table == 9 else CLASSIFICATION_ATTACKS


def in_table(table: int, cell: "Cell", roles: Roles) -> bool:
    """Whether a cell's numbers stand in one of the paper's tables, if no other id stands there before its defense."""
    dataset, attack = roles.datasets.get(cell.dataset), roles.attacks.get(cell.attack)
    defense = roles.role_of(cell.defense)
    if table == 7:
        stages = ("none",) if attack == "cba" else ("none", OWN)
        return attack in attacks_of(7, "") and dataset != "chat" and defense in stages
    if table not in COLUMNS or dataset not in _DATASETS[table] or attack not in attacks_of(table, str(dataset)):
        return False
    if table == 8:
        # The paper has LLaMA only; a model that is not in the paper has rows of its own.
        return cell.defense in roles.merges and roles.models.get(cell.model, "llama") == "llama"
    further = cell.defense in roles.further and table in (1, 2, 3, 9)
    # Time per answer is a multiple of the undefended model's.
    columns = (*COLUMNS[table], "none") if table == 9 else COLUMNS[table]
    return further or (defense is not None and defense in columns)


def in_figure(figure: int, cell: "Cell", roles: Roles) -> bool:
    """Whether a cell stands beside the points of a figure: the undefended model in one, the method in the other."""
    dataset, attack = roles.datasets.get(cell.dataset), roles.attacks.get(cell.attack)
    defense = roles.role_of(cell.defense)
    if figure == 3:
        return (dataset, attack) in (("emotion", "cba"), ("chat", "dtba")) and defense == "none"
    return dataset in ("emotion", "chat") and attack in attacks_of(2, str(dataset)) and defense == OWN


def cells_of(target: str, cells: Iterable["Cell"], roles: Roles) -> list["Cell"]:
    """Return the cells of ``table_1`` to ``table_9``, ``figure_3``, ``figure_4`` or the goal; Table 6 has models of its own."""
    if target == GOAL:
        return _goal_cells(cells, roles)
    kind, _, number = target.partition("_")
    holds = in_table if kind == "table" else in_figure
    found = [cell for cell in cells if holds(int(number), cell, roles)]
    if target == "table_7":
        # The original attack stands beside the adaptive one, and in no row of its own.
        adaptive = {(cell.model, cell.dataset) for cell in found if roles.attacks[cell.attack] != "cba"}
        found = [cell for cell in found if (cell.model, cell.dataset) in adaptive]
    if target == "table_8":
        return found
    there = {(cell.model, cell.dataset, cell.attack, cell.defense) for cell in found}
    standing = [cell for cell in found if _stands(cell, there, roles)]
    if target != "table_9":
        return standing
    rows = [(cell.model, cell.dataset, cell.attack) for cell in standing]
    timed = {(*row, roles.undefended(cell.defense, row, there)) for row, cell in zip(rows, standing, strict=True)}
    named = ((cell, (cell.model, cell.dataset, cell.attack, cell.defense)) for cell in found)
    return [cell for cell, key in named if cell in standing or key in timed]


def _goal_cells(cells: Iterable["Cell"], roles: Roles) -> list["Cell"]:
    """Return the clean-tuned model's cells where one of the further defenses is in a table."""
    there = list(cells)
    tried = {
        (cell.model, cell.dataset, cell.attack)
        for cell in there
        if cell.defense in roles.further and any(in_table(number, cell, roles) for number in (1, 2, 3))
    }
    return [c for c in there if c.defense == CLEAN_TUNED and (c.model, c.dataset, c.attack) in tried]


def _stands(cell: "Cell", there: Container[tuple[str, str, str, str]], roles: Roles) -> bool:
    """Whether a cell's defense is the one that stands for its method in its row."""
    column = cell.defense if cell.defense in roles.further else str(roles.role_of(cell.defense))
    return roles.chosen(column, (cell.model, cell.dataset, cell.attack), there) == cell.defense
