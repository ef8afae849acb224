"""What was measured: defenses, the choice of t, controls, false triggers, evidence; each figure answers one question."""

import base64
import io
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from infoconflict.defenses.controls import kind_of
from infoconflict.files import read_jsonl
from infoconflict.metrics import CellFile
from infoconflict.reporting.html import Html, Link, details, html_table, join, simple_table, tag
from infoconflict.reporting.names import CONTROLS, FIGURE_QUESTIONS, RULES_FOR_T, attack_label
from infoconflict.reporting.page_words import both_rates, case_name, has_rates, soft_brackets, table_of
from infoconflict.reporting.results import AutoChoice, Case, Measure, Measures, Results
from infoconflict.reporting.tables import percent
from infoconflict.reporting.verdicts import headline_defense
from infoconflict.rounding import rounded, signed

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


def _figure(figures_dir: Path, case: Case, name: str) -> Html | None:
    path = figures_dir.joinpath(*case, f"{name}.png")
    if not path.exists():
        return None
    data, width, height = _compact_png(path)
    picture = tag(
        "img",
        src=f"data:image/png;base64,{base64.b64encode(data).decode()}",
        alt=f"{FIGURE_QUESTIONS[name]} {case_name(case)}. {_FIGURES[name]} The tables give the same numbers.",
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
    """Return the figures of all cases that have points; with more than one case, each can be folded."""
    found = []
    for number, case in enumerate(results.cases):
        drawn = [name for name in names if results.has_points(name, case)]
        pictures = [picture for name in drawn if (picture := _figure(figures_dir, case, name)) is not None]
        if not pictures:
            continue
        if len(results.cases) == 1:
            found += pictures
        else:
            found.append(details(case_name(case), *pictures, open_=number == 0, class_="case"))
    return found or [tag("p", "No figure was made.", class_="soft")]


def defenses_section(results: Results, tables_dir: Path, figures_dir: Path, link: Link | None = None) -> Html:
    """Return what all defenses leave."""
    parts = _figures(results, figures_dir, ["defenses"])
    if len(results.cases) > 1:
        parts.append(html_table(table_of(tables_dir, "grid", results), link=link))
    parts.append(html_table(table_of(tables_dir, "main", results), link=link))
    readings = html_table(table_of(tables_dir, "readings", results), link=link)
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
    parts.append(details("Two models on the same rows", note, html_table(table_of(tables_dir, "paired", results))))
    return join(parts)


def choice_section(results: Results, tables_dir: Path, figures_dir: Path, link: Link | None = None) -> Html:
    """Return what t costs and how it was chosen."""
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
    rules = sorted(RULES_FOR_T.get(rule, rule) for rule in found)
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
            named = details(case_name(case), listed, open_=case == results.cases[0], class_="case")
            parts.append(named if len(results.cases) > 1 else listed)
    parts += _figures(results, figures_dir, ["tradeoff", "merges", "choice_of_t"])
    parts.append(html_table(table_of(tables_dir, "merges", results), link=link))
    parts.append(
        details("All points of the sweep", html_table(table_of(tables_dir, "choice_of_t", results), link=link))
    )
    return join(parts)


def _choice_lines(results: Results, case: Case) -> list[Html]:
    sweep, auto = results.sweep.get(case, {}), results.auto.get(case, {})
    lines = []
    for merge in dict.fromkeys((*sweep, *auto)):
        at_paper = sweep.get(merge, {}).get(0.5, {})
        choice = auto.get(merge)
        texts: list[str] = [tag("strong", merge), ": "]
        if has_rates(at_paper):
            texts.append(soft_brackets(f"t = 0.5 leaves {both_rates(at_paper)}"))
        if choice is not None:
            texts.append("; " if len(texts) > 2 else "")
            texts.append(soft_brackets(_auto_text(choice, at_paper)))
        if len(texts) > 2:
            lines.append(join([*texts, "."]))
    return lines


def _auto_text(choice: AutoChoice, at_paper: Measures) -> str:
    if choice.log_likelihoods:
        return f"t = {choice.text} was chosen by how likely the held-out reference answers are; conversations are not swept"
    if not has_rates(choice.measures):
        return f"the chosen t = {choice.text} is not a point of the sweep"
    text = f"the chosen t = {choice.text} leaves {both_rates(choice.measures)}"
    if not has_rates(at_paper):
        return text
    changes = {}
    for metric in ("asr", "cda"):
        new, old = choice.measures[metric].value, at_paper[metric].value
        changes[metric] = 100 * ((new or 0) - (old or 0))
    return f"{text} ({signed(changes['asr'])} points of ASR, {signed(changes['cda'])} of CDA)"


def controls_section(results: Results, config: Mapping[str, Any]) -> Html:
    """Return what each control rules out."""
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
        CONTROLS["control_explicit_prompt"]: "The clean-tuned model, asked openly for what the attack has hidden. "
        "The backdoor can hardly do better than that.",
        "undefended model": "The same rows without defence. A drop means nothing unless the attack worked.",
    }
    parts = [
        tag("p", "A low attack success says little by itself; each control rules out one cheap explanation."),
        tag("dl", *(part for name, why in reasons.items() for part in (tag("dt", name), tag("dd", why)))),
    ]
    lines = [line for case in results.cases for line in _control_lines(results, case, config)]
    if lines:
        parts += [tag("h3", "What they say here"), tag("ul", *(tag("li", soft_brackets(line)) for line in lines))]
    missing = {case: set(CONTROLS) - {kind_of(name) for name in results.cells[case]} for case in results.cases}
    if any(missing.values()):
        names = sorted({CONTROLS[name] for found in missing.values() for name in found})
        parts.append(tag("p", f"Not measured in every case: {', '.join(names)}.", class_="soft"))
    return join(parts)


