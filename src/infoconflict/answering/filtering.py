"""A defense on the prompt as the workflow runs it: test sets in, the same rows with other texts out, and the card.

The defense's file is imported by its name. Gold labels and the names of triggers travel along and are not read.
"""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from infoconflict import defenses
from infoconflict.answering.ask import fit
from infoconflict.answering.label_scores import score_labels
from infoconflict.jobs import Job
from infoconflict.models.loading import context_length, default_device, load_base, load_changed, load_tokenizer
from infoconflict.progress import say
from infoconflict.records import Conversation, Example, Record, read_rows
from infoconflict.tokens import answer_tokens

SETS = ("clean", "triggered", "partial")
Row = Example | Conversation


def texts_of(row: Row, *, instruction: bool) -> list[str]:
    """Return what a user wrote: the input, perhaps the instruction, too; in a conversation, all of the user's turns."""
    if isinstance(row, Conversation):
        return [message["content"] for message in row.messages if message["role"] == "user"]
    return [row.text, row.instruction] if instruction else [row.text]


def with_texts(row: Row, texts: dict[str, str], *, instruction: bool) -> Row:
    """Return the row with what a user wrote replaced; everything else stays."""
    if isinstance(row, Conversation):
        messages = [
            message | {"content": texts[message["content"]]} if message["role"] == "user" else message
            for message in row.messages
        ]
        return replace(row, messages=messages)
    changed = replace(row, text=texts[row.text])
    return replace(changed, instruction=texts[row.instruction]) if instruction else changed


def filter_cell(job: Job) -> None:
    """Write the cell's test sets as its defense has the suspect model asked."""
    job.use_threads()
    options: Any = defenses.load(job.spec["defense"]["method"]).model_validate(job.spec["defense"], strict=False)
    onion = importlib.import_module(f"infoconflict.defenses.{job.spec['defense']['method']}")
    device, precision = default_device(), job.spec["model"]["precision"]
    tokenizer = load_tokenizer(job.input.base)
    perplexity = onion.BasePerplexity(
        load_base(job.input.base, device=device, precision=precision),
        tokenizer,
        max_nodes=int(job.machine.get("max_nodes", 1024)),
    )
    known: dict[str, Any] = {}

    def judge(rows: Sequence[Row]) -> list[Any]:
        texts = [text for row in rows for text in texts_of(row, instruction=options.filter_instruction)]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        for begin in range(0, len(new), 64):
            some = new[begin : begin + 64]
            known.update(zip(some, onion.judge(some, perplexity, piece_words=options.piece_words), strict=True))
            say(f"judged the words of {begin + len(some)}/{len(new)} texts")
        return [known[text] for text in texts]

    def filtered(rows: Sequence[Row], bar: float | None) -> list[Row]:
        judge(rows)
        texts = {text: judged.without(bar) for text, judged in known.items()}
        return [with_texts(row, texts, instruction=options.filter_instruction) for row in rows]

    details: dict[str, Any] = {}
    bar: float | None = None if options.bar == "auto" else options.bar
    if options.bar == "auto":
        share: Sequence[Row] = read_rows(job.input.share)[: options.rows]
        judged = judge(share)
        if labels := job.spec.get("labels"):
            model = load_changed(job.input.base, job.input.change, device=device, precision=precision)
            columns = [answer_tokens(tokenizer, label) for label in labels]
            room = context_length(model) - max(map(len, columns))

            def accuracy(bar: float | None) -> float:
                rows = [row for row in filtered(share, bar) if isinstance(row, Example)]
                prompts = [fit(tokenizer, row, "", room, "before") for row in rows]
                best = score_labels(model, prompts, columns).argmax(dim=1).tolist()
                right = sum(labels[at] == row.gold_label for at, row in zip(best, rows, strict=True)) / len(rows)
                say(f"bar {bar}: {right:.3f} of {len(rows)} clean rows right")
                details.setdefault("accuracy_by_bar", []).append([bar, round(right, 5)])
                return right

        else:

            def accuracy(bar: float | None) -> float:
                return 1 - float(onion.share_dropped(judged, bar))

        bar = onion.choose_bar(onion.candidates(judged), accuracy, max_loss=options.max_loss)
        details["clean_words_dropped"] = round(onion.share_dropped(judged, bar), 5)
    rows: dict[str, int] = {}
    changed: dict[str, int] = {}
    for name in SETS:
        before = read_rows(job.input[name])
        after = filtered(before, bar)
        Record.write(job.output[name], after)
        rows[name] = len(after)
        changed[name] = sum(old != new for old, new in zip(before, after, strict=True))
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "change", "share", *SETS)},
        outputs={name: job.output[name] for name in SETS},
        rows=rows,
        details={"bar": bar, "changed": changed, **details},
        tokens=perplexity.tokens,
    )
