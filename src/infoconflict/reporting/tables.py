"""Tables as CSV for programs and as LaTeX for papers; the page shows the same ones.

A table is kept twice: its fields hold raw values (counts, shares in [0, 1] with six decimals), its columns say what a
person sees (percent with one decimal, the interval behind it).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from infoconflict.agreement import Agreement
from infoconflict.files import PathLike, read_json, write_text
from infoconflict.metrics import CONFIDENCE, CellFile, Rate, metric_order, read_csv, write_csv
from infoconflict.paired import PAIRED_COLUMNS
from infoconflict.reporting.names import TABLES, UNDEFENDED, defense_label, defense_order, is_control, stage_order
from infoconflict.reporting.results import Measure, Results, read_results
from infoconflict.rounding import rounded, signed

Row = dict[str, str]
NOTHING = "–"  # noqa: RUF001 an en dash, where there is no value

_CASE = ("model", "dataset", "attack")
_PAPER_T = 0.5  # the successor's released settings (arXiv:2508.21004); the paper does not print t


@dataclass(frozen=True, kw_only=True)
class Column:
    """What a person sees of a row: a title, the text, and a number to sort by where there is one.

    ``defense`` is the defense that a column is about, in tables where a row is about all of them.
    """

    title: str
    text: Callable[[Row], str]
    number: Callable[[Row], str] | None = None
    defense: str | None = None


@dataclass(frozen=True, kw_only=True)
class Table:
    """Raw fields and the columns that show them."""

    name: str
    caption: str
    fields: tuple[str, ...]
    rows: list[Row]
    columns: list[Column]


def write_tables(
    metrics_dir: PathLike,
    chosen_t: Iterable[CellFile],
    excluded: PathLike,
    out_dir: PathLike,
    *,
    confidence: float = CONFIDENCE,
) -> list[Path]:
    """Write every table of :data:`infoconflict.reporting.names.TABLES` as ``.csv`` and ``.tex``.

    Parameters
    ----------
    metrics_dir : path
        Written by :func:`infoconflict.metrics.write_metrics`.
    chosen_t : iterable of (cell, path)
        The choices of ``t: auto``, with ``model``, ``dataset``, ``attack``, ``merge``, ``seed``.
    excluded : path
        JSON list of cells left out, with ``model``, ``dataset``, ``attack``, ``defense``, ``reason``.
    out_dir : path
        Made if absent.
    confidence : float in (0, 1)
        As given to ``write_metrics``.

    Returns
    -------
    list of Path
        The files, in the order of the tables.
    """
    results = read_results(metrics_dir, chosen_t, confidence=confidence)
    written = []
    for table in build_tables(results, read_json(excluded)):
        written += [Path(out_dir) / f"{table.name}.csv", Path(out_dir) / f"{table.name}.tex"]
        write_csv(written[-2], table.fields, ([row[name] for name in table.fields] for row in table.rows))
        write_text(written[-1], to_latex(table))
    return written


def build_tables(results: Results, excluded: Sequence[dict[str, str]]) -> list[Table]:
    """Return all tables, in the order of ``TABLES``."""
    rows = {
        "main": _main_rows(results),
        "grid": _grid_rows(results),
        "readings": _readings_rows(results),
        "paired": _paired_rows(results),
        "ftr": _ftr_rows(results),
        "merges": _merges_rows(results),
        "choice_of_t": _choice_rows(results),
        "judges": _judges_rows(results),
        "generation": _generation_rows(results),
        "costs": _costs_rows(results),
        "excluded": [{name: str(cell.get(name, "")) for name in (*_CASE, "defense", "reason")} for cell in excluded],
    }
    return [_as_table(name, _fields_of(name, results), rows[name], results.confidence) for name in TABLES]


def read_table(tables_dir: PathLike, name: str, *, confidence: float = CONFIDENCE) -> Table:
    """Read a table back from its CSV file."""
    path = Path(tables_dir) / f"{name}.csv"
    with path.open(encoding="utf-8") as lines:
        fields = tuple(lines.readline().rstrip("\n").split(","))
    return _as_table(name, fields, read_csv(path), confidence)


def percent(share: float | None, digits: int = 1) -> str:
    """Return a share in percent, without the sign."""
    return NOTHING if share is None else rounded(100 * share, digits)


def percent_with_interval(value: float | None, low: float, high: float) -> str:
    """Return ``12.3 [9.8, 15.2]``."""
    return NOTHING if value is None else f"{percent(value)} [{percent(low)}, {percent(high)}]"


# Rows


def _rate_names(prefix: str) -> tuple[str, ...]:
    return f"{prefix}_hits", f"{prefix}_total", prefix, f"{prefix}_low", f"{prefix}_high"


def _rate_values(prefix: str, measure: Measure | None) -> Row:
    if measure is None or measure.value is None:
        return dict.fromkeys(_rate_names(prefix), "")
    texts = [str(measure.rate.hits), str(measure.rate.total)]
    texts += [f"{value:.6f}" for value in (measure.value, measure.low, measure.high)]
    return dict(zip(_rate_names(prefix), texts, strict=True))


def _spread_values(prefix: str, measure: Measure | None) -> Row:
    values = {} if measure is None else {"mean": measure.mean, "sd": measure.sd}
    return {f"{prefix}_{name}": _six(values.get(name)) for name in ("mean", "sd")}


def _six(value: float | None) -> str:
    return "" if value is None else f"{value:.6f}"


def _kind(defense: str) -> str:
    return "control" if is_control(defense) else "defense"


def _defenses(results: Results) -> list[str]:
    """All defense ids of all cases, in the order that each case lists its own in."""
    return sorted({defense for case in results.cells.values() for defense in case}, key=defense_order)


_MAIN_METRICS = ("asr", "cda", "ftr", "invalid_rate")
_READINGS = ("asr", "asr_all", "asr_flipped")
_GENERATION = ("scores", "generation", "equal", "invalid_rate")


def _fields_of(name: str, results: Results) -> tuple[str, ...]:
    spread = [f"{metric}_{part}" for metric in ("asr", "cda") for part in ("mean", "sd")]
    wide = _defenses(results)
    return {
        "main": (
            *(*_CASE, "defense", "kind", "n_seeds"),
            *(field for metric in _MAIN_METRICS for field in _rate_names(metric)),
            *spread,
        ),
        "grid": (*_CASE, *(f"{defense}:{metric}" for defense in wide for metric in ("asr", "cda"))),
        "readings": (*_CASE, "defense", "kind", *(field for metric in _READINGS for field in _rate_names(metric))),
        "paired": PAIRED_COLUMNS,
        "ftr": (*_CASE, "variant", *(field for defense in wide for field in _rate_names(defense))),
        "merges": (*_CASE, "merge", "choice", "t", *_rate_names("asr"), *_rate_names("cda")),
        "choice_of_t": (
            *(*_CASE, "merge", "t", "chosen_by", "n_seeds"),
            *(field for metric in ("asr", "cda", "holdout") for field in _rate_names(metric)),
            "log_likelihood",
        ),
        "judges": (*_CASE, "claim", "first", "second", *_rate_names("equal"), "kappa", "undecided"),
        "generation": (
            *("model", "dataset", "n_seeds"),
            *(field for share in _GENERATION for field in _rate_names(share)),
            "kappa",
        ),
        "costs": ("stage", "jobs", "minutes", "longest_minutes", "peak_memory_gib", "tokens", "stored_mib"),
        "excluded": (*_CASE, "defense", "reason"),
    }[name]


def _main_rows(results: Results) -> list[Row]:
    rows = []
    for case, defenses in results.cells.items():
        for defense, found in defenses.items():
            row = dict(zip(_CASE, case, strict=True)) | {"defense": defense, "kind": _kind(defense)}
            row["n_seeds"] = str(max((measure.n_seeds for measure in found.values()), default=0))
            for metric in _MAIN_METRICS:
                row |= _rate_values(metric, found.get(metric))
            for metric in ("asr", "cda"):
                row |= _spread_values(metric, found.get(metric))
            rows.append(row)
    return rows


def _grid_rows(results: Results) -> list[Row]:
    rows = []
    for case, defenses in results.cells.items():
        row = dict(zip(_CASE, case, strict=True))
        for defense in _defenses(results):
            for metric in ("asr", "cda"):
                measure = defenses.get(defense, {}).get(metric)
                row[f"{defense}:{metric}"] = _six(measure.value if measure else None)
        rows.append(row)
    return rows


def _readings_rows(results: Results) -> list[Row]:
    rows = []
    for case, defenses in results.cells.items():
        for defense, found in defenses.items():
            row = dict(zip(_CASE, case, strict=True)) | {"defense": defense, "kind": _kind(defense)}
            for metric in _READINGS:
                row |= _rate_values(metric, found.get(metric))
            rows.append(row)
    return rows


def _paired_rows(results: Results) -> list[Row]:
    """Keep the pairs with the undefended model or with the case's last defence, the one that the result is about."""
    shown = []
    for case, defenses in results.cells.items():
        about = {UNDEFENDED, *[one for one in defenses if not is_control(one)][-1:]}
        rows = [row for row in results.paired if tuple(row[name] for name in _CASE) == case]
        rows = [row for row in rows if about & {row["first"], row["second"]}]
        # Stable: metrics and seeds keep their order.
        shown += sorted(
            rows, key=lambda row: (row["metric"], defense_order(row["first"]), defense_order(row["second"]))
        )
    return shown


