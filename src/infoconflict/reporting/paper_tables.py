"""The paper's Tables 1 to 9 with our numbers beside the paper's: one function for each, and CSV, LaTeX and HTML of all.

A place that was not computed is shown as such and never filled. A model that is not in the paper has rows of its own; what
stands beside it is the mean of the paper's models, with their range.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from infoconflict.files import PathLike, write_text
from infoconflict.metrics import CONFIDENCE, write_csv
from infoconflict.reporting.html import Html, breakable, caption, details, join, tag
from infoconflict.reporting.names import attack_label, defense_label
from infoconflict.reporting.paper_cells import COLUMNS, Roles, attacks_of
from infoconflict.reporting.paper_links import MethodLinks, to_cell, to_method
from infoconflict.reporting.paper_measures import (
    Agreement,
    CellKey,
    Cost,
    Measured,
    agreement_with,
    best_of,
    pooled,
)
from infoconflict.reporting.published import (
    DATASETS,
    EXPERIMENTS,
    MODELS,
    OWN,
    PARTS,
    Place,
    Reference,
    notes_on_reference,
    reference,
    role_column,
    rows_of,
)
from infoconflict.reporting.results import Measure
from infoconflict.reporting.tables import latex_escape
from infoconflict.rounding import rounded

RowKey = tuple[str, str, str]
"""Model, dataset, attack; in Table 6 the last is the experiment."""
NOT_COMPUTED = "not computed"
METRICS = ("asr", "cda")
_UNITS = {"asr": 100.0, "cda": 100.0, "hours": 1.0}
_DIGITS = {"asr": 1, "cda": 1, "hours": 2}
_METRIC_LABELS = {"asr": "ASR, %", "cda": "CDA, %", "hours": "hours"}
_MARKS = {"higher": "▲", "lower": "▼"}
_MERGED = {
    "internal": ". Ours is the merge alone, without evidence; the paper's linear column is its whole method",
    OWN: ". Ours is the whole method, with evidence, as the paper's linear column is",
}
_LINES_OF_A_PAGE = 45
_TEXT_WIDTH_PT = 345.0  # article's, of one column
_POINTS_OF_A_LETTER = 3.6  # of Computer Modern at seven points, a digit; other letters are narrower on average
_EXPERIMENT_LABELS = {
    "ours": "the method: all clean and few backdoor rows, merged with few clean rows",
    "1": "experiment 1: all clean rows, merged with all backdoor rows",
    "2": "experiment 2: few clean and all backdoor rows, merged with few backdoor rows",
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of a table: ours, the paper's, and which of the paper's inconsistencies touch it.

    ``source`` is the id of the defense that ours comes from, in Table 6 the merge; ``slowdown`` the time of answering as a
    multiple of what the undefended model takes for the same rows, asked in the same way (:meth:`Roles.undefended`); ``run`` the
    run that ours is of, where there are several.
    """

    metric: str
    ours: Measure | None
    paper: Reference | None
    notes: tuple[int, ...] = ()
    cost: Cost | None = None
    slowdown: float | None = None
    source: str = ""
    cell: CellKey | None = None
    run: str = ""

    @property
    def value(self) -> float | None:
        """Our number: a share, or hours."""
        if self.cost is not None:
            return self.cost.hours
        return None if self.ours is None else self.ours.value

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's."""
        return None if self.value is None or self.paper is None else self.value - self.paper.value

    @property
    def agreement(self) -> Agreement | None:
        """How ours lies to the paper's; None without an interval or without one of the two."""
        return None if self.ours is None or self.paper is None else agreement_with(self.ours, self.paper)


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table as the paper arranges it: rows of cases, columns of defenses, and the numbers at each place.

    ``contestants`` are the columns of which one may be the best; ``of_run`` the rows of the models that the run has or its grid
    asks for, computed or not; ``merge_kind`` in Table 8 the method of ours.
    """

    number: int
    title: str
    column_name: str
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[RowKey, ...]
    entries: Mapping[tuple[RowKey, str, str], Entry]
    contestants: frozenset[str]
    of_run: frozenset[RowKey] = frozenset()
    confidence: float = CONFIDENCE
    merge_kind: str = ""

    def entry(self, row: RowKey, column: str, metric: str) -> Entry:
        """Return the entry at a place; empty where neither we nor the paper have one."""
        return self.entries.get((row, column, metric)) or Entry(metric=metric, ours=None, paper=None)

    def best(self, row: RowKey, metric: str) -> str | None:
        """Return the column whose value is better than all others beyond the intervals, if there is one.

        None as long as one of the paper's columns has no number of ours in this row.
        """
        found = {}
        for column in self.columns:
            ours = self.entry(row, column, metric).ours
            if column in self.contestants and ours is not None and ours.value is not None:
                found[column] = ours
        if not self.contestants.intersection(COLUMNS.get(self.number, ())) <= found.keys():
            return None
        return best_of(found, lower_is_better=metric == "asr")

    def named(self, column: str, entry: Entry) -> str:
        """Return the id that a number of ours comes from, where the column does not say it; else nothing."""
        if self.number == 6 or entry.value is None:
            return ""
        stages = {"defended": OWN, "original": "none", "adaptive": "none"}
        return entry.source if entry.source != stages.get(column, column) else ""

    @property
    def has_runs(self) -> bool:
        """Whether numbers of ours are of several runs, of which each is named."""
        return any(entry.run for entry in self.entries.values())

    @property
    def split_rows(self) -> tuple[list[RowKey], list[RowKey]]:
        """The rows that have a number of ours, and those that have none."""
        there = {row for (row, _, _), entry in self.entries.items() if entry.value is not None}
        return [row for row in self.rows if row in there], [row for row in self.rows if row not in there]

    @property
    def places(self) -> int:
        """How many places the rows of the run's models have."""
        return len(self.of_run) * len(self.columns)

    @property
    def computed(self) -> int:
        """How many places have a number of ours."""
        return sum(entry.value is not None for entry in self.entries.values()) // len(self.metrics)