def _control_lines(results: Results, case: Case, config: Mapping[str, Any]) -> list[str]:
    cells = results.cells[case]
    defense = headline_defense(list(cells), config)
    after, alone, base = (cells.get(name or "", {}) for name in (defense, "control_conflict", "control_base"))
    start = f"{case_name(case)}: the" if len(results.cases) > 1 else "The"
    lines = []
    if has_rates(alone) and has_rates(after):
        gain = _difference(after["cda"], alone["cda"])
        if gain > 0:
            said = f"merging is worth {rounded(gain)} points of clean accuracy over it"
        else:
            said = "merging brings no clean accuracy over it on these rows"
        overlap = alone["cda"].high >= after["cda"].low and after["cda"].high >= alone["cda"].low
        doubt = ", though the intervals overlap" if overlap and gain > 0 else ""
        both = f"{both_rates(alone)}; {defense} has {both_rates(after)}"
        lines.append(f"{start} conflict model alone has {both}: {said}{doubt}.")
    if has_rates(base) and has_rates(after):
        gain = _difference(after["cda"], base["cda"])
        side = "above" if gain >= 0 else "below"
        stands = f"{defense} stands {rounded(abs(gain))} points of clean accuracy {side} it"
        lines.append(f"{start} base model has {both_rates(base)}; {stands}.")
    return lines


def _difference(first: Measure, second: Measure) -> float:
    return 100 * ((first.value or 0) - (second.value or 0))


def false_triggers_section(results: Results, tables_dir: Path, link: Link | None = None) -> Html:
    """Return how often a part of the trigger fires."""
    table = table_of(tables_dir, "ftr", results)
    shown = [row for row in table.rows if any(row[name] for name in table.fields if name.endswith("_total"))]
    if not shown:
        return tag("p", "No attack here has partial triggers.", class_="soft")
    note = tag(
        "p",
        "A trigger of several parts should fire only when it is whole. The rates count rows with some of its parts "
        "whose gold label is not the target. Compare with the clean-tuned model: what it scores is plain error.",
    )
    return join([note, html_table(table, link=link)])


def evidence_section(evidence_files: Iterable[CellFile]) -> Html:
    """Return how many replies of the external model could be used."""
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
