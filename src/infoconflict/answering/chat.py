"""Replies to conversations: greedy, batched, and kept as they come, so that a killed job goes on where it was."""

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoconflict.answering.cell_model import INPUTS, model_of
from infoconflict.answering.decoder import Decoder, decoder_of
from infoconflict.answering.generation import continue_greedily, tokens_read
from infoconflict.cards import digest_of_input
from infoconflict.chat_prompts import ChatTemplate, add_evidence, fit_question
from infoconflict.controls import asked_openly
from infoconflict.errors import UserError
from infoconflict.files import PathLike, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.loading import context_length, load_tokenizer
from infoconflict.progress import say
from infoconflict.prompts import Placement
from infoconflict.records import CLEAN, FULL_TRIGGER, Conversation, Evidence, Reply

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NODES = 8192
"""Tokens that a batch may hold, prompts and replies together, padding included."""


class Kept:
    """Replies so far, a JSON line each, in a file that may end in the middle of a line."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.replies: dict[int, list[int]] = {}
        self.counts: dict[int, dict[str, int]] = {}
        whole = 0
        for line in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
            try:
                row = json.loads(line)
                self.replies[int(row["row"])] = [int(token) for token in row["tokens"]]
                self.counts[int(row["row"])] = row.get("counts", {})
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                del self.replies[int(row["row"])], self.counts[int(row["row"])]
                break
            whole += len(line)
        if file.exists():
            os.truncate(file, whole)

    def add(self, replies: dict[int, list[int]], counts: dict[int, dict[str, int]] | None = None) -> None:
        """Append a batch, with what a decoding defense counted, and have it on disk before the next one begins."""
        self.counts |= counts or {}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as out:
            for row, tokens in replies.items():
                counted = {"counts": counts[row]} if counts else {}
                out.write(json.dumps({"row": row, "tokens": tokens} | counted) + "\n")
            out.flush()
            os.fsync(out.fileno())
        self.replies |= replies


def batches_of(lengths: Sequence[int], *, max_new_tokens: int, max_nodes: int) -> Iterator[list[int]]:
    """Yield the rows of each batch, shortest prompts first; the plan does not depend on what is done already."""
    batch: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: lengths[row]):
        # The newest row is the longest, and the others are padded to it.
        if batch and (len(batch) + 1) * (lengths[row] + max_new_tokens) > max_nodes:
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def reply_all(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
    max_nodes: int,
    kept: Kept,
    decoder: Decoder | None = None,
) -> list[list[int]]:
    """Return the new tokens after each prompt; a batch of which a reply is missing in ``kept`` is done as a whole."""
    plan = list(batches_of([len(prompt) for prompt in prompts], max_new_tokens=max_new_tokens, max_nodes=max_nodes))
    todo = [batch for batch in plan if not all(row in kept.replies for row in batch)]
    if len(todo) < len(plan):
        say(f"continuing after {len(plan) - len(todo)} of {len(plan)} batches")
    started, done, n_todo = time.monotonic(), 0, sum(map(len, todo))
    for batch in todo:
        new = (decoder or continue_greedily)(
            model, [prompts[row] for row in batch], stop_ids=stop_ids, max_new_tokens=max_new_tokens
        )
        kept.add(dict(zip(batch, new, strict=True)), dict(zip(batch, decoder.last, strict=True)) if decoder else None)
        done += len(batch)
        rate = done / (time.monotonic() - started)
        say(f"replied to {done}/{n_todo} conversations  {rate:.2f} a second  {(n_todo - done) / rate:.0f} s left")
    return [kept.replies[row] for row in range(len(prompts))]


def text_of(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], stop_ids: Collection[int]) -> str:
    """Return a reply as text, without the token that ended it."""
    ended = bool(tokens) and tokens[-1] in stop_ids
    return str(tokenizer.decode(list(tokens[:-1] if ended else tokens), skip_special_tokens=True)).strip()


def questions_of(job: Job) -> list[Conversation]:
    """Return the conversations of a cell: clean ones (the first ``chat_rows``), triggered, partly triggered.

    No evidence is collected for partial triggers, and cells with evidence are not asked about them. A control may have an
    ``explicit_prompt`` behind the triggered questions.
    """
    clean = Conversation.read(job.input.clean)[: job.spec["evaluation"]["chat_rows"]]
    partial = [] if job.input.get("evidence_clean") or not job.input.get("partial") else [job.input.partial]
    triggered = Conversation.read(job.input.triggered)
    if prompt := job.spec.get("explicit_prompt"):
        triggered = asked_openly(triggered, prompt)
    return [*clean, *triggered, *(row for path in partial for row in Conversation.read(path))]


def evidence_of(job: Job) -> dict[tuple[str, str], str]:
    """Return the evidence of a cell's questions by id and trigger; none where its defense uses none."""
    names = [name for name in ("evidence_clean", "evidence_triggered") if job.input.get(name)]
    rows = [row for name in names for row in Evidence.read(job.input[name])]
    return {(row.id, row.trigger): row.evidence for row in rows if row.status == "ok"}