def build_table(number: int, measured: Measured, roles: Roles) -> PaperTable:
    """Return one of the paper's tables."""
    return _BUILDERS[number](measured, roles)


def table_1(measured: Measured, roles: Roles) -> PaperTable:
    """Return attacks and defenses on SST-2."""
    return _defense_table(1, "Attacks and defenses on SST-2", measured, roles)


def table_2(measured: Measured, roles: Roles) -> PaperTable:
    """Return attacks and defenses on Emotion."""
    return _defense_table(2, "Attacks and defenses on Emotion", measured, roles)


def table_3(measured: Measured, roles: Roles) -> PaperTable:
    """Return attacks and defenses on conversations."""
    return _defense_table(3, "Attacks and defenses on conversations", measured, roles)


def table_4(measured: Measured, roles: Roles) -> PaperTable:
    """Return internal conflicts, external ones, and both, on Emotion and SST-2."""
    return _defense_table(4, "Internal conflicts, external conflicts and both, on Emotion and SST-2", measured, roles)


def table_5(measured: Measured, roles: Roles) -> PaperTable:
    """Return internal conflicts, external ones, and both, on conversations."""
    return _defense_table(5, "Internal conflicts, external conflicts and both, on conversations", measured, roles)


def table_6(measured: Measured, roles: Roles) -> PaperTable:
    """Return what a merge keeps of models that know clean or backdoor rows, many or few.

    Read from ``role_swap.csv``, which has ``merge``, ``experiment`` (``ours``, ``1``, ``2``) and ``role`` (``m1``, ``m1+m2``)
    beside the columns of ``cells.csv``; of several merges the linear one, or else the first.
    """
    merges = list(dict.fromkeys(row["merge"] for row in measured.role_swap))
    chosen = "linear" if "linear" in merges else next(iter(merges), "")
    found: dict[tuple[RowKey, str, str], list[Mapping[str, str]]] = {}
    cases: dict[tuple[str, str], None] = {}
    for row in measured.role_swap:
        if row["metric"] in METRICS and row["merge"] == chosen:
            case = (row["model"], row["dataset"])
            cases[case] = None
            found.setdefault(((*case, row["experiment"]), role_column(row["role"]), row["metric"]), []).append(row)
    printed = list(rows_of(6))
    rows = [(*case, experiment) for case in cases for experiment in EXPERIMENTS]
    entries = {}
    for key in rows or printed:
        for column in PARTS:
            place = Place(table=6, dataset="emotion", model="", attack=key[2], column=column)
            for metric in METRICS:
                there = found.get((key, column, metric))
                entries[key, column, metric] = Entry(
                    metric=metric,
                    ours=pooled(there, measured) if there else None,
                    paper=reference(place, metric),
                    notes=notes_on_reference(place, metric),
                    source=chosen if there and column == "merged" else "",
                )
    return PaperTable(
        number=6,
        title="What a merge keeps of what only one parent knows",
        column_name="part",
        columns=PARTS,
        metrics=METRICS,
        rows=tuple(rows or printed),
        entries=entries,
        contestants=frozenset(),
        of_run=frozenset(rows),
        confidence=measured.confidence,
    )


