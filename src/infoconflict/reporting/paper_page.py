"""The page "paper and ours": one HTML file that holds each number of the paper beside ours, and opens with its claims."""

import base64
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infoconflict.files import PathLike, write_text
from infoconflict.reporting.html import Html, caption, details, join, simple_table, tag
from infoconflict.reporting.names import RULES_FOR_T, attack_label, defense_label
from infoconflict.reporting.paper_cells import Roles
from infoconflict.reporting.paper_claims import CLAIM_MARKS, Claim, claims_of, own_values
from infoconflict.reporting.paper_figures import has_paper_points, share_curves
from infoconflict.reporting.paper_html import PAPER_STYLE, inconsistency_list
from infoconflict.reporting.paper_links import REPORT, MethodLinks, beside, method_links, table_page, to_cell, to_run
from infoconflict.reporting.paper_measures import Measured, mean_of
from infoconflict.reporting.paper_tables import (
    NOT_COMPUTED,
    Entry,
    PaperTable,
    RowKey,
    build_table,
    row_labels,
    shown,
    shown_reference,
    to_html,
)
from infoconflict.reporting.published import DATASETS, MODELS, SOURCE, column_values
from infoconflict.reporting.results import Measure
from infoconflict.reporting.tables import percent, percent_with_interval
from infoconflict.reporting.verdicts import Verdict
from infoconflict.reporting.whole_page import whole_page
from infoconflict.rounding import signed

NOTHING = "–"  # noqa: RUF001 an en dash, where there is no value
_PAPER_HARDWARE = "one NVIDIA A100 with 80 GB (section 4.2)"


def write_paper_page(
    out_path: PathLike,
    *,
    measured: Measured,
    roles: Roles,
    config: Mapping[str, Any],
    figures: Mapping[str, PathLike],
) -> None:
    """Write the page.

    Parameters
    ----------
    out_path : path
        The HTML file; written atomically.
    measured : Measured
        All that was computed for the paper's tables and figures.
    roles : Roles
        The paper's names for the ids of the config.
    config : mapping
        The whole config with its defaults, as plain values; for what differs in the setting.
    figures : mapping of str to path
        PNG files of ``figure_3`` and ``figure_4``; one that is not there is left out.
    """
    tables = {number: build_table(number, measured, roles) for number in range(1, 10)}
    methods = method_links(config)
    title = f"Paper and ours: {config.get('name', 'report')}"
    sections = {
        "Claims": _claims(claims_of(tables, measured, roles, (config.get("paper") or {}).get("reasons")), tables),
        "What differs": _settings(measured, roles, config),
        **{f"Table {number}": _table(table, methods) for number, table in tables.items()},
        "Figures 3 and 4": _figures(figures, measured, roles, config),
        "The paper's inconsistencies": inconsistency_list(),
        "How to read this": _reading(measured),
    }
    write_text(out_path, whole_page(title, sections, style=PAPER_STYLE, contents_first=True))


# Claims


def _claims(claims: Sequence[Claim], tables: Mapping[int, PaperTable]) -> Html:
    papers = [claim for claim in claims if not claim.is_goal]
    places = sum(table.places for table in tables.values())
    computed = sum(table.computed for table in tables.values())
    lead = (
        f"Of {len(papers)} claims of the paper, {_told(claims)}. "
        f"{computed} of the {places} places that the tables have for the models of this run were computed."
    )
    rows = []
    for claim in claims:
        mark, style = CLAIM_MARKS[claim.verdict]
        paper = (
            [claim.paper]
            if claim.paper_holds
            else [claim.paper, tag("span", " (not in its own tables)", class_="doubt")]
        )
        reason = [tag("span", f"Why: {claim.reason}", class_="printed")] if claim.reason else []
        rows.append(
            tag(
                "tr",
                tag("th", claim.text, tag("span", claim.where, class_="printed"), scope="row"),
                tag("td", tag("span", mark, class_=style)),
                tag("td", claim.ours, *reason, class_="wide", data_head="Ours"),
                tag("td", *paper, class_="wide", data_head="Paper"),
                tag("td", claim.rows, class_="nowrap", data_head="Rows computed"),
            )
        )
    heads = [tag("th", name, scope="col") for name in ("Claim", "Here", "Ours", "Paper", "Rows computed")]
    text = caption(
        "What the paper claims, and whether it holds in this run. Means are over the rows of a table that have a number, with "
        f"{100 * tables[1].confidence:g} % intervals; “not certain”: the interval reaches over the limit, or some of the paper's "
        "defenses were not computed. Rows: those of the models of this run. What is said to be ours is no claim of the paper."
    )
    table = tag("table", text, tag("thead", tag("tr", *heads)), tag("tbody", *rows), id="table-claims")
    links = beside(tag("a", "The report of this run", href=REPORT), ": what its numbers were counted from.")
    return join([tag("p", lead, class_="lead"), links, tag("div", table, class_="scroll", tabindex="0")])