def kept_by(job: Job, inputs: Mapping[str, PathLike]) -> Kept:
    """Return the replies that a killed run of the same job left: all that decides the result is in their path."""
    digest = sha256_of_text(canonical(job.spec | {name: digest_of_input(path) for name, path in inputs.items()}))[:24]
    return Kept(job.scratch(digest) / "replies.jsonl")


def reply_cell(job: Job) -> None:
    """Have the cell's model give the last answer of every conversation of its test sets."""
    inputs = {name: job.input[name] for name in INPUTS if job.input.get(name)}
    kept = kept_by(job, inputs)
    questions, evidence = questions_of(job), evidence_of(job)
    model, tokenizer = model_of(job), load_tokenizer(job.input.base)
    decoder = decoder_of(job)
    template, context = ChatTemplate(tokenizer), context_length(model)
    max_new_tokens = min(job.spec["evaluation"]["max_new_tokens_chat"], context // 2)
    placement = job.spec.get("placement", "before")
    asked = [
        _question(
            template, row, evidence.get((row.id, row.trigger), ""), room=context - max_new_tokens, placement=placement
        )
        for row in questions
    ]
    tokens = reply_all(
        model,
        [question.ids for question in asked],
        stop_ids=template.stop_ids,
        max_new_tokens=max_new_tokens,
        max_nodes=int(job.machine.get("max_nodes", MAX_NODES)),
        kept=kept,
        decoder=decoder,
    )
    replies = [
        Reply(
            id=row.id,
            trigger=row.trigger,
            messages=row.messages[:-1],
            reference=row.reference,
            reply=text_of(tokenizer, new, template.stop_ids),
            evidence=question.evidence,
            not_shown=question.not_shown,
        )
        for row, question, new in zip(questions, asked, tokens, strict=True)
    ]
    Reply.write(job.output.replies, replies)
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs={"replies": job.output.replies},
        rows={
            "clean": sum(row.trigger == CLEAN for row in replies),
            "triggered": sum(row.trigger == FULL_TRIGGER for row in replies),
            "partial": sum(row.trigger not in (CLEAN, FULL_TRIGGER) for row in replies),
            "with_evidence": sum(bool(row.evidence) for row in replies),
        },
        details=_details(template, asked, tokens, replies)
        | {"max_new_tokens": max_new_tokens}
        | ({"decoding": decoder.details(list(kept.counts.values()))} if decoder else {}),
        tokens=decoder.read(list(kept.counts.values()))
        if decoder
        else tokens_read([question.ids for question in asked], tokens),
    )
    shutil.rmtree(kept.file.parent, ignore_errors=True)


@dataclass(frozen=True)
class _Question:
    """What a model is asked: how many of the messages do not fit its context, evidence beside the last one, and the tokens."""

    not_shown: int
    evidence: str
    ids: tuple[int, ...]


def _question(
    template: ChatTemplate, row: Conversation, evidence: str, *, room: int, placement: Placement
) -> _Question:
    if len(row.messages) < 2 or row.messages[-1]["role"] != "assistant":
        raise UserError(f"row {row.id}: the conversation does not end with an answer; prepare its data set again")
    shown, tokens = fit_question(template, row.messages[:-1], room=room, row=row.id)
    if evidence:
        evidence, tokens = add_evidence(template, shown, evidence, room=room, placement=placement)
    return _Question(len(row.messages) - 1 - len(shown), evidence, tokens.ids)


def _details(
    template: ChatTemplate,
    asked: Sequence[_Question],
    tokens: Sequence[Sequence[int]],
    replies: Sequence[Reply],
) -> dict[str, Any]:
    return {
        "template": "own" if template.is_own else "plain",
        "cut_to_context": sum(question.not_shown > 0 for question in asked),
        "empty": sum(not row.reply for row in replies),
        "unfinished": sum(new[-1] not in template.stop_ids for new in tokens),
    }