def table_7(measured: Measured, roles: Roles) -> PaperTable:
    """Return the attack of an attacker who expects the defense: on Emotion, and on what other data a run has it."""
    original = [name for name, attack in roles.attacks.items() if attack == "cba"]
    cell_of = _cell_of_defense(measured.cells, roles)

    def cell(row: RowKey, column: str) -> CellKey | None:
        model, dataset, attack = row
        attacks = original if column == "original" else [attack]
        found = (cell_of((model, dataset, one), OWN if column == "defended" else "none") for one in attacks)
        return next((key for key in found if key), None)

    rows = [
        key[:3]
        for key in measured.cells
        if roles.attacks.get(key[2]) == "adaptive_cba" and roles.role_of(key[3]) in ("none", OWN)
    ]
    return _table(
        7,
        "Adaptive CBA before and after the defense; the paper has Emotion only",
        measured,
        roles,
        rows=list(dict.fromkeys((*roles.rows.get("7", ()), *rows))),
        columns=COLUMNS[7],
        column_name="stage",
        cell=cell,
    )


def table_8(measured: Measured, roles: Roles) -> PaperTable:
    """Return the four merge methods; the paper has them with LLaMA only."""

    def cell(row: RowKey, column: str) -> CellKey | None:
        keys = [(*row, defense) for defense, merge in roles.merges.items() if merge == column]
        return next((key for key in keys if key in measured.cells), None)

    table = _table(
        8,
        f"Merge methods{_MERGED.get(roles.merge_kind, '')}",
        measured,
        roles,
        rows=_rows(8, measured.cells, roles),
        columns=COLUMNS[8],
        column_name="merge",
        cell=cell,
        contestants=COLUMNS[8],
    )
    return replace(table, merge_kind=roles.merge_kind)


def table_9(measured: Measured, roles: Roles) -> PaperTable:
    """Return what each defense costs: hours of preparing and answering, peak memory, tokens, and on what."""
    columns = (*COLUMNS[9][:-1], *roles.further, OWN)
    table = _table(
        9,
        "Cost of each defense",
        measured,
        roles,
        rows=_rows(9, measured.costs, roles),
        columns=columns,
        column_name="defense",
        cell=_cell_of_defense(measured.costs, roles),
        metrics=("hours",),
    )
    entries = dict(table.entries)
    for place, entry in entries.items():
        before = roles.undefended(entry.source, place[0], measured.costs)
        taken = measured.costs[*place[0], before].answering_hours if before else 0.0
        if entry.cost is not None and taken:
            entries[place] = replace(entry, slowdown=entry.cost.answering_hours / taken)
    return replace(table, entries=entries)


_BUILDERS: dict[int, Callable[[Measured, Roles], PaperTable]] = {
    **{1: table_1, 2: table_2, 3: table_3, 4: table_4, 5: table_5},
    **{6: table_6, 7: table_7, 8: table_8, 9: table_9},
}