def _ftr_rows(results: Results) -> list[Row]:
    rows = []
    for case, defenses in results.cells.items():
        found = {metric for measures in defenses.values() for metric in measures if metric.split(".")[0] == "ftr"}
        for metric in sorted(found, key=metric_order):
            row = dict(zip(_CASE, case, strict=True)) | {"variant": metric.partition(".")[2] or "all"}
            for defense in _defenses(results):
                row |= _rate_values(defense, defenses.get(defense, {}).get(metric))
            rows.append(row)
    return rows


def _merges_rows(results: Results) -> list[Row]:
    rows = []
    for case in dict.fromkeys((*results.sweep, *results.auto)):
        swept, auto = results.sweep.get(case, {}), results.auto.get(case, {})
        for merge in dict.fromkeys((*swept, *auto)):
            names = dict(zip(_CASE, case, strict=True)) | {"merge": merge}
            at_paper = swept.get(merge, {}).get(_PAPER_T, {})
            if at_paper:
                fixed = names | {"choice": "paper", "t": f"{_PAPER_T:g}"}
                rows.append(fixed | _rate_values("asr", at_paper.get("asr")) | _rate_values("cda", at_paper.get("cda")))
            if merge in auto:
                at_auto = auto[merge].measures
                chosen = names | {"choice": "auto", "t": auto[merge].text}
                rows.append(chosen | _rate_values("asr", at_auto.get("asr")) | _rate_values("cda", at_auto.get("cda")))
    return rows


