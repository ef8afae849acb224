"""The model card (README.md) that a purified model is handed on with."""

from pathlib import PurePath
from typing import TYPE_CHECKING

import yaml

from infoconflict.merging.depth import in_words
from infoconflict.metrics import Rate
from infoconflict.reporting.tables import percent

if TYPE_CHECKING:
    from infoconflict.purify.report import Story


def model_card(story: "Story") -> str:
    """Return a model card: what this is made of, how, what was measured, and what nobody knows.

    Folders of this machine are left out: only the last part of a path is named.
    """
    settings, measures = story.settings, story.measures
    model, base = short(settings["model"]), short(settings["base"])
    head = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["infoconflict", "merge"]}
    counts = story.card("purify_rows")["rows"]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).strip(),
        "---",
        f"# {model}, purified",
        "",
        f"The weights of `{model}` merged with those of a conflict model: an adapter of `{base}` tuned on {counts['train']} "
        f"clean rows. Method `{settings['merge']['method']}`, weight of the conflict model t = {story.chosen['t']:g}"
        f"{in_words(settings['merge'])} "
        f"({'given' if story.chosen['rule'] == 'given' else 'chosen on ' + str(counts['holdout']) + ' other clean rows'}), "
        f"seed {settings['seed']}. Config, tokenizer, chat template and generation settings are the base's.",
        "",
        "## What was measured",
        "",
    ]
    if measures.right:
        lines += ["| model | clean accuracy, % | 95 % interval |", "| --- | ---: | --- |"]
        lines += [_line(role, measures.right[role]) for role in ("suspect", "purified", "conflict", "base")]
    lines += [
        f"- {role}: {loss.value:.3f} [{loss.low:.3f}, {loss.high:.3f}] nats a token of the rows' own answers"
        for role, loss in measures.losses.items()
    ]
    if story.inspection["other_tokenizer"]:
        lines += [
            "",
            f"`{model}` came with another tokenizer than its base's, which can carry a trigger; it was left behind. Use the "
            f"one here.",
        ]
    low, high = measures.changed.interval()
    lines += [
        "",
        f"Answers that changed on {measures.changed.total} clean rows: {percent(measures.changed.value)} % "
        f"[{percent(low)}, {percent(high)}].",
        "",
        "## What is not known",
        "",
        "Without its trigger nobody can measure a backdoor. This model is less the suspect's than it was; it is not shown "
        "to be free of backdoors, nor that it ever had one. A backdoor of the base model would still be there.",
        "",
    ]
    return "\n".join(lines)


def short(place: str) -> str:
    """Return what a model is called, without the folders above a directory."""
    return PurePath(place).name if place.startswith("/") else place


def _line(role: str, rate: Rate) -> str:
    low, high = rate.interval()
    return f"| {role} | {percent(rate.value)} | [{percent(low)}, {percent(high)}] |"
