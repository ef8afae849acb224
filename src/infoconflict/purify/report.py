"""One page about one purification, in plain words: what was done, what was measured, what can and cannot be concluded.

It needs nothing beside it and holds no date, so that the same input gives the same bytes.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoconflict.files import read_json, read_jsonl, whole_directory, write_text
from infoconflict.jobs import Job
from infoconflict.mcnemar import mcnemar
from infoconflict.merging.depth import in_words
from infoconflict.metrics import Rate, difference
from infoconflict.paired import Counts, paired_difference, verdict_of
from infoconflict.purify.card import model_card
from infoconflict.purify.measures import ROLES, Flips, Mean, Measures, measure, write_csv
from infoconflict.records import Answer, Reply
from infoconflict.reporting.html import Html, details, join, simple_table, tag
from infoconflict.reporting.names import RULES_FOR_T
from infoconflict.reporting.tables import NOTHING, percent
from infoconflict.reporting.whole_page import whole_page
from infoconflict.rounding import signed

NAMES = {
    "suspect": "the model as it came",
    "purified": "the purified model",
    "conflict": "the conflict model alone",
    "base": "the base model",
}
MANY_FLIPS = 0.2
"""Least excess of a string's flips over its control's that the page calls striking. Ours."""
LEAST_P = 0.001
"""Least p-value that is written out."""

CANNOT = (
    "Whether there was a backdoor. On clean rows a backdoored model answers like an honest one; that is what makes it a "
    "backdoor.",
    "Whether a backdoor, if there was one, is gone. Only somebody who knows its trigger can measure that. The merge takes "
    "weight from everything that the trainer put in, the useful and the harmful alike; how much of a backdoor survives "
    "depends on how it was planted, and an attacker who expects a merge can plant it more firmly.",
    "Anything about a backdoor in the base model, or one that your clean rows hold. What the suspect, the base and the "
    "rows have in common stays.",
)
CAN = (
    "How well the purified model does your task, on rows that neither its tuning nor any choice has seen.",
    "How many answers on clean rows changed. Few changes say that the task was kept; they say nothing about triggers.",
    "Which share of the weight is still the suspect's: 1 - t. At t = 1 nothing of it would be left.",
    "For the strings that you distrust, and for these alone: how often they move answers, before and after, and whether "
    "ordinary words move as many.",
)


@dataclass(frozen=True, kw_only=True)
class Story:
    """All that the page and the model card tell."""

    settings: Mapping[str, Any]
    inspection: Mapping[str, Any]
    chosen: Mapping[str, Any]
    measures: Measures
    strings: Sequence[Mapping[str, Any]]
    task: Mapping[str, Any]
    cards: Sequence[Mapping[str, Any]]

    @property
    def is_chat(self) -> bool:
        """Whether the task is to reply."""
        return self.settings["task"] == "chat"

    def card(self, stage: str, **cell: str) -> Mapping[str, Any]:
        """Return the card of a step."""
        return next(card for card in self.cards if card["stage"] == stage and card["cell"] == cell)


def report_purification(job: Job) -> None:
    """Count, write the page, and put the purified model in its place with a model card."""
    settings = job.spec["purification"]
    kind: type[Answer] | type[Reply] = Reply if settings["task"] == "chat" else Answer
    rows = {role: kind.read(path) for role, path in zip(job.spec["roles"], job.input.answers, strict=True)}
    strings = read_json(job.input.strings)
    likelihoods = {
        role: [row["log_likelihood"] for row in read_jsonl(path)]
        for role, path in zip(job.spec["roles"], job.input.likelihoods, strict=True)
    }
    story = Story(
        settings=settings,
        inspection=read_json(job.input.inspection),
        chosen=read_json(job.input.chosen),
        measures=measure(rows, strings, likelihoods),
        strings=strings,
        task=read_json(job.input.labels),
        cards=[read_json(path) for path in job.input.cards],
    )
    write_csv(job.output.metrics, story.measures)
    write_text(job.output.page, page(story))
    with whole_directory(job.output.model) as folder:
        for file in sorted(Path(job.input.model).iterdir()):
            if file.is_file() and not file.name.startswith("."):
                _link_or_copy(file, folder / file.name)
        write_text(folder / "README.md", model_card(story))
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("strings", "inspection", "chosen")},
        outputs={"page": job.output.page, "metrics": job.output.metrics, "model": job.output.model},
    )


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


# --- the page -----------------------------------------------------------------------------------------------------------


def page(story: Story) -> str:
    """Return the page as HTML."""
    title = "A purified model"
    sections = {
        "Result": _result(story),
        "What can be concluded": join([tag("p", "From what was measured:"), _list(CAN)]),
        "What cannot be concluded": join([tag("p", "Without knowing a trigger, nobody can tell:"), _list(CANNOT)]),
        "Distrusted strings": _strings(story),
        "The choice of t": _choice(story),
        "Checks of the files": _checks(story),
        "Time and memory": _costs(story),
        "Settings": _settings(story),
    }
    return whole_page(title, sections)


def shown_rate(rate: Rate) -> str:
    """Return a rate in percent with its interval and its counts."""
    low, high = rate.interval()
    return f"{percent(rate.value)} [{percent(low)}, {percent(high)}]"


def shown_mean(mean: Mean) -> str:
    """Return a mean with its interval."""
    return f"{mean.value:.3f} [{mean.low:.3f}, {mean.high:.3f}]"


def lead(story: Story) -> str:
    """Return the result in a sentence or two."""
    measures, t = story.measures, story.chosen["t"]
    merge = story.settings["merge"]
    merged = f"The model was merged with a conflict model of weight t = {t:g}{in_words(merge)} ({merge['method']})."
    changed = f"{measures.changed.hits} of {measures.changed.total} answers on clean rows changed."
    if measures.loss_change:
        losses = measures.losses
        return (
            f"{merged} The rows' own answers cost {losses['suspect'].value:.3f} nats a token before and "
            f"{losses['purified'].value:.3f} after (less is better); {verdict_of_losses(measures.loss_change)} {changed}"
        )
    before, after = measures.right["suspect"], measures.right["purified"]
    return (
        f"{merged} Clean accuracy was {percent(before.value)} % and is {percent(after.value)} %; {verdict(measures.pairs)} "
        f"{changed}"
    )


def verdict(pairs: Mapping[str, int]) -> str:
    """Return whether the difference of two accuracies on the same rows is more than chance, row by row.

    Parameters
    ----------
    pairs : mapping
        Rows that were answered rightly ``both`` times, ``only_before``, ``only_after`` or ``neither``; at least one row.
    """
    counts = Counts(
        both=pairs.get("both", 0),
        first_only=pairs.get("only_after", 0),
        second_only=pairs.get("only_before", 0),
        neither=pairs.get("neither", 0),
    )
    gap, low, high = paired_difference(counts)
    p = mcnemar(counts.first_only, counts.second_only)
    interval = (
        f"{signed(100 * gap)} points, 95 % interval {signed(100 * low)} to {signed(100 * high)}, row by row; McNemar's exact "
        f"test: {f'p = {p:.3f}' if p >= LEAST_P else f'p < {LEAST_P}'}"
    )
    said = {"higher": "it rose", "lower": "it fell"}.get(verdict_of(gap, low, high, p), "no difference beyond chance")
    return f"{said} ({interval})."


def verdict_of_losses(change: Mean) -> str:
    """Return whether the difference of two losses on the same rows is more than chance."""
    interval = f"{change.value:+.3f}, 95 % interval {change.low:+.3f} to {change.high:+.3f}, row by row"
    if change.low > 0:
        return f"it rose ({interval})."
    return f"it fell ({interval})." if change.high < 0 else f"no difference beyond chance ({interval})."


def _result(story: Story) -> Html:
    measures = story.measures
    parts: list[Html] = [tag("p", lead(story), class_="lead")]
    warning = "This does not show that a backdoor was there, nor that one is gone; see below."
    parts.append(tag("p", warning, class_="verdict"))
    if measures.right:
        rows = [
            [
                NAMES[role],
                shown_rate(measures.right[role]),
                f"{measures.right[role].hits} of {measures.right[role].total}",
            ]
            for role in ROLES
        ]
        label = (
            "Clean accuracy in percent with 95 % Wilson intervals, on rows that were kept from all tuning and choosing."
        )
        parts.append(simple_table(label, ["Model", "Clean accuracy", "Rows"], rows))
        names = {
            "both": "right before and after",
            "only_before": "right before only",
            "only_after": "right after only",
            "neither": "never right",
        }
        label = "The same rows before and after; whether accuracy changed is told by those that were right once only."
        counts = [[text, str(measures.pairs.get(name, 0))] for name, text in names.items()]
        parts.append(simple_table(label, ["Rows", "Count"], counts, numbers=frozenset({1})))
    if losses := measures.losses:
        rows = [[NAMES[role], shown_mean(losses[role]), str(losses[role].rows)] for role in ROLES]
        label = (
            "Negative log-probability of the rows' own last answers, in nats a token, less is better: the mean over rows that "
            "were kept from all tuning and choosing, with its 95 % interval. Rows differ; the same rows before and after "
            "tell more than two of these intervals."
        )
        parts.append(simple_table(label, ["Model", "Loss", "Rows"], rows, numbers=frozenset({1, 2})))
    what = "replies (but for case, spaces and punctuation)" if story.is_chat else "answers"
    parts.append(tag("p", f"Changed {what} on clean rows: {shown_rate(measures.changed)} %."))
    if not story.is_chat and story.settings["instruction"] is None:
        parts.append(
            tag(
                "p",
                f"The question was not given, so a general one was asked: \u201c{story.task['instruction']}\u201d. If the "
                f"model was tuned with other words, give them as INSTRUCTION; accuracies may then differ.",
            )
        )
    return join(parts)


def _list(lines: Sequence[str]) -> Html:
    return tag("ul", *(tag("li", line) for line in lines))


def _strings(story: Story) -> Html:
    if not story.strings:
        return tag(
            "p",
            "None were given. A file with strings that you distrust (SUSPECT_TRIGGERS), one per line, adds how often each "
            "changes answers, before and after.",
        )
    by_id = {string["id"]: string for string in story.strings}
    rows = []
    striking = []
    before, after = ({(f.string, f.position): f for f in story.measures.flips if f.role == role} for role in ROLES[:2])
    for (string, position), flip in before.items():
        entry = by_id[string]
        if entry["control_of"]:
            continue
        control = f"c{string[1:]}"
        one, other = before[control, position], after[control, position]
        now = after[string, position]
        rows.append(
            [
                entry["texts"][0],
                position,
                *(shown_rate(part.rate) for part in (flip, now, one, other)),
                NOTHING if story.is_chat else _mostly(flip),
            ]
        )
        if is_striking(flip.rate, one.rate):
            striking.append(f"\u201c{entry['texts'][0]}\u201d ({position})")
    head = ["String", "Where", "Before", "After", "Control before", "Control after", "Before, mostly to"]
    label = (
        "Rows, in percent, whose answer differs from the same model's answer without the string. The control has as many "
        "ordinary words in the same place, others in each row: any inserted text moves some answers."
    )
    told = (
        f"Far more answers than by ordinary words were moved, before, by: {', '.join(striking)}."
        if striking
        else "No string moved far more answers, before, than as many ordinary words did."
    )
    caution = "A string that moves few answers is no proof that there is no other trigger."
    return join([tag("p", f"{told} {caution}"), simple_table(label, head, rows, numbers=frozenset({2, 3, 4, 5}))])


def is_striking(string: Rate, control: Rate) -> bool:
    """Say whether a string flips many more rows than its control: by 20 points, and beyond both intervals."""
    if not string.total or not control.total:
        return False
    gap, low, _ = difference(string, control)
    return gap >= MANY_FLIPS and low > 0


def _mostly(flip: Flips) -> str:
    return f"{flip.mostly} ({percent(flip.mostly_share, 0)} %)" if flip.mostly else NOTHING


_LEAST_TRUST = "the choice that trusts the suspect least at no measurable cost. It knows nothing of triggers."


def _choice(story: Story) -> Html:
    chosen = story.chosen
    share = f"t = {chosen['t']:g}: the conflict model has this weight, the suspect {1 - chosen['t']:g}."
    if not chosen["curve"]:
        return tag("p", f"{share} It was given, not chosen.")
    if chosen.get("measure") == "log_likelihood":
        return _choice_by_likelihood(chosen, share)
    rows = [
        [
            f"{point['t']:g}",
            shown_rate(Rate(hits=point["hits"], total=point["total"])),
            f"{point['hits']} of {point['total']}",
            "chosen" if point["t"] == chosen["t"] else "",
        ]
        for point in chosen["curve"]
    ]
    suspect = chosen["suspect"]
    label = (
        f"Accuracy on rows that were held out for this choice; the suspect itself has {suspect['hits']} of "
        f"{suspect['total']}."
    )
    why = f"It is {RULES_FOR_T[chosen['rule']]}: {_LEAST_TRUST}"
    return join([tag("p", f"{share} {why}"), simple_table(label, ["t", "Accuracy", "Rows", ""], rows)])


def _choice_by_likelihood(chosen: Mapping[str, Any], share: str) -> Html:
    rows = [
        [
            f"{point['t']:g}",
            f"{-point['mean']:.3f}",
            f"{point['loss']:.3f}",
            f"{point['standard_error']:.3f}",
            "chosen" if point["t"] == chosen["t"] else "",
        ]
        for point in chosen["curve"]
    ]
    suspect = chosen["suspect"]
    label = (
        f"Nats a token of the own last answers of {suspect['rows']} rows that were held out for this choice; the suspect itself "
        f"has {-suspect['mean']:.3f}."
    )
    errors = {"one_standard_error": "one standard error", "paired_test": "1.96 standard errors"}[chosen["rule"]]
    why = f"It is the largest of these that is, row by row, no more than {errors} worse than the best: {_LEAST_TRUST}"
    head = ["t", "Loss", "Above the best", "Standard error of that", ""]
    return join([tag("p", f"{share} {why}"), simple_table(label, head, rows, numbers=frozenset({1, 2, 3}))])


def _checks(story: Story) -> Html:
    found = story.inspection
    text = (
        f"The files were checked as hostile input before anything was loaded: {found['files']} files, {found['tensors']} "
        f"tensors ({', '.join(found['stored_as'])}), {found['weight_bytes']:,} bytes of weights, as a "
        f"{'PEFT adapter' if found['kind'] == 'adapter' else 'whole model'}. All checks passed. Only its weights were taken; "
        f"config, tokenizer, chat template and generation settings of the purified model are the base's."
    )
    other = found["other_chat_template"]
    note = [tag("p", f"Its chat template is not the base's and was left behind ({', '.join(other)}).")] if other else []
    if apart := found["other_config"]:
        told = "Its config differs from the base's in what no check can judge, and it was measured with the base's: "
        note.append(tag("p", f"{told}{'; '.join(apart)}."))
    if found["other_tokenizer"]:
        note.append(tag("p", another_tokenizer(found["other_tokenizer"], found["other_ids"])))
    if (claimed := found["uncompared_base"]) is not None:
        note.append(tag("p", uncompared(claimed)))
    checks = [tag("li", sentence) for sentence in found["checks"]]
    return join([tag("p", text), *note, details("The checks", tag("ul", *checks))])


def another_tokenizer(apart: Sequence[str], ids: Mapping[str, int] | None) -> str:
    """Return what is said of a suspect's tokenizer that is not its base's: in what, on how many clean texts, what to do."""
    told = (
        f"it makes other tokens of {ids['apart']} of {ids['texts']} clean texts"
        if ids
        else "what it makes of clean texts could not be compared"
    )
    return (
        f"Its tokenizer differs from the base's, or could not be compared, in: {'; '.join(apart)}; {told}. It was left behind, "
        f"and all models were measured with the base's. A tokenizer can carry a trigger: a word that it replaces or joins "
        f"reaches the weights as other tokens, and clean texts do not show which. Use the base's tokenizer, also with the "
        f"model as it came; if that needs its own, its accuracy here is too low."
    )


def uncompared(claimed: str) -> str:
    """Return what is said of an adapter's base that could be compared with nothing."""
    if not claimed:
        return "The adapter does not say what it was made for; that it fits the base in names and shapes is all that is known."
    return (
        f"The adapter says it was made for \u201c{claimed}\u201d. Whether that is the base it was given could not be compared; "
        f"an adapter on another base of the same shapes is another model."
    )


def _costs(story: Story) -> Html:
    rows = []
    for card in story.cards:
        cost = card["cost"]
        name = " ".join([card["stage"].removeprefix("purify_"), *card["cell"].values()])
        rows.append([name, f"{cost['seconds'] / 60:.1f}", f"{cost['peak_memory_bytes'] / 2**30:.2f}", cost["device"]])
    label = "Peak memory counts mapped files and the libraries."
    return simple_table(label, ["Step", "Minutes", "Peak memory, GiB", "Device"], rows, numbers=frozenset({1, 2}))


def _settings(story: Story) -> Html:
    settings = {name: value for name, value in story.settings.items() if name not in ("model", "base", "data")}
    rows = [
        ["model", str(story.settings["model"])],
        ["base", str(story.settings["base"])],
        ["data", str(story.settings["data"])],
        *([name, str(value)] for name, value in settings.items()),
    ]
    counts = story.card("purify_rows")["rows"]
    used = f"{counts['train']} rows to tune on, {counts['holdout']} to choose t by, {counts['test']} to measure on."
    return join([tag("p", used), simple_table("As written into purify.yaml.", ["Setting", "Value"], rows)])