def _choice_rows(results: Results) -> list[Row]:
    rows = []
    for case in dict.fromkeys((*results.sweep, *results.auto)):
        swept, auto = results.sweep.get(case, {}), results.auto.get(case, {})
        for merge in dict.fromkeys((*swept, *auto)):
            choice = auto.get(merge)
            points = swept.get(merge, {})
            chosen = list(choice.by_seed.values()) if choice else []
            means = choice.log_likelihoods if choice else {}
            for t in sorted({*points, *chosen, *(choice.curve if choice else ()), *means}):
                row = dict(zip(_CASE, case, strict=True)) | {"merge": merge, "t": f"{t:g}"}
                row |= {"chosen_by": str(chosen.count(t)), "n_seeds": str(len(chosen))}
                row |= _rate_values("asr", points.get(t, {}).get("asr"))
                row |= _rate_values("cda", points.get(t, {}).get("cda"))
                row |= _rate_values("holdout", choice.curve.get(t) if choice else None)
                rows.append(row | {"log_likelihood": _six(means.get(t))})
    return rows


def _judges_rows(results: Results) -> list[Row]:
    """Pool the defences and seeds of each case: what two judges say of a row does not depend on whose reply it is."""
    counts: dict[tuple[str, ...], Counter[tuple[bool, bool]]] = defaultdict(Counter)
    undecided: Counter[tuple[str, ...]] = Counter()
    names = (*_CASE, "claim", "first", "second")
    for row in results.judges:
        key = tuple(row[name] for name in names)
        undecided[key] += int(row["undecided"])
        for said, name in _JUDGED.items():
            counts[key][said] += int(row[name])
    rows = []
    for key, count in sorted(counts.items()):
        found = Agreement(count)
        share = Measure.pool([Rate(hits=found.equal, total=found.total)], results.confidence)
        row = dict(zip(names, key, strict=True)) | _rate_values("equal", share)
        rows.append(row | {"kappa": _six(found.kappa), "undecided": str(undecided[key])})
    return rows