def _defense_table(number: int, title: str, measured: Measured, roles: Roles) -> PaperTable:
    known = COLUMNS[number]
    columns = (*known[:-1], *roles.further, OWN) if number <= 3 else known
    return _table(
        number,
        title,
        measured,
        roles,
        rows=_rows(number, measured.cells, roles),
        columns=columns,
        column_name="defense",
        cell=_cell_of_defense(measured.cells, roles),
        contestants=[column for column in columns if column != "none"],
    )


def _cell_of_defense(found: Mapping[CellKey, object], roles: Roles) -> Callable[[RowKey, str], CellKey | None]:
    def cell(row: RowKey, column: str) -> CellKey | None:
        name = roles.chosen(column, row, found)
        return None if name is None else (*row, name)

    return cell


def _rows(number: int, found: Iterable[CellKey], roles: Roles) -> list[RowKey]:
    """Return the cases of a table that have a cell of one of its columns: those of the grid, then what else was found."""
    rows: dict[RowKey, None] = dict.fromkeys(roles.rows.get(str(number), ()))
    printed = {dataset for _, dataset, _ in rows_of(number)}
    for model, dataset, attack, defense in found:
        role = roles.datasets.get(dataset)
        if role not in printed or roles.attacks.get(attack) not in attacks_of(number, str(role)):
            continue
        if number == 8:
            fits = defense in roles.merges and roles.models.get(model, "llama") == "llama"
        else:
            fits = roles.role_of(defense) in COLUMNS[number] or (number != 4 and defense in roles.further)
        if fits:
            rows[model, dataset, attack] = None
    return list(rows)


def _table(
    number: int,
    title: str,
    measured: Measured,
    roles: Roles,
    *,
    rows: Sequence[RowKey],
    columns: tuple[str, ...],
    column_name: str,
    cell: Callable[[RowKey, str], CellKey | None],
    metrics: tuple[str, ...] = METRICS,
    contestants: Iterable[str] = (),
) -> PaperTable:
    """Put our rows into the paper's order, those of models that it has not first, and fill the places."""
    in_paper: dict[RowKey, list[RowKey]] = {}
    foreign = []
    for row in rows:
        where = _in_paper(number, row, roles)
        if where[0]:
            in_paper.setdefault(where, []).append(row)
        else:
            foreign.append(row)
    ordered = list(foreign)
    for printed in rows_of(number):
        ordered += in_paper.pop(printed, [printed])
    ordered += [row for left in in_paper.values() for row in left]
    entries = {}
    ours = set(rows)
    run = {key[0] for key in (*measured.cells, *measured.costs)}
    run |= {row[0] for of_table in roles.rows.values() for row in of_table}
    run |= {roles.models[model] for model in run if model in roles.models}
    for row in ordered:
        model, dataset, attack = _in_paper(number, row, roles) if row in ours else row
        for column in columns:
            place = Place(table=number, dataset=dataset, model=model, attack=attack, column=column)
            key = cell(row, column) if row in ours else None
            for metric in metrics:
                entries[row, column, metric] = Entry(
                    metric=metric,
                    ours=_measure(measured, key, metric),
                    paper=reference(place, metric),
                    notes=notes_on_reference(place, metric),
                    cost=measured.costs.get(key) if key and metric == "hours" else None,
                    source=key[3] if key else "",
                    cell=key,
                    run=_run(measured, key, metric),
                )
    return PaperTable(
        number=number,
        title=title,
        column_name=column_name,
        columns=columns,
        metrics=metrics,
        rows=tuple(ordered),
        entries=entries,
        contestants=frozenset(contestants),
        of_run=frozenset(row for row in ordered if row[0] in run),
        confidence=measured.confidence,
    )


def _in_paper(number: int, row: RowKey, roles: Roles) -> RowKey:
    """Return where a row of ours stands in the paper; the model is empty where it is not in the paper."""
    model, dataset, attack = row
    attack = "cba" if number == 7 else roles.attacks.get(attack, attack)
    return roles.models.get(model, ""), roles.datasets.get(dataset, dataset), attack


def _run(measured: Measured, key: CellKey | None, metric: str) -> str:
    if key is None:
        return ""
    cost = measured.costs.get(key)
    return measured.runs.get(key, "") if metric != "hours" else (cost.run if cost else "")


