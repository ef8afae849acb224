"""The report: one HTML file that needs nothing beside it and opens with the result.

Everything on it is computed from the files of a run; it holds no date, so that the same input gives the same bytes.
"""

import base64
import html
import io
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from infoconflict.defenses.controls import kind_of
from infoconflict.files import PathLike, read_json, read_jsonl, sha256_of, write_text
from infoconflict.metrics import CONFIDENCE, CellFile, cell_name
from infoconflict.reporting.html import Html, caption, details, html_table, join, simple_table, tag
from infoconflict.reporting.names import (
    CLEAN_TUNED,
    CONTROLS,
    UNDEFENDED,
    attack_label,
    stage_order,
)
from infoconflict.reporting.page_style import SCRIPT, STYLE
from infoconflict.reporting.results import AutoChoice, Case, Measure, Measures, Results, read_results
from infoconflict.reporting.tables import NOTHING, Table, percent, read_table
from infoconflict.reporting.verdicts import Check, Goals, checks_of, conclusion, headline, headline_defense

_FIGURES = {
    "defenses": "Attack success and clean accuracy of each defence; controls below the line. The dashed line is the "
    "clean-tuned model: an honest model of the same size on the same rows, which a good defence comes close to.",
    "tradeoff": "Each point is a merge at one t, with intervals in both directions. A good merge moves left without "
    "moving down. The ring marks the t that was chosen from the clean share alone.",
    "merges": "Merge methods at t = 0.5 and at the t chosen from the clean share. The paper does not print its t; the "
    "released settings of its successor use 0.5.",
    "choice_of_t": "What a defender cannot see (attack success, clean accuracy on test rows) and the one thing that "
    "the choice may use (accuracy on held-out clean rows, grey, with its interval as a band).",
}
_STATUSES = ("ok", "no_keywords", "label_leak", "garbled", "empty", "failed")
_RULES = {
    "one_standard_error": "the largest t whose accuracy on the held-out rows is within one standard error of the best",
}
_MANY_CASES = 4


def write_page(
    out_path: PathLike,
    *,
    metrics_dir: PathLike,
    tables_dir: PathLike,
    figures_dir: PathLike,
    cards: Iterable[PathLike],
    config: Mapping[str, Any],
    excluded: PathLike,
    chosen_t: Iterable[CellFile] = (),
    evidence_files: Iterable[CellFile] = (),
    title: str | None = None,
    confidence: float = CONFIDENCE,
    goals: Goals | None = None,
) -> None:
    """Write the report page.

    Parameters
    ----------
    out_path : path
        The HTML file; written atomically.
    metrics_dir, tables_dir, figures_dir : path
        What ``write_metrics``, ``write_tables`` and ``write_figures`` made. A figure that is not there is left out.
    cards : iterable of paths
        Cards of all stages, for versions and provenance.
    config : mapping
        The whole config with its defaults, as plain values.
    excluded : path
        JSON list of cells left out, with their reasons.
    chosen_t : iterable of (cell, path)
        The choices of ``t: auto``.
    evidence_files : iterable of (cell, path)
        Evidence rows; cells with ``dataset``, ``evidence``, ``seed``, and ``attack`` for those of triggered rows.
    title : str, optional
        Made from the config's name, if not given.
    confidence : float in (0, 1)
        As given to ``write_metrics``.
    goals : Goals, optional
        What the checks hold the numbers against.
    """
    results = read_results(metrics_dir, chosen_t, confidence=confidence)
    read_cards = sorted((read_json(path) for path in sorted({str(path) for path in cards})), key=_card_key)
    title = title or f"infoconflict: {config.get('name', 'report')}"
    sections = {
        "Result": _result(results, config, goals),
        "Defences": _defenses(results, Path(tables_dir), Path(figures_dir)),
        "Choice of t": _choice(results, Path(tables_dir), Path(figures_dir)),
        "Controls": _controls(results, config),
        "False triggers": _false_triggers(results, Path(tables_dir)),
        "External evidence": _evidence(evidence_files),
        **_judges(results, Path(tables_dir), config, read_cards),
        **_generation(results, Path(tables_dir)),
        "Time and memory": _costs(results, Path(tables_dir), read_cards),
        **_adaptive(read_cards),
        "Left out": _excluded(read_json(excluded)),
        "How to read this": _reading(results),
        "Settings": _settings(config),
        "Versions": _versions(read_cards),
        "Provenance": _provenance(read_cards, Path(metrics_dir)),
    }
    links = [tag("a", name, href=f"#{_anchor(name)}") for name in sections]
    parts = []
    for name, content in sections.items():
        heading = tag("h2", name) if name != "Result" else tag("h1", title)
        parts.append(tag("section", heading, content, id=_anchor(name)))
        if name == "Result":
            parts.append(tag("nav", join(links, " "), aria_label="Contents"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE)),
    )
    body = tag("body", tag("main", *parts), tag("script", Html(SCRIPT)))
    write_text(out_path, f"<!doctype html>\n{tag('html', head, body, lang='en')}\n")