_JUDGED = {(True, True): "both", (True, False): "first_only", (False, True): "second_only", (False, False): "neither"}


def _generation_rows(results: Results) -> list[Row]:
    by_model: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in results.generation:
        by_model[row["model"], row["dataset"]].append(row)
    rows = []
    for (model, dataset), found in sorted(by_model.items()):
        both: Counter[tuple[str, str]] = Counter()
        hits = dict.fromkeys(_GENERATION, 0)
        for row in found:
            n = int(row["rows"])
            both[row["by_scores"], row["by_generation"]] += n
            hits["scores"] += n * (row["by_scores"] == row["gold_label"])
            hits["generation"] += n * (row["by_generation"] == row["gold_label"])
            hits["equal"] += n * (row["by_scores"] == row["by_generation"])
            hits["invalid_rate"] += n * (not row["by_generation"])
        shown = {"model": model, "dataset": dataset, "n_seeds": str(len({row["seed"] for row in found}))}
        for name, count in hits.items():
            shown |= _rate_values(name, Measure.pool([Rate(hits=count, total=both.total())], results.confidence))
        rows.append(shown | {"kappa": _six(Agreement(both).kappa)})
    return rows


def _costs_rows(results: Results) -> list[Row]:
    by_stage: dict[str, list[Row]] = defaultdict(list)
    for row in results.costs:
        by_stage[row["stage"]].append(row)
    rows = []
    for stage in sorted(by_stage, key=stage_order):
        jobs = by_stage[stage]

        def numbers(name: str, jobs: list[Row] = jobs) -> list[float]:
            return [float(job[name]) for job in jobs if job[name]]

        minutes, tokens, stored = numbers("minutes"), numbers("tokens"), numbers("stored_mib")
        memory = numbers("peak_memory_gib")
        rows.append(
            {
                "stage": stage,
                "jobs": str(len(jobs)),
                "minutes": f"{sum(minutes):.3f}" if minutes else "",
                "longest_minutes": f"{max(minutes):.3f}" if minutes else "",
                "peak_memory_gib": f"{max(memory):.3f}" if memory else "",
                "tokens": f"{sum(tokens):.0f}" if tokens else "",
                "stored_mib": f"{sum(stored):.3f}" if stored else "",
            }
        )
    return rows


# What a person sees


def _as_table(name: str, fields: tuple[str, ...], rows: list[Row], confidence: float) -> Table:
    level = f"{100 * confidence:g} % Wilson intervals"
    captions = {
        "main": f"Attack success (ASR), clean accuracy (CDA), false triggers (FTR) and answers without a label, in "
        f"percent, with {level}.",
        "grid": "ASR / CDA in percent, one row per model, dataset and attack.",
        "readings": f"Three readings of the attack success rate, in percent, with {level}.",
        "paired": f"Two models on the same rows: first less second in points, with {100 * confidence:g} % intervals for paired "
        "rates (Newcombe), and McNemar's exact test, corrected by Holm for all pairs of a trial. Pairs with the undefended model "
        "or the last defence; the metric file has all.",
        "ftr": f"Non-target rows with part of the trigger, answered with the target, in percent, with {level}.",
        "merges": f"Merge methods at t = 0.5 and at the t chosen from the clean share, in percent, with {level}.",
        "choice_of_t": f"What each merge weight t costs, in percent, with {level}; held-out accuracy is all that the "
        "choice may see, and for conversations the mean log-likelihood of the reference answers, in nats per token.",
        "judges": f"How far two judges agree on the same replies: share of equal verdicts in percent, with {level}, and "
        "Cohen's kappa.",
        "generation": f"The clean-tuned model asked by label scores and by free generation on the same clean rows, in percent, "
        f"with {level}; kappa is Cohen's.",
        "costs": "Time, peak memory, tokens and stored size per stage.",
        "excluded": "Cells left out, and why.",
    }
    return Table(name=name, caption=captions[name], fields=fields, rows=rows, columns=_columns(name, fields, rows))