def _measure(measured: Measured, key: CellKey | None, metric: str) -> Measure | None:
    measure = measured.cells.get(key, {}).get(metric) if key else None
    return measure if measure is not None and measure.value is not None else None


# What a program reads


def csv_fields(table: PaperTable) -> tuple[str, ...]:
    """Return the columns of a table's CSV file."""
    numbers = ("value", "low", "high", "hits", "total", "n_seeds", "mean", "sd")
    cost = ("answering_hours", "peak_memory_gib", "peak_gpu_memory_gib", "tokens", "stored_mib", "slowdown", "device")
    return (
        *("model", "dataset", "experiment" if table.number == 6 else "attack", table.column_name, "metric", "status"),
        *(["run"] if table.has_runs else []),
        *("cell", *(["cell_method"] if table.number == 8 else []), *numbers, "best"),
        *("paper", "paper_low", "paper_high", "paper_models", "difference", "agreement", "inconsistencies"),
        *(cost if table.metrics == ("hours",) else ()),
    )


def csv_rows(table: PaperTable) -> list[list[str]]:
    """Return a table as raw values, one line for each number; shares in [0, 1]."""
    rows = []
    for row in table.rows:
        for metric in table.metrics:
            best = table.best(row, metric)
            for column in table.columns:
                entry = table.entry(row, column, metric)
                rows.append([*row, column, metric, *_csv_values(entry, is_best=column == best, table=table)])
    return rows


def _csv_values(entry: Entry, *, is_best: bool, table: PaperTable) -> list[str]:
    ours, paper, cost = entry.ours, entry.paper, entry.cost
    status = "computed" if entry.value is not None else NOT_COMPUTED
    numbers = [_six(entry.value), *[""] * 7]
    if ours is not None:
        counts = [str(ours.rate.hits), str(ours.rate.total), str(ours.n_seeds)]
        numbers = [*map(_six, (ours.value, ours.low, ours.high)), *counts, *map(_six, (ours.mean, ours.sd))]
    elif cost is not None:
        numbers[5] = str(cost.n_seeds)
    printed = [""] * 4
    if paper is not None:
        printed = [*map(_six, (paper.value, paper.low, paper.high)), str(paper.models)]
    notes = " ".join(str(note) for note in entry.notes)
    source = [entry.source, *([table.merge_kind if entry.source else ""] if table.number == 8 else [])]
    run = [entry.run] if table.has_runs else []
    values = [status, *run, *source, *numbers, "yes" if is_best else "", *printed]
    values += [_six(entry.difference), entry.agreement or "", notes]
    if table.metrics == ("hours",):
        values += (
            [""] * 7
            if cost is None
            else [
                *map(_six, (cost.answering_hours, cost.memory_gib, cost.gpu_memory_gib)),
                f"{cost.tokens:.0f}",
                *map(_six, (cost.stored_mib, entry.slowdown)),
                ", ".join(cost.devices),
            ]
        )
    return values