def _told(claims: Sequence[Claim]) -> str:
    """Say how many claims of the paper can be told, and how they come out."""
    counts = Counter(claim.verdict for claim in claims if not claim.is_goal)
    told = counts.total() - counts["not measured"]
    words: tuple[tuple[Verdict, str, str], ...] = (
        ("met", "holds", "hold"),
        ("met, not certain", "holds but not for certain", "hold but not for certain"),
        ("missed, not certain", "does not hold, but not for certain", "do not hold, but not for certain"),
        ("missed", "does not hold", "do not hold"),
    )
    found = [
        f"{counts[verdict]} {one if counts[verdict] == 1 else many}" for verdict, one, many in words if counts[verdict]
    ]
    return f"{told} can be told from what was computed" + (f": {'; '.join(found)}" if found else "")


# What differs


def _settings(measured: Measured, roles: Roles, config: Mapping[str, Any]) -> Html:
    models = [_model_line(name, roles, config) for name in dict.fromkeys(key[0] for key in measured.cells)]
    rows = [
        ["Models", ", ".join(MODELS.values()), "; ".join(models) or NOT_COMPUTED],
        ["Test rows", "not stated; chat moves in steps of 0.5 %, as 200 rows do", _rows_line(measured)],
        ["Seeds", "not stated; no spread is printed", _seeds_line(measured)],
        ["Hardware", _PAPER_HARDWARE, _hardware(measured)],
        ["Data", ", ".join(DATASETS.values()), _data_line(measured, roles, config)],
        ["Clean share of the defender", "10 %", _share_line(config)],
        ["Merging", "linear; the weight t is not printed", _merge_line(roles, config)],
        ["External model", "GPT-3.5", _evidence_line(config)],
        ["Attack success", "rows not stated", "triggered rows whose gold label is not the target"],
        ["Judge of conversations", "GPT-3.5", _judge_line(config)],
    ]
    return simple_table("The setting of the paper and of this run.", ["", "Paper", "Here"], rows)


def _model_line(name: str, roles: Roles, config: Mapping[str, Any]) -> str:
    entry = (config.get("models") or {}).get(name) or {}
    origin = entry.get("repo") or entry.get("package") or entry.get("path") or entry.get("architecture")
    known = roles.models.get(name)
    said = f"the paper's {MODELS[known]}" if known else "not in the paper"
    return f"{name} ({', '.join(filter(None, (origin, said)))})"