def _columns(name: str, fields: tuple[str, ...], rows: list[Row]) -> list[Column]:
    case = [Column(title=title, text=_field(title.lower())) for title in ("Model", "Dataset", "Attack")]
    defense = Column(title="Defence", text=lambda row: defense_label(row["defense"]))
    if name == "main":
        columns = [*case, defense, _rate("ASR", "asr"), _rate("CDA", "cda"), _rate("FTR", "ftr")]
        columns.append(_rate("No label", "invalid_rate"))
        if any(int(row["n_seeds"]) > 1 for row in rows):
            columns += [_spread("ASR, mean ± sd", "asr"), _spread("CDA, mean ± sd", "cda"), _number("Seeds", "n_seeds")]
        return columns
    if name == "grid":
        wide = list(dict.fromkeys(field.rpartition(":")[0] for field in fields if ":" in field))
        return [*case, *(_pair(defense_label(one), one) for one in wide)]
    if name == "readings":
        return [
            *(*case, defense),
            _rate("Non-target rows", "asr"),
            _rate("All rows", "asr_all"),
            _rate("Flipped rows", "asr_flipped"),
        ]
    if name == "paired":
        words = [
            Column(title="Metric", text=lambda row: row["metric"].upper()),
            Column(title="First", text=lambda row: defense_label(row["first"])),
            Column(title="Second", text=lambda row: defense_label(row["second"])),
            Column(title="First is", text=_field("verdict")),
        ]
        seed = [_number("Seed", "seed")] if len({row["seed"] for row in rows}) > 1 else []
        numbers = [_number("Rows", "rows"), _number("First only", "first_only"), _number("Second only", "second_only")]
        return [*case, *words, *seed, _points("Difference", "difference"), *numbers, _number("p (Holm)", "p_holm", 4)]
    if name == "ftr":
        wide = [field.removesuffix("_total") for field in fields if field.endswith("_total")]
        variant = Column(title="Part of the trigger", text=_field("variant"))
        return [*case, variant, *(_rate(defense_label(one), one, defense=one) for one in wide)]
    if name == "merges":
        choice = Column(title="t", text=lambda row: row["t"] if row["choice"] == "paper" else f"{row['t']} (auto)")
        return [*case, Column(title="Merge", text=_field("merge")), choice, _rate("ASR", "asr"), _rate("CDA", "cda")]
    if name == "choice_of_t":
        chosen = Column(title="Chosen", text=_chosen)
        rates = [_rate("ASR", "asr"), _rate("CDA", "cda"), _rate("Held-out accuracy", "holdout")]
        if any(row["log_likelihood"] for row in rows):
            rates.append(_number("Held-out log-likelihood", "log_likelihood", 3))
        return [*case, Column(title="Merge", text=_field("merge")), _number("t", "t"), chosen, *rates]
    if name == "judges":
        words = [Column(title=title, text=_field(field)) for title, field in _JUDGES_WORDS]
        return [*case, *words, _rate("Equal", "equal"), _number("Kappa", "kappa", 2), _number("Undecided", "undecided")]
    if name == "generation":
        rates = [
            *(_rate("Accuracy by scores", "scores"), _rate("Accuracy by generation", "generation")),
            *(_rate("Equal answers", "equal"), _rate("No label", "invalid_rate")),
        ]
        return [*case[:2], *rates, _number("Kappa", "kappa", 2)]
    if name == "costs":
        return [
            Column(title="Stage", text=_field("stage")),
            _number("Jobs", "jobs"),
            _number("Minutes", "minutes", 2),
            _number("Longest", "longest_minutes", 2),
            _number("Peak memory, GiB", "peak_memory_gib", 2),
            _number("Tokens", "tokens", 0),
            _number("Stored, MiB", "stored_mib", 1),
        ]
    reason = Column(title="Reason", text=_field("reason"))
    return [*case, defense, reason]