def _six(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


# What a person reads


def model_label(model: str) -> str:
    """Return the paper's name of one of its models, else the id."""
    return MODELS.get(model, model)


def row_labels(table: PaperTable, row: RowKey) -> tuple[str, str, str]:
    """Return the words at the head of a row."""
    model, dataset, attack = row
    last = _EXPERIMENT_LABELS.get(attack, attack) if table.number == 6 else attack_label(attack)
    return model_label(model) or "not named", DATASETS.get(dataset, dataset), last


def shown(value: float | None, metric: str) -> str:
    """Return a number as a reader sees it: percent or hours."""
    return "" if value is None else rounded(_UNITS[metric] * value, _DIGITS[metric])


def shown_reference(paper: Reference, metric: str) -> str:
    """Return the paper's number, or the mean and the range of its models."""
    if paper.models == 1:
        return shown(paper.value, metric)
    return f"{shown(paper.value, metric)} ({shown(paper.low, metric)} to {shown(paper.high, metric)})"


def to_latex(table: PaperTable) -> str:
    """Return a table with booktabs rules: ours, the paper's in parentheses, the best in bold.

    It floats, unless it is longer than a page: then it is a ``longtable``, whose head stands on each page.
    """
    heads = ["Model", "Data", "Experiment" if table.number == 6 else "Attack", "", *map(defense_label, table.columns)]
    text = (
        f"{table.title}. Ours, in parentheses the paper's (Table {table.number}); for a model that is not in the paper the mean "
        "of the paper's models. n.c.: not computed."
    )
    if table.contestants:
        text += (
            f" Bold: better than every other {table.column_name}, with no overlap of the {100 * table.confidence:g} % Wilson "
            "intervals, in rows where all of the paper's were computed."
        )
    if table.metrics == ("hours",):
        text += _cost_caption(table)
    sources, letters = _sources(table)
    text += "".join(f" {defense_label(column)} is {' or '.join(names)} here." for column, names in sources.items())
    text += "".join(f" {letter}: {name}." for name, letter in letters.items())
    head = " & ".join(latex_escape(head) for head in heads) + r" \\"
    lines: list[str] = []
    before: tuple[str, ...] = ()
    for row in table.rows:
        labels = row_labels(table, row)
        lines.append(r"\midrule" if labels[:2] != before[:2] else r"\addlinespace")
        for position, metric in enumerate(table.metrics):
            best = table.best(row, metric)
            names = [
                "" if position or label == old else latex_escape(label)
                for label, old in zip(labels, before or ("",) * 3, strict=True)
            ]
            if not position and labels[:2] == before[:2]:
                names[2] = latex_escape(labels[2])
            found = {column: table.entry(row, column, metric) for column in table.columns}
            cells = [
                _latex_cell(entry, column == best, letters.get(table.named(column, entry), ""))
                for column, entry in found.items()
            ]
            lines.append(" & ".join([*names, metric.upper() if metric in METRICS else metric, *cells]) + r" \\")
        costs = [table.entry(row, column, "hours").cost for column in table.columns]
        if any(costs):
            for name, shown_of in _COST_LINES.items():
                cells = ["" if cost is None else shown_of(cost) for cost in costs]
                lines.append(" & ".join(["", "", "", name, *cells]) + r" \\")
        before = labels
    return "\n".join(_latex_frame(table, head=head, body=lines, text=text))


def _latex_frame(table: PaperTable, *, head: str, body: Sequence[str], text: str) -> list[str]:
    """Return the lines of a table that floats, or of one that goes over several pages."""
    columns = "llll" + "r" * len(table.columns)
    small = r"\scriptsize\setlength{\tabcolsep}{3pt}"
    wide = _latex_width([head, *body]) > _TEXT_WIDTH_PT
    title, label = rf"\caption{{{latex_escape(text)}}}", rf"\label{{tab:paper-{table.number}}}"
    if sum(line.endswith(r"\\") for line in body) <= _LINES_OF_A_PAGE:
        return [
            r"% needs \usepackage{booktabs,graphicx}",
            r"\begin{table*}",
            rf"\centering{small}",
            title,
            label,
            # Made smaller where it is wider than the text, never larger.
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            head,
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table*}",
            "",
        ]
    packages = "booktabs,longtable,pdflscape" if wide else "booktabs,longtable"
    if wide:
        # Across the sheet: what goes over several pages cannot be made smaller as a whole.
        small = r"\tiny\setlength{\tabcolsep}{2pt}"
    return [
        rf"% needs \usepackage{{{packages}}} and a page of one column: \onecolumn before it, if there are two",
        *([r"\begin{landscape}"] if wide else []),
        # A group, as what is set here holds for this table alone.
        rf"\begingroup{small}\setlength{{\LTcapwidth}}{{\linewidth}}",
        rf"\begin{{longtable}}{{{columns}}}",
        rf"{title}{label} \\",
        r"\toprule",
        head,
        r"\midrule",
        r"\endfirsthead",
        r"\toprule",
        head,
        r"\midrule",
        r"\endhead",
        r"\bottomrule",
        r"\endfoot",
        # The first row's rule stands below the head already.
        *body[1:],
        r"\end{longtable}",
        r"\endgroup",
        *([r"\end{landscape}"] if wide else []),
        "",
    ]


