"""What stands around the measurements: judges, costs, what was left out, how to read it, settings, versions."""

import html
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from infoconflict.metrics import cell_name
from infoconflict.reporting.html import Html, caption, details, html_table, join, simple_table, tag
from infoconflict.reporting.names import attack_label, stage_order
from infoconflict.reporting.page_words import grouped, level, table_of
from infoconflict.reporting.results import Results
from infoconflict.reporting.tables import NOTHING, percent


def judges_section(
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
    table = table_of(tables_dir, "judges", results)
    if table.rows:
        parts.append(html_table(table))
    return {"Judges": join(parts)}


def generation_section(results: Results, tables_dir: Path) -> dict[str, Html]:
    """Return the section on label scores beside free generation, where it was measured."""
    if not results.generation:
        return {}
    note = tag(
        "p",
        "Answers on this page are decided by label scores, unless the settings say generation. Here the clean-tuned model "
        "answers the same rows in both ways: where they differ, so would a report that reads generated text.",
    )
    return {"Scores and generation": join([note, html_table(table_of(tables_dir, "generation", results))])}


def adaptive_section(cards: Sequence[Mapping[str, Any]]) -> dict[str, Html]:
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


def costs_section(results: Results, tables_dir: Path, cards: Sequence[Mapping[str, Any]]) -> Html:
    """Return time and memory, by stage and by job."""
    table = table_of(tables_dir, "costs", results)
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
        f"memory in one job ({memory[1]}); {grouped(stored)} MiB stored. Jobs that ran side by side are added up."
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


def excluded_section(cells: Sequence[Mapping[str, Any]]) -> Html:
    """Return the cells that were left out, by reason."""
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


def reading_section(results: Results) -> Html:
    """Return what the terms mean."""
    terms = {
        "CDA, clean data accuracy": "Clean test rows answered with the gold label.",
        "ASR, attack success rate": "Triggered test rows whose gold label is not the target, answered with the target. "
        "Rows whose gold label already is the target would count honest answers as attacks.",
        "FTR, false trigger rate": "The same for rows with only a part of the trigger.",
        "No label": "Rows, of all kinds, whose answer names no label. They are wrong in CDA and no success in ASR.",
        "Answer": "The label with the highest length-normalised log-probability after the prompt, unless the settings "
        "say generation.",
        "Brackets": f"{level(results)} from counts. Over several seeds the counts are pooled, which takes rows of "
        "different seeds as independent; mean and sd over seeds stand beside them.",
        "Differences": "Newcombe's interval for two independent rates. Both models answer the same rows, so it is "
        "rather too wide. A difference smaller than its interval is no difference.",
    }
    return tag("dl", *(part for name, text in terms.items() for part in (tag("dt", name), tag("dd", text))))


def settings_section(config: Mapping[str, Any]) -> Html:
    """Return the whole config."""
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


def versions_section(cards: Sequence[Mapping[str, Any]]) -> Html:
    """Return the versions that the cards name."""
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