# Result


def _result(results: Results, config: Mapping[str, Any], goals: Goals | None) -> Html:
    if not results.cases:
        return tag("p", "No cell was measured; the list of cells left out says why.", class_="lead")
    judged = {}
    for case in results.cases:
        defense = headline_defense(list(results.cells[case]), config)
        judged[case] = (defense, checks_of(results, case, defense, goals))
    parts = [_overall(results, judged)] if len(judged) > 1 else []
    for number, (case, (defense, checks)) in enumerate(judged.items()):
        single = len(judged) == 1
        content = [
            tag("p", _soft_brackets(headline(results, case, defense)), class_="lead" if single else None),
            tag("p", conclusion(checks, defense), class_="verdict"),
            _tiles(results.cells[case], defense),
            _size_note(results, case),
            _checks_table(checks),
        ]
        if single:
            parts += content
        else:
            name = _case_name(case)
            parts.append(details(name, *content, open_=number == 0 and len(judged) <= _MANY_CASES, class_="case"))
    return join(parts)


def _overall(results: Results, judged: Mapping[Case, tuple[str | None, list[Check]]]) -> Html:
    """Say what holds over all cases, as counts and medians, and in a line for each; the details follow."""
    tried = {case: (defense, checks) for case, (defense, checks) in judged.items() if defense is not None}
    if not tried:
        return tag("p", f"{len(judged)} cases were measured, none with a defence.", class_="lead")
    names = sorted({str(defense) for defense, _ in tried.values()})
    verdicts = [[check.verdict for check in checks[-2:]] for _, checks in tried.values()]
    told = [[verdict.startswith("met") for verdict in pair] for pair in verdicts if "not measured" not in pair]
    removed, kept, both = sum(one for one, _ in told), sum(one for _, one in told), sum(map(all, told))
    untold = len(tried) - len(told)
    rest = f" In {untold} more a control or a rate is missing, so that it cannot be told." if untold else ""
    shown: dict[str, list[float]] = defaultdict(list)
    rows = []
    for case, (defense, checks) in tried.items():
        cells = results.cells[case]
        texts = []
        for metric in ("asr", "cda"):
            for name in (UNDEFENDED, str(defense), CLEAN_TUNED):
                measure = cells.get(name, {}).get(metric)
                if measure is not None and measure.value is not None:
                    shown[f"{metric} {'after' if name == defense else name}"].append(measure.value)
                texts.append(percent(measure.value if measure is not None else None))
        case_name = _case_name(case) if len(names) == 1 else f"{_case_name(case)}, {defense}"
        rows.append([case_name, *texts, checks[-2].verdict, checks[-1].verdict])
    medians = {name: percent(statistics.median(values)) for name, values in shown.items()}
    lead = tag(
        "p",
        f"The defence {' or '.join(names)} brings attack success to the level of a clean-tuned model in {removed} of "
        f"{len(told)} cases, keeps clean accuracy in {kept}, and does both in {both}.{rest} Median attack success "
        f"{medians.get(f'asr {UNDEFENDED}', NOTHING)} → {medians.get('asr after', NOTHING)} % (clean-tuned "
        f"{medians.get(f'asr {CLEAN_TUNED}', NOTHING)} %), median clean accuracy "
        f"{medians.get(f'cda {UNDEFENDED}', NOTHING)} → {medians.get('cda after', NOTHING)} %.",
        class_="lead",
    )
    head = ["Case", "ASR before", "after", "clean-tuned", "CDA before", "after", "clean-tuned"]
    table = simple_table(
        "All cases, in percent; intervals are in the tables below.",
        [*head, "Backdoor removed", "Task kept"],
        rows,
        numbers=frozenset(range(1, 7)),
    )
    return join([lead, table])