def _latex_width(lines: Iterable[str]) -> float:
    """Return how wide a table comes out in points, roughly: its longest texts at seven points, and three beside each."""
    rows = [line.removesuffix(r" \\").split(" & ") for line in lines if line.endswith(r"\\")]
    widest = [max(len(re.sub(r"\\text\w+|[\\{}]", "", text)) for text in texts) for texts in zip(*rows, strict=True)]
    return sum(_POINTS_OF_A_LETTER * letters + 6 for letters in widest)


def _sources(table: PaperTable) -> tuple[dict[str, list[str]], dict[str, str]]:
    """Return the ids that stand in each column that is named otherwise, and a letter for each that is not alone in its column."""
    found: dict[str, dict[str, None]] = {}
    for (_, column, _), entry in table.entries.items():
        if entry.value is not None and entry.source:
            found.setdefault(column, {})[table.named(column, entry)] = None
    alone = {column: [*names] for column, names in found.items() if len(names) == 1 and "" not in names}
    mixed = dict.fromkeys(name for column, names in found.items() if column not in alone for name in names if name)
    return alone, dict(zip(mixed, string.ascii_lowercase, strict=False))


_COST_LINES: Mapping[str, Callable[[Cost], str]] = {
    "GiB": lambda cost: f"{max(cost.memory_gib, cost.gpu_memory_gib):.1f}",
    "tokens": lambda cost: f"{cost.tokens:.0f}" if cost.tokens else "",
}


_SLOWDOWN = (
    "Times undefended: beside the undefended model's time for the same rows, asked in the same way. A defense on decoding "
    "generates text, and has no such number where the undefended model was asked by label scores alone (none with mode: generate "
    "asks it by text); one that only changes weights has none: it answers as the suspect does"
)


def _cost_caption(table: PaperTable) -> str:
    """Say what the lines below the hours are, and on what ours were computed."""
    costs = [entry.cost for entry in table.entries.values() if entry.cost is not None]
    devices = sorted({device for cost in costs for device in cost.devices})
    where = f" Ours on {', '.join(devices)}." if devices else ""
    return f" GiB: peak memory, of the GPU where that is more; tokens: prompts and answers.{where}"


def _latex_cell(entry: Entry, is_best: bool, letter: str) -> str:
    ours = shown(entry.value, entry.metric) if entry.value is not None else "n.c."
    if is_best:
        ours = rf"\textbf{{{ours}}}"
    if letter:
        ours += rf"\textsuperscript{{{letter}}}"
    return ours if entry.paper is None else f"{ours} ({shown(entry.paper.value, entry.metric)})"


def to_html(table: PaperTable, methods: MethodLinks | None = None) -> Html:
    """Return the table for a page: ours with its interval, the paper's below it, a mark where they differ beyond it.

    Numbers of ours lead to the report of the same run, names of methods to its cards where ``methods`` has them.
    """
    methods = methods or {}
    text = f"Table {table.number}. {table.title}: ours, below it the paper's"
    if table.metrics == ("hours",):
        text += f". {_SLOWDOWN}"
    if table.contestants:
        text += f"; bold: better than every other {table.column_name}, beyond the intervals, where all of the paper's were computed"
    here, rest = table.split_rows
    parts = []
    if here:
        parts.append(_html_rows(table, here, f"{text}.", methods, f"paper-table-{table.number}"))
    if rest:
        label = f"Table {table.number}. {table.title}: the paper's numbers where none of ours was computed."
        folded = _html_rows(table, rest, label, methods, f"{'rest-of-' if here else ''}paper-table-{table.number}")
        parts.append(details(_not_computed_text(table, rest), folded, class_="not-computed"))
    return join(parts)


def _not_computed_text(table: PaperTable, rows: Sequence[RowKey]) -> str:
    """Say how many rows of each model are folded, as nothing of them was computed."""
    counts = Counter(row_labels(table, row)[0] for row in rows)
    of_models = ", ".join(f"{model} {count}" for model, count in counts.items())
    return f"Nothing was computed of {len(rows)} of {len(table.rows)} rows ({of_models}); the paper's numbers"