def _rows_line(measured: Measured) -> str:
    found: dict[str, dict[str, set[int]]] = {}
    for (_, dataset, _, _), measures in measured.cells.items():
        for metric in ("cda", "asr"):
            measure = measures.get(metric)
            if measure is not None and measure.rate.total:
                # The rows of one seed; pooled counts are those of all seeds.
                found.setdefault(dataset, {}).setdefault(metric, set()).add(measure.rate.total // measure.n_seeds)
    texts = []
    for dataset, metrics in found.items():
        both = [
            f"{_span(metrics[name])} {word}"
            for name, word in (("cda", "clean"), ("asr", "triggered"))
            if name in metrics
        ]
        texts.append(f"{dataset}: {', '.join(both)}")
    return "; ".join(texts) or NOT_COMPUTED


def _span(counts: set[int]) -> str:
    return str(min(counts)) if len(counts) == 1 else f"{min(counts)} to {max(counts)}"


def _seeds_line(measured: Measured) -> str:
    counts = {one.n_seeds for measures in measured.cells.values() for one in measures.values() if one.rate.total}
    return f"{_span(counts)} per cell" if counts else NOT_COMPUTED


def _hardware(measured: Measured) -> str:
    devices = {device for cost in measured.costs.values() for device in cost.devices}
    return ", ".join(sorted(devices)) or NOT_COMPUTED


def _data_line(measured: Measured, roles: Roles, config: Mapping[str, Any]) -> str:
    texts = []
    for name in dict.fromkeys(key[1] for key in measured.cells):
        entry = (config.get("datasets") or {}).get(name) or {}
        origin = entry.get("repo") or entry.get("package") or entry.get("source") or ""
        place = DATASETS.get(roles.datasets.get(name, ""), "no table")
        texts.append(f"{name}{f' ({origin})' if origin else ''} in the place of {place}")
    return "; ".join(texts) or NOT_COMPUTED


def _share_line(config: Mapping[str, Any]) -> str:
    share = (config.get("clean_share") or {}).get("share")
    return f"{100 * share:g} %" if isinstance(share, int | float) else NOTHING


def _merge_line(roles: Roles, config: Mapping[str, Any]) -> str:
    merges = config.get("merges") or {}
    texts = []
    for name in dict.fromkeys((*roles.defenses, *roles.further)):
        merge = merges.get(((config.get("defenses") or {}).get(name) or {}).get("merge"))
        if merge:
            texts.append(f"{name}: {merge['method']}, {_t_of(merge)}")
    rule = (config.get("choose_t") or {}).get("rule")
    if rule and any("t chosen" in text for text in texts):
        texts.append(f"chosen: {RULES_FOR_T.get(rule, rule)}")
    return "; ".join(texts) or NOTHING


def _t_of(merge: Mapping[str, Any]) -> str:
    t, profile = merge.get("t", "auto"), merge.get("depth_profile")
    said = "t chosen on clean rows" if t == "auto" else f"t = {t:g}"
    if not profile:
        return said
    return f"{said}, times {', '.join(f'{factor:g}' for factor in profile)} from the first block to the last"


def _evidence_line(config: Mapping[str, Any]) -> str:
    texts = []
    for name, entry in (config.get("evidence") or {}).items():
        provider = entry.get("provider") or {}
        texts.append(f"{name}: {provider.get('model') or provider.get('kind', '')}")
    return "; ".join(texts) or NOTHING


def _judge_line(config: Mapping[str, Any]) -> str:
    evaluation = config.get("evaluation") or {}
    kinds = [(evaluation.get(name) or {}).get("kind") for name in ("judge", "payload_judge")]
    words = ("equivalence", "payload")
    return ", ".join(f"{word}: {kind}" for word, kind in zip(words, kinds, strict=True) if kind) or NOTHING


# Tables


def _table(table: PaperTable, methods: MethodLinks) -> Html:
    parts = []
    if not table.computed:
        parts.append(tag("p", "No place of this table was computed.", class_="soft"))
    parts.append(to_html(table, methods))
    parts.append(beside(tag("a", f"Table {table.number} alone", href=table_page(table.number))))
    if table.contestants:
        parts.append(_means(table))
    rows = [
        _line(table, row, column, metric)
        for row in table.rows
        for metric in table.metrics
        for column in table.columns
        if table.entry(row, column, metric).value is not None
    ]
    if rows:
        apart = sum(row[-2] not in ("agrees", NOTHING) for row in rows)
        text = f"Cell by cell: {len(rows)} numbers" + (f", {apart} beyond the interval" if table.contestants else "")
        heads = [
            "Model",
            "Data",
            "Case",
            table.column_name.capitalize(),
            "Metric",
            "Paper",
            "Ours",
            "From",
            "Difference",
        ]
        list_of = simple_table(
            f"Table {table.number}, every number that was computed.",
            [*heads, "Against the paper", "Inconsistency"],
            rows,
            numbers=frozenset({5, 6, 8}),
            groups=[row[4] for row in rows],
        )
        parts.append(details(text, list_of, class_="case"))
    return join(parts)


def _line(table: PaperTable, row: RowKey, column: str, metric: str) -> list[str]:
    entry = table.entry(row, column, metric)
    paper = NOTHING if entry.paper is None else shown_reference(entry.paper, metric)
    notes = ", ".join(str(note) for note in entry.notes)
    place = [*row_labels(table, row), defense_label(column), metric.upper() if metric != "hours" else metric]
    return [
        *place,
        paper,
        _ours(entry),
        join([to_cell(entry.cell, _from(entry)), *([", ", to_run(entry.run)] if entry.run else [])]),
        _difference(entry),
        entry.agreement or NOTHING,
        notes,
    ]


def _ours(entry: Entry) -> str:
    value = shown(entry.value, entry.metric)
    if entry.ours is None:
        return value
    return f"{value} [{shown(entry.ours.low, entry.metric)}, {shown(entry.ours.high, entry.metric)}]"


def _from(entry: Entry) -> str:
    """Say what our number comes from: counts of one seed, mean and spread of several, and how many seeds."""
    ours = entry.ours
    if ours is None:
        return "" if entry.cost is None else _seeds(entry.cost.n_seeds)
    if ours.n_seeds > 1 and ours.mean is not None and ours.sd is not None:
        return f"{percent(ours.mean)} ± {percent(ours.sd)} over {ours.n_seeds} seeds"
    return f"{ours.rate.hits} of {ours.rate.total}, {ours.n_seeds} seed{'' if ours.n_seeds == 1 else 's'}"


def _seeds(count: int) -> str:
    return "1 seed" if count == 1 else f"mean of {count} seeds"


def _difference(entry: Entry) -> str:
    if entry.difference is None:
        return NOTHING
    return signed(entry.difference, 2) if entry.metric == "hours" else signed(100 * entry.difference)


def _means(table: PaperTable) -> Html:
    """Return means and worst cells of each column, as the paper's text has them."""
    rows = []
    for column in table.columns:
        texts = [defense_label(column)]
        for metric in ("asr", "cda"):
            printed = column_values(table.number, column, metric)
            ours = own_values(table, column, metric)
            texts += [
                percent(sum(printed) / len(printed)) if printed else NOTHING,
                _mean_text(ours),
                percent(_worst(printed, metric)) if printed else NOTHING,
                percent(_worst([float(one.value or 0) for one in ours], metric)) if ours else NOT_COMPUTED,
            ]
        rows.append([*texts, f"{len(own_values(table, column, 'asr'))} of {len(table.of_run)}"])
    heads = [table.column_name.capitalize()]
    for metric in ("ASR", "CDA"):
        heads += [f"Mean {metric}, paper", f"Mean {metric}, ours", f"Worst {metric}, paper", f"Worst {metric}, ours"]
    text = (
        f"Table {table.number}, means and worst cells of each column in percent. The paper's are over all of its rows, ours over "
        "those that were computed."
    )
    return simple_table(text, [*heads, "Rows computed"], rows, numbers=frozenset(range(1, 9)))


def _mean_text(ours: Sequence[Measure]) -> str:
    if not ours:
        return NOT_COMPUTED
    return percent_with_interval(*mean_of(ours))


def _worst(values: Iterable[float], metric: str) -> float:
    return max(values) if metric == "asr" else min(values)


# Figures and notes


def _figures(figures: Mapping[str, PathLike], measured: Measured, roles: Roles, config: Mapping[str, Any]) -> Html:
    diamond = (
        "the diamond is what its tables have at 10 %"
        if has_paper_points(measured, roles)
        else "none of the numbers in its tables belongs to a curve here"
    )
    words = {
        "figure_3": "Attack success and clean accuracy over the share of clean rows that the defender holds. The paper prints "
        f"no values; {diamond}.{_other_draws(measured, config)}",
        "figure_4": "Clean accuracy of the method, and of the external model when it is asked the task itself, zero-shot. The "
        "paper prints the improvement alone, 31.39 % on Emotion and 11 % on conversations, and does not say whether in points or "
        "in percent of the external model's.",
    }
    found = []
    for name, text in words.items():
        path = figures.get(name)
        if path is None or not Path(path).exists():
            found.append(tag("p", f"{name.replace('_', ' ').capitalize()}: {NOT_COMPUTED}.", class_="soft"))
            continue
        data = base64.b64encode(Path(path).read_bytes()).decode()
        picture = tag("img", src=f"data:image/png;base64,{data}", alt=f"{text} The CSV file has the same numbers.")
        found.append(tag("figure", tag("div", picture, tabindex="0"), tag("figcaption", text)))
    return join(found)


def _other_draws(measured: Measured, config: Mapping[str, Any]) -> str:
    """Say where the curve's point at the config's own share is not the tables' cell: what was trained anew is another draw."""
    share = (config.get("clean_share") or {}).get("share", 0.0)
    texts = []
    for case, points in share_curves(measured).items():
        for metric, point in points.get(share, {}).items():
            cell = measured.cells.get(case, {}).get(metric)
            if cell is not None and cell.rate.total and cell.rate != point.rate:
                _, dataset, attack, defense = case
                texts.append(
                    f"{metric.upper()} of {defense} against {attack_label(attack)} on {dataset} is {percent(point.value)} % here "
                    f"and {percent(cell.value)} % in the tables"
                )
    return (
        f" Trained anew, a point at {100 * share:g} % is another draw than the tables' cell: {'; '.join(texts)}."
        if texts
        else ""
    )


def _reading(measured: Measured) -> Html:
    level = f"{100 * measured.confidence:g} %"
    texts = [
        f"Brackets are {level} Wilson intervals of the counts, pooled over seeds (of one seed's, where every seed asks the same "
        "test rows), and from three seeds on at least as wide as the interval of the mean over seeds (t distribution). The paper "
        "prints no counts, so that its own doubt is unknown.",
        "▲ and ▼ mark a number of ours that lies above or below the paper's beyond the interval. For a model that is not in the "
        "paper, the paper's number is the mean of its models with their range (four as a rule; in Table 8 LLaMA alone), the mark "
        "means beyond that range, and the notes are those of all numbers that the mean is of.",
        "Attack success is counted over triggered rows whose gold label is not the target. The paper does not say over which rows "
        "it counts; numbers near zero beside a high clean accuracy are only possible without rows of the target.",
        f"“{NOT_COMPUTED.capitalize()}” is a place without a run. Nothing is filled in.",
        "Hours are those of the jobs that a defender runs, and of answering the test rows; a conflict model that several cells "
        "share counts in full for each.",
        "A number of ours leads to the report of the same run, which says what it was counted from; the name of a method leads "
        "to its card there. Table 6 is no part of the report: the cards of its jobs lie beside their results, in role_swap.",
        f"The paper: {SOURCE}.",
    ]
    return tag("ul", *(tag("li", text) for text in texts))