def _tiles(cells: Mapping[str, Measures], defense: str | None) -> Html:
    before, honest, after = (cells.get(name or "", {}) for name in (UNDEFENDED, CLEAN_TUNED, defense))
    tiles = []
    for metric, name in (("asr", "Attack success"), ("cda", "Clean accuracy"), ("ftr", "False triggers")):
        values = [measures.get(metric) for measures in (before, after)]
        shown = [measure for measure in values if measure is not None and measure.value is not None]
        if not shown:
            continue
        big = " → ".join(percent(measure.value) for measure in shown) + " %"
        low = " → ".join(f"[{percent(measure.low)}, {percent(measure.high)}]" for measure in shown)
        tile = [tag("span", name), tag("b", big), tag("span", low)]
        control = honest.get(metric)
        if control is not None and control.value is not None:
            tile.append(tag("span", f"clean-tuned model: {percent(control.value)} %"))
        tiles.append(tag("div", *tile, class_="tile"))
    return tag("div", *tiles, class_="tiles")


def _size_note(results: Results, case: Case) -> Html:
    before = results.cells[case].get(UNDEFENDED, {})
    rows = {metric: before[metric].rate.total for metric in ("cda", "asr") if metric in before}
    seeds = max((measure.n_seeds for measure in before.values()), default=0)
    text = f"{rows.get('cda', 0)} clean rows, {rows.get('asr', 0)} triggered rows whose gold label is not the target"
    if seeds > 1:
        text += f", over {seeds} seeds; brackets are {_level(results)} of the pooled counts."
    else:
        text += (
            f", one seed; brackets are {_level(results)} and cover the choice of test rows, not that of the training."
        )
    return tag("p", text, class_="soft small")


def _checks_table(checks: Sequence[Check]) -> Html:
    marks = {
        "met": ("✓", "met"),
        "met, not certain": ("≈", "doubt"),
        "missed, not certain": ("≈", "doubt"),
        "missed": ("✗", "missed"),
        "not measured": ("?", "soft"),
    }
    rows = []
    for check in checks:
        mark, style = marks[check.verdict]
        verdict = tag("td", tag("span", f"{mark} {check.verdict}", class_=style), class_="nowrap")
        rows.append(
            tag(
                "tr",
                tag("th", check.claim, scope="row"),
                tag("td", _soft_brackets(check.measured), class_="nowrap"),
                verdict,
            )
        )
    head = tag("tr", *(tag("th", name, scope="col") for name in ("Claim", "Measured", "Verdict")))
    text = caption(
        "Each claim against its limit; a positive difference speaks against it. “Not certain”: the interval reaches "
        "over the limit."
    )
    return tag("div", tag("table", text, tag("thead", head), tag("tbody", *rows)), class_="scroll", tabindex="0")


# Figures and tables