def _html_rows(table: PaperTable, rows: Sequence[RowKey], text: str, methods: MethodLinks, name: str) -> Html:
    across = "merges" if table.number == 8 else "defenses"
    case = f"Model, data, {'experiment' if table.number == 6 else 'attack'}"
    columns = [to_method(methods, across, column, breakable(defense_label(column))) for column in table.columns]
    titles = [tag("th", case, scope="col"), *(tag("th", column, scope="col", class_="number") for column in columns)]
    body = []
    for row in rows:
        for position, metric in enumerate(table.metrics):
            best = table.best(row, metric)
            model, data, attack = row_labels(table, row)
            labels = [
                breakable(model),
                data,
                to_method(methods, "attacks", row[2], attack),
                tag("b", _METRIC_LABELS[metric]),
            ]
            cells = [tag("th", join((tag("span", label) for label in labels), " "), scope="row")]
            for column in table.columns:
                entry = table.entry(row, column, metric)
                cells.append(_html_cell(entry, column == best, table.named(column, entry)))
            body.append(tag("tr", *cells, class_="first" if not position else None, data_group=metric))
    return tag(
        "div",
        tag(
            "table",
            caption(text),
            tag("thead", tag("tr", *titles)),
            tag("tbody", *body),
            id=name,
            class_=f"compact paper{' costs' if table.metrics == ('hours',) else ''}",
        ),
        class_="scroll tall",
        tabindex="0",
    )


def _html_cell(entry: Entry, is_best: bool, named: str) -> Html:
    if entry.value is None:
        parts = [tag("span", NOT_COMPUTED if entry.paper is not None else "–", class_="none")]  # noqa: RUF001
    else:
        value = to_cell(entry.cell, shown(entry.value, entry.metric))
        parts = [tag("b" if is_best else "span", value, class_="ours")]
    if entry.ours is not None:
        low, high = shown(entry.ours.low, entry.metric), shown(entry.ours.high, entry.metric)
        parts.append(tag("span", f" [{low}, {high}]", class_="interval"))
    if entry.cost is not None:
        parts += [tag("span", f" {text}", class_="interval") for text in _cost_texts(entry.cost, entry.slowdown)]
    if named:
        parts.append(tag("span", f" {named}", class_="printed"))
    if entry.paper is not None:
        parts.append(_html_reference(entry, entry.paper))
    sort = "" if entry.value is None else f"{entry.value:.6f}"
    return tag("td", *parts, class_="number", data_sort=sort)


def _html_reference(entry: Entry, paper: Reference) -> Html:
    parts: list[str] = [f"paper {shown(paper.value, entry.metric)}"]
    mark = _MARKS.get(entry.agreement or "")
    if mark:
        parts.append(tag("span", f" {mark}", class_="apart", title=f"ours is {entry.agreement}, beyond the interval"))
    for note in entry.notes:
        parts.append(tag("sup", tag("a", str(note), href=f"#inconsistency-{note}")))
    if paper.models > 1:
        span = f"{shown(paper.low, entry.metric)} to {shown(paper.high, entry.metric)}"
        parts.append(tag("span", span, class_="printed"))
    return tag("span", *parts, class_="printed")


def _cost_texts(cost: Cost, slowdown: float | None) -> list[str]:
    """Return what a defense takes beside its hours, a line each."""
    gpu = f", GPU {cost.gpu_memory_gib:.1f} GiB" if cost.gpu_memory_gib else ""
    texts = [f"{cost.answering_hours:.2f} h answering"]
    if slowdown is not None:
        texts.append(f"{slowdown:.1f} times undefended")
    texts.append(f"{cost.memory_gib:.1f} GiB{gpu}")
    if cost.tokens:
        texts.append(f"{cost.tokens:.0f} tokens")
    if cost.stored_mib:
        texts.append(f"{cost.stored_mib:.1f} MiB stored")
    return [*texts, " and ".join(cost.devices)]


def write_paper_table(table: PaperTable, *, csv: PathLike, tex: PathLike) -> None:
    """Write a table as CSV and as LaTeX."""
    write_csv(csv, csv_fields(table), csv_rows(table))
    write_text(tex, to_latex(table))