_JUDGES_WORDS = (("Claim", "claim"), ("Judge", "first"), ("Other judge", "second"))


def _field(name: str) -> Callable[[Row], str]:
    return lambda row: row[name]


def _number(title: str, name: str, digits: int | None = None) -> Column:
    def text(row: Row) -> str:
        if not row[name]:
            return NOTHING
        return (
            row[name] if digits is None else f"{float(row[name]):,.{digits}f}".replace(",", "\N{NARROW NO-BREAK SPACE}")
        )

    return Column(title=title, text=text, number=_field(name))


def _rate(title: str, name: str, *, defense: str | None = None) -> Column:
    def text(row: Row) -> str:
        if not row[name]:
            return NOTHING
        return percent_with_interval(float(row[name]), float(row[f"{name}_low"]), float(row[f"{name}_high"]))

    return Column(title=title, text=text, number=_field(name), defense=defense)


def _points(title: str, name: str) -> Column:
    def text(row: Row) -> str:
        value, low, high = (signed(100 * float(row[part])) for part in (name, "low", "high"))
        return f"{value} [{low}, {high}]"

    return Column(title=title, text=text, number=_field(name))


def _spread(title: str, name: str) -> Column:
    def text(row: Row) -> str:
        if not row[f"{name}_mean"]:
            return NOTHING
        mean = percent(float(row[f"{name}_mean"]))
        return f"{mean} ± {percent(float(row[f'{name}_sd']))}" if row[f"{name}_sd"] else mean

    return Column(title=title, text=text, number=_field(f"{name}_mean"))


def _pair(title: str, name: str) -> Column:
    def text(row: Row) -> str:
        both = [row[f"{name}:asr"], row[f"{name}:cda"]]
        return " / ".join(percent(float(one) if one else None) for one in both) if any(both) else NOTHING

    return Column(title=title, text=text, number=_field(f"{name}:asr"), defense=name)


def _chosen(row: Row) -> str:
    times, seeds = int(row["chosen_by"]), int(row["n_seeds"])
    if not times:
        return ""
    return "auto" if seeds == 1 else f"auto, {times} of {seeds} seeds"


# LaTeX

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "\N{MINUS SIGN}": r"$-$",
    NOTHING: "--",
    "\N{NARROW NO-BREAK SPACE}": r"\,",
    "\n": " ",
}


def latex_escape(text: str) -> str:
    """Return ``text`` so that LaTeX prints it."""
    escaped = "".join(_LATEX.get(letter, letter) for letter in text)
    # A bracket that opens a line would be read as an option of the \\ before it.
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def to_latex(table: Table) -> str:
    """Return a floating table with booktabs rules; repeated names of a group are left blank."""
    keys = [column.title for column in table.columns if column.number is None]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering\small",
        rf"\caption{{{latex_escape(table.caption)}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        rf"\begin{{tabular}}{{{''.join('l' if column.title in keys else 'r' for column in table.columns)}}}",
        r"\toprule",
        " & ".join(latex_escape(column.title) for column in table.columns) + r" \\",
        r"\midrule",
    ]
    before: Row | None = None
    for row in table.rows:
        if before and "model" in row:
            if any(row.get(name) != before.get(name) for name in _CASE):
                lines.append(r"\midrule")
            elif row.get("kind") != before.get("kind") or row.get("merge") != before.get("merge"):
                lines.append(r"\addlinespace")
        same_case = before is not None and "model" in row and all(row.get(name) == before.get(name) for name in _CASE)
        texts = []
        for position, column in enumerate(table.columns):
            repeated = same_case and position < len(_CASE)
            texts.append("" if repeated else latex_escape(column.text(row)))
        lines.append(" & ".join(texts) + r" \\")
        before = row
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}", ""]
    return "\n".join(lines)