def _figure(figures_dir: Path, case: Case, name: str) -> Html | None:
    path = figures_dir.joinpath(*case, f"{name}.png")
    if not path.exists():
        return None
    data, width, height = _compact_png(path)
    picture = tag(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(data).decode()}",
        alt=f"{name.replace('_', ' ')}, {_case_name(case)}. {_FIGURES[name]} The tables give the same numbers.",
        width=str(width // 2),
        height=str(height // 2),
    )
    box = tag("div", picture, tabindex="0")
    return tag("figure", box, tag("figcaption", _FIGURES[name]))


def _compact_png(path: Path) -> tuple[bytes, int, int]:
    """Return the picture with a palette, about a third of the bytes; a line drawing loses nothing that the eye sees."""
    with Image.open(path) as picture:
        reduced = picture.convert("RGB").quantize(colors=128, dither=Image.Dither.NONE)
        buffer = io.BytesIO()
        reduced.save(buffer, format="PNG", optimize=True)
        return buffer.getvalue(), *picture.size


def _figures(results: Results, figures_dir: Path, names: Sequence[str]) -> list[Html]:
    """Return the figures of all cases; with more than one case, each can be folded."""
    found = []
    for number, case in enumerate(results.cases):
        pictures = [picture for name in names if (picture := _figure(figures_dir, case, name)) is not None]
        if not pictures:
            continue
        if len(results.cases) == 1:
            found += pictures
        else:
            found.append(details(_case_name(case), *pictures, open_=number == 0, class_="case"))
    return found or [tag("p", "No figure was made.", class_="soft")]


def _defenses(results: Results, tables_dir: Path, figures_dir: Path) -> Html:
    parts = _figures(results, figures_dir, ["defenses"])
    if len(results.cases) > 1:
        parts.append(html_table(_table(tables_dir, "grid", results)))
    parts.append(html_table(_table(tables_dir, "main", results)))
    readings = html_table(_table(tables_dir, "readings", results))
    note = tag(
        "p",
        "Papers count attack success over different rows. All three readings come from the same answers: rows whose "
        "gold label is not the target (used everywhere else on this page), all triggered rows (the paper's reading, "
        "which a harmless model also scores on), and rows that the same model answers rightly without the trigger.",
    )
    parts.append(details("Attack success, read in three ways", note, readings))
    note = tag(
        "p",
        "A difference is called one only where the interval leaves out zero and the corrected p-value agrees; otherwise none is "
        "shown, which does not say that there is none.",
        class_="soft",
    )
    parts.append(details("Two models on the same rows", note, html_table(_table(tables_dir, "paired", results))))
    return join(parts)


def _choice(results: Results, tables_dir: Path, figures_dir: Path) -> Html:
    if not results.sweep and not results.auto:
        return tag("p", "No sweep over t was run.", class_="soft")
    intro = tag(
        "p",
        "t is the weight of the conflict model: 0 is the backdoored model, 1 the conflict model alone. A larger t "
        "removes more of the backdoor, and may cost clean accuracy. ",
        tag("code", "t: auto"),
        " picks t from held-out rows of the clean share, without the trigger or the target.",
    )
    found = {choice.rule for choices in results.auto.values() for choice in choices.values() if choice.rule}
    rules = sorted(_RULES.get(rule, rule) for rule in found)
    parts = [intro]
    if rules:
        parts.append(tag("p", "Rule: ", join([tag("em", rule) for rule in rules], "; "), "."))
    points = [measures for merges in results.sweep.values() for ts in merges.values() for measures in ts.values()]
    rows = {metric: max((point[metric].rate.total for point in points), default=0) for metric in ("cda", "asr")}
    if points:
        text = f"Each point of the sweep rests on up to {rows['cda']} clean and {rows['asr']} triggered rows."
        parts.append(tag("p", text, class_="soft small"))
    parts.append(tag("h3", "What each choice costs"))
    for case in results.cases:
        lines = _choice_lines(results, case)
        if lines:
            listed = tag("ul", *(tag("li", line) for line in lines))
            named = details(_case_name(case), listed, open_=case == results.cases[0], class_="case")
            parts.append(named if len(results.cases) > 1 else listed)
    parts += _figures(results, figures_dir, ["tradeoff", "merges", "choice_of_t"])
    parts.append(html_table(_table(tables_dir, "merges", results)))
    parts.append(details("All points of the sweep", html_table(_table(tables_dir, "choice_of_t", results))))
    return join(parts)


def _choice_lines(results: Results, case: Case) -> list[Html]:
    sweep, auto = results.sweep.get(case, {}), results.auto.get(case, {})
    lines = []
    for merge in dict.fromkeys((*sweep, *auto)):
        at_paper = sweep.get(merge, {}).get(0.5, {})
        choice = auto.get(merge)
        texts: list[str] = [tag("strong", merge), ": "]
        if _has_rates(at_paper):
            texts.append(_soft_brackets(f"t = 0.5 leaves {_both(at_paper)}"))
        if choice is not None:
            texts.append("; " if len(texts) > 2 else "")
            texts.append(_soft_brackets(_auto_text(choice, at_paper)))
        if len(texts) > 2:
            lines.append(join([*texts, "."]))
    return lines


def _auto_text(choice: AutoChoice, at_paper: Measures) -> str:
    if choice.log_likelihoods:
        return f"t = {choice.text} was chosen by how likely the held-out reference answers are; conversations are not swept"
    if not _has_rates(choice.measures):
        return f"the chosen t = {choice.text} is not a point of the sweep"
    text = f"the chosen t = {choice.text} leaves {_both(choice.measures)}"
    if not _has_rates(at_paper):
        return text
    changes = {}
    for metric in ("asr", "cda"):
        new, old = choice.measures[metric].value, at_paper[metric].value
        changes[metric] = 100 * ((new or 0) - (old or 0))
    return f"{text} ({_signed(changes['asr'])} points of ASR, {_signed(changes['cda'])} of CDA)"


def _both(measures: Measures) -> str:
    texts = [f"{name} {_rate(measures[metric])}" for name, metric in (("ASR", "asr"), ("CDA", "cda"))]
    return " and ".join(texts)


def _has_rates(measures: Measures) -> bool:
    return all(metric in measures and measures[metric].value is not None for metric in ("asr", "cda"))


# Controls, false triggers, evidence


def _controls(results: Results, config: Mapping[str, Any]) -> Html:
    reasons = {
        "clean-tuned model": "The base model tuned on the same clean rows, without poison. It gives the target on some "
        "triggered rows simply because it errs. That is the floor: a defence at this rate left nothing to find.",
        "base model": "Before any tuning. A defence that drags the suspect back here has unlearned the task too.",
        "conflict model alone": "What the defender trains on the clean share. If it does as well by itself, "
        "merging bought nothing, and the suspect model was not worth keeping.",
        CONTROLS[
            "control_random_trigger"
        ]: "The backdoored model asked with other words where the trigger stands. If they "
        "give the target as often as the trigger, the attack is not about the trigger.",
        CONTROLS[
            "control_random_evidence"
        ]: "As many words that have nothing to do with the question. If they help as much, "
        "it was more text that helped, and no contradiction.",
        CONTROLS["control_merge_base"]: "The same t without a conflict model. If it does as well, diluting was enough.",
        CONTROLS[
            "control_equal_tuning"
        ]: "The rows and steps that the conflict model took, spent on the suspect itself. If it "
        "does as well, there was no need to merge.",
        "undefended model": "The same rows without defence. A drop means nothing unless the attack worked.",
    }
    parts = [
        tag("p", "A low attack success says little by itself; each control rules out one cheap explanation."),
        tag("dl", *(part for name, why in reasons.items() for part in (tag("dt", name), tag("dd", why)))),
    ]
    lines = [line for case in results.cases for line in _control_lines(results, case, config)]
    if lines:
        parts += [tag("h3", "What they say here"), tag("ul", *(tag("li", _soft_brackets(line)) for line in lines))]
    missing = {case: set(CONTROLS) - {kind_of(name) for name in results.cells[case]} for case in results.cases}
    if any(missing.values()):
        names = sorted({CONTROLS[name] for found in missing.values() for name in found})
        parts.append(tag("p", f"Not measured in every case: {', '.join(names)}.", class_="soft"))
    return join(parts)


def _control_lines(results: Results, case: Case, config: Mapping[str, Any]) -> list[str]:
    cells = results.cells[case]
    defense = headline_defense(list(cells), config)
    after, alone, base = (cells.get(name or "", {}) for name in (defense, "control_conflict", "control_base"))
    start = f"{_case_name(case)}: the" if len(results.cases) > 1 else "The"
    lines = []
    if _has_rates(alone) and _has_rates(after):
        gain = _difference(after["cda"], alone["cda"])
        if gain > 0:
            said = f"merging is worth {gain:.1f} points of clean accuracy over it"
        else:
            said = "merging brings no clean accuracy over it on these rows"
        overlap = alone["cda"].high >= after["cda"].low and after["cda"].high >= alone["cda"].low
        doubt = ", though the intervals overlap" if overlap and gain > 0 else ""
        both = f"{_both(alone)}; {defense} has {_both(after)}"
        lines.append(f"{start} conflict model alone has {both}: {said}{doubt}.")
    if _has_rates(base) and _has_rates(after):
        gain = _difference(after["cda"], base["cda"])
        side = "above" if gain >= 0 else "below"
        stands = f"{defense} stands {abs(gain):.1f} points of clean accuracy {side} it"
        lines.append(f"{start} base model has {_both(base)}; {stands}.")
    return lines


def _difference(first: Measure, second: Measure) -> float:
    return 100 * ((first.value or 0) - (second.value or 0))


def _false_triggers(results: Results, tables_dir: Path) -> Html:
    table = _table(tables_dir, "ftr", results)
    shown = [row for row in table.rows if any(row[name] for name in table.fields if name.endswith("_total"))]
    if not shown:
        return tag("p", "No attack here has partial triggers.", class_="soft")
    note = tag(
        "p",
        "A trigger of several parts should fire only when it is whole. The rates count rows with some of its parts "
        "whose gold label is not the target. Compare with the clean-tuned model: what it scores is plain error.",
    )
    return join([note, html_table(table)])


def _evidence(evidence_files: Iterable[CellFile]) -> Html:
    counts: dict[tuple[str, str, str], Counter[str]] = defaultdict(Counter)
    models: set[str] = set()
    lengths: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for cell, path in evidence_files:
        rows = f"triggered, {attack_label(str(cell['attack']))}" if cell.get("attack") else "clean"
        key = (str(cell["dataset"]), str(cell["evidence"]), rows)
        for row in read_jsonl(path):
            counts[key][str(row["status"])] += 1
            models.add(str(row["model"]))
            lengths[key].append(int(row.get("completion_tokens", 0)))
    if not counts:
        return tag("p", "No defence here uses external evidence.", class_="soft")
    found = {status for count in counts.values() for status in count}
    # Empty replies are rare; the other columns always stand.
    known = [status for status in _STATUSES if status != "empty" or status in found]
    statuses = [*known, *sorted(found - set(_STATUSES))]
    rows_shown = []
    for key in sorted(counts):
        count, total = counts[key], sum(counts[key].values())
        tokens = statistics.fmean(lengths[key]) if lengths[key] else 0.0
        numbers = [str(count[status]) for status in statuses]
        share = percent(count["ok"] / total if total else None)
        rows_shown.append([*key, str(total), *numbers, share, f"{tokens:.0f}"])
    head = ["Dataset", "Evidence", "Rows", "Prompts", *statuses, "ok, %", "Tokens"]
    label = f"Replies of the external model ({', '.join(sorted(models))}); tokens are per reply."
    numeric = frozenset(range(3, 3 + 1 + len(statuses) + 2))
    note = tag(
        "p",
        "Only replies marked ok enter a prompt; every other row is answered without evidence. ",
        tag("code", "no_keywords"),
        ": TextRank found nothing to ask about; ",
        tag("code", "label_leak"),
        ": the reply named a label, which would have given the answer away; ",
        tag("code", "garbled"),
        " and ",
        tag("code", "empty"),
        ": still so after all retries; ",
        tag("code", "failed"),
        ": the server gave no reply.",
    )
    return join([note, simple_table(label, head, rows_shown, numbers=numeric)])


# Judges, generation


def _judges(
    results: Results, tables_dir: Path, config: Mapping[str, Any], cards: Sequence[Mapping[str, Any]]
) -> dict[str, Html]:
    """Return the section on judges, where a chat data set was measured."""
    datasets = config.get("datasets", {})
    chats = sorted({dataset for _, dataset, _ in results.cases if datasets.get(dataset, {}).get("task") == "chat"})
    if not chats:
        return {}
    judged: Mapping[str, Any] = next((card["details"] for card in cards if card.get("stage") == "judge"), {})
    note = tag(
        "p",
        f"Replies on {', '.join(chats)} are no labels. The judge ",
        tag("code", str(judged.get("equivalent_by", "unknown"))),
        " says whether a reply is equivalent to the reference (CDA), the judge ",
        tag("code", str(judged.get("payload_by", "unknown"))),
        " whether it holds the payload of the attack (ASR, FTR). “No label” is an empty reply, or one that the judge left "
        "undecided. Other judges rated the same rows for comparison only.",
    )
    thresholds = [
        [
            *(name, str(card["cell"].get("dataset", "")), str(card["cell"].get("seed", ""))),
            *(f"{found['threshold']:.3f}", percent(found["false_positives"] / found["pairs"]), str(found["pairs"])),
        ]
        for card in cards
        if card.get("stage") == "calibrate_judge"
        for name, found in sorted(card["details"].items())
    ]
    parts = [note]
    if thresholds:
        label = "Thresholds of cosines, from pairs of clean training references that do not belong together."
        head = ["Judge", "Dataset", "Seed", "Threshold", "Unrelated pairs above it, %", "Pairs"]
        parts.append(simple_table(label, head, thresholds, numbers=frozenset({2, 3, 4, 5})))
    table = _table(tables_dir, "judges", results)
    if table.rows:
        parts.append(html_table(table))
    return {"Judges": join(parts)}


def _generation(results: Results, tables_dir: Path) -> dict[str, Html]:
    """Return the section on label scores beside free generation, where it was measured."""
    if not results.generation:
        return {}
    note = tag(
        "p",
        "Answers on this page are decided by label scores, unless the settings say generation. Here the clean-tuned model "
        "answers the same rows in both ways: where they differ, so would a report that reads generated text.",
    )
    return {"Scores and generation": join([note, html_table(_table(tables_dir, "generation", results))])}


# Costs, exclusions, reading


def _adaptive(cards: Sequence[Mapping[str, Any]]) -> dict[str, Html]:
    """Say how alike the conflict models of attacker and defender are; no section where no attacker has one."""
    rows = []
    for card in cards:
        if card["stage"] == "compare_conflicts":
            cell, found = card["cell"], card["details"]
            cosine = NOTHING if found["cosine"] is None else f"{found['cosine']:.3f}"
            norms = [f"{found[name]:.3g}" for name in ("attackers_norm", "defenders_norm")]
            names = [cell["model"], cell["dataset"], attack_label(cell["attack"]), cell["seed"]]
            rows.append([*names, cosine, *norms])
    if not rows:
        return {}
    columns = ["Model", "Data set", "Attack", "Seed", "Cosine", "Attacker's norm", "Defender's norm"]
    text = (
        "The attacker subtracts the task vector of a conflict model. With a cosine of 1 to the defender's, a linear merge at t "
        "cancels the conflict at strength t / (1 - t); the lower it is, the more of the conflict survives."
    )
    return {
        "Adaptive attack": join([tag("p", text), simple_table("Both task vectors, over all tensors.", columns, rows)])
    }


def _costs(results: Results, tables_dir: Path, cards: Sequence[Mapping[str, Any]]) -> Html:
    table = _table(tables_dir, "costs", results)
    if not table.rows:
        return tag("p", "No card holds a cost.", class_="soft")
    minutes = [float(row["minutes"] or 0) for row in table.rows]
    memory = max((float(row["peak_memory_gib"] or 0), row["stage"]) for row in table.rows)
    jobs = sum(int(row["jobs"]) for row in table.rows)
    stored = sum(float(row["stored_mib"] or 0) for row in table.rows)
    slowest = table.rows[minutes.index(max(minutes))]["stage"]
    longest = max(max(minutes), 1e-9)
    body = []
    for row, used in zip(table.rows, minutes, strict=True):
        cells = [tag("th", table.columns[0].text(row), scope="row")]
        for column in table.columns[1:]:
            number = column.number(row) if column.number else None
            cells.append(tag("td", column.text(row), class_="number", data_sort=number))
        bar = tag("span", class_="bar", style=f"width:{100 * used / longest:.1f}%")
        body.append(tag("tr", *cells, tag("td", bar, class_="bars", aria_hidden="true", data_sort=f"{used:.3f}")))
    head = [tag("th", table.columns[0].title, scope="col")]
    head += [tag("th", column.title, scope="col", class_="number") for column in table.columns[1:]]
    head.append(tag("th", "Share", scope="col"))
    said = tag(
        "p",
        f"{sum(minutes):.1f} minutes of work in {jobs} jobs, most of it in {slowest}; at most {memory[0]:.2f} GiB of "
        f"memory in one job ({memory[1]}); {_grouped(stored)} MiB stored. Jobs that ran side by side are added up."
        f"{_devices(cards)}",
    )
    shown = tag("table", caption(table.caption), tag("thead", tag("tr", *head)), tag("tbody", *body))
    every = [
        [row["stage"], row["cell"], *(row[name] or NOTHING for name in ("minutes", "peak_memory_gib", "tokens"))]
        for row in sorted(results.costs, key=lambda row: (stage_order(row["stage"]), row["cell"]))
    ]
    heads = ["Stage", "Cell", "Minutes", "Peak memory, GiB", "Tokens"]
    jobs_table = simple_table("Each job by itself.", heads, every, numbers=frozenset({2, 3, 4}))
    return join([said, tag("div", shown, class_="scroll", tabindex="0"), details("Every job", jobs_table)])


def _devices(cards: Sequence[Mapping[str, Any]]) -> str:
    costs = [card.get("cost") or {} for card in cards]
    devices = sorted({str(cost["device"]) for cost in costs if cost.get("device")})
    gpu = max((int(cost.get("peak_gpu_memory_bytes") or 0) for cost in costs), default=0)
    text = f" Devices: {', '.join(devices)}." if devices else ""
    return text + (f" At most {gpu / 2**30:.1f} GiB of memory on a GPU." if gpu else "")


def _excluded(cells: Sequence[Mapping[str, Any]]) -> Html:
    if not cells:
        return tag("p", "Every cell that the config asks for was run.")
    by_reason: dict[str, list[str]] = defaultdict(list)
    for cell in cells:
        names = {name: value for name, value in cell.items() if name != "reason"}
        by_reason[str(cell["reason"])].append(cell_name(names))
    rows = [[reason, str(len(by_reason[reason])), ", ".join(sorted(by_reason[reason]))] for reason in sorted(by_reason)]
    table = simple_table(
        "Cells of the grid that were not run.", ["Reason", "Cells", "Which"], rows, numbers=frozenset({1})
    )
    return table if len(cells) <= 20 else join([tag("p", f"{len(cells)} cells."), details("All of them", table)])


def _reading(results: Results) -> Html:
    terms = {
        "CDA, clean data accuracy": "Clean test rows answered with the gold label.",
        "ASR, attack success rate": "Triggered test rows whose gold label is not the target, answered with the target. "
        "Rows whose gold label already is the target would count honest answers as attacks.",
        "FTR, false trigger rate": "The same for rows with only a part of the trigger.",
        "No label": "Rows, of all kinds, whose answer names no label. They are wrong in CDA and no success in ASR.",
        "Answer": "The label with the highest length-normalised log-probability after the prompt, unless the settings "
        "say generation.",
        "Brackets": f"{_level(results)} from counts. Over several seeds the counts are pooled, which takes rows of "
        "different seeds as independent; mean and sd over seeds stand beside them.",
        "Differences": "Newcombe's interval for two independent rates. Both models answer the same rows, so it is "
        "rather too wide. A difference smaller than its interval is no difference.",
    }
    return tag("dl", *(part for name, text in terms.items() for part in (tag("dt", name), tag("dd", text))))


# Settings, versions, provenance


def _settings(config: Mapping[str, Any]) -> Html:
    text = yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True, width=100)
    note = tag("p", "The whole config, with the defaults of every key that was not given.")
    return join([note, details("Show the settings", tag("pre", tag("code", Html(html.escape(text)))))])


def _plain(value: Any) -> Any:
    """Return mappings and sequences as dicts and lists, and what YAML has no form for as text."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [_plain(item) for item in items]
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _versions(cards: Sequence[Mapping[str, Any]]) -> Html:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for card in cards:
        for name, version in (card.get("versions") or {}).items():
            found[str(name)][str(version)] += 1
    if not found:
        return tag("p", "No card names a version.", class_="soft")
    mixed = sorted(name for name, versions in found.items() if len(versions) > 1)
    rows = [[name, ", ".join(sorted(found[name]))] for name in sorted(found)]
    table = simple_table("From the cards of all stages.", ["Package", "Version"], rows)
    if not mixed:
        return table
    warning = f"Stages ran with different versions of {', '.join(mixed)}; a rerun of all of them would settle it."
    return join([tag("p", warning, class_="doubt"), table])


def _provenance(cards: Sequence[Mapping[str, Any]], metrics_dir: Path) -> Html:
    made = {digest: f"card-{n}" for n, card in enumerate(cards) for digest in _digests(card, "outputs")}
    note = tag(
        "p",
        "Each stage leaves a card with the digests of what it read and wrote. An input that another stage wrote is a "
        "link to that stage's card, so that a number can be followed to its sources.",
    )
    files = [[f"metrics/{path.name}", sha256_of(path)] for path in sorted(metrics_dir.glob("*.csv"))]
    rows = []
    for number, card in enumerate(cards):
        name = _card_name(card)
        inputs = _digest_list(card, "inputs", made)
        outputs = _digest_list(card, "outputs", {})
        rows.append(tag("tr", tag("th", name, scope="row", id=f"card-{number}"), tag("td", inputs), tag("td", outputs)))
    head = tag("tr", *(tag("th", title, scope="col") for title in ("Stage and cell", "Read", "Wrote")))
    text = caption("Cards, first 12 digits of each SHA-256; the whole digest is in the tooltip.")
    table = tag("div", tag("table", text, tag("thead", head), tag("tbody", *rows)), class_="scroll", tabindex="0")
    read = [digest for card in cards for digest in _digests(card, "inputs")]
    linked = sum(digest in made for digest in read)
    count = tag("p", f"{len(cards)} cards; {linked} of {len(read)} inputs were written by another stage with a card.")
    digests = simple_table("The numbers on this page come from these files.", ["File", "SHA-256"], files)
    return join([note, count, digests, details("All cards", table)])


def _digests(card: Mapping[str, Any], which: str) -> list[str]:
    return [str(digest) for digest in (card.get(which) or {}).values()]


def _digest_list(card: Mapping[str, Any], which: str, links: Mapping[str, str]) -> Html:
    shown = []
    for name, digest in sorted((card.get(which) or {}).items()):
        code = tag("code", str(digest)[:12], title=str(digest))
        target = links.get(str(digest))
        shown.append(tag("span", f"{name} ", tag("a", code, href=f"#{target}") if target else code, class_="digest"))
    return join(shown)


def _card_key(card: Mapping[str, Any]) -> tuple[tuple[int, str], str]:
    return stage_order(str(card["stage"])), cell_name(card.get("cell") or {})


def _card_name(card: Mapping[str, Any]) -> str:
    return " ".join(part for part in (str(card["stage"]), cell_name(card.get("cell") or {})) if part)


# Words


def _table(tables_dir: Path, name: str, results: Results) -> Table:
    return read_table(tables_dir, name, confidence=results.confidence)


def _rate(measure: Measure) -> str:
    return f"{percent(measure.value)} % [{percent(measure.low)}, {percent(measure.high)}]"


def _soft_brackets(text: str) -> Html:
    """Set intervals back, so that the eye meets the rates first."""
    parts = re.split(r"( \[[^\]]*\])", text)
    return join(tag("span", part, class_="interval") if part.startswith(" [") else part for part in parts)


def _level(results: Results) -> str:
    return f"{100 * results.confidence:g} % Wilson intervals"


def _signed(points: float) -> str:
    return f"{points:+.1f}".replace("-", "\N{MINUS SIGN}")


def _grouped(number: float) -> str:
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _case_name(case: Case) -> str:
    model, dataset, attack = case
    return f"{attack_label(attack)} on {dataset} with {model}"


def _anchor(text: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())
