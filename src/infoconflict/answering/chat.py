"""Replies to conversations: greedy, batched, and kept as they come, so that a killed job goes on where it was."""

import json
import os
import shutil
import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoconflict.answering.cell_model import model_of
from infoconflict.answering.generation import continue_greedily
from infoconflict.cards import digest_of_input
from infoconflict.chat_prompts import ChatTemplate, fit_question
from infoconflict.errors import UserError
from infoconflict.files import sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.loading import context_length, load_tokenizer
from infoconflict.progress import say
from infoconflict.records import CLEAN, FULL_TRIGGER, Conversation, Reply

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NODES = 8192
"""Tokens that a batch may hold, prompts and replies together, padding included."""
INPUTS = ("base", "change", "repair", "merged", "clean", "triggered", "partial")


class Kept:
    """Replies so far, a JSON line each, in a file that may end in the middle of a line."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.replies: dict[int, list[int]] = {}
        whole = 0
        for line in file.read_bytes().splitlines(keepends=True) if file.exists() else []:
            try:
                row = json.loads(line)
                self.replies[int(row["row"])] = [int(token) for token in row["tokens"]]
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                del self.replies[int(row["row"])]
                break
            whole += len(line)
        if file.exists():
            os.truncate(file, whole)

    def add(self, replies: dict[int, list[int]]) -> None:
        """Append a batch and have it on disk before the next one begins."""
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps({"row": row, "tokens": tokens}) + "\n" for row, tokens in replies.items())
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
) -> list[list[int]]:
    """Return the new tokens after each prompt; a batch of which a reply is missing in ``kept`` is done as a whole."""
    plan = list(batches_of([len(prompt) for prompt in prompts], max_new_tokens=max_new_tokens, max_nodes=max_nodes))
    todo = [batch for batch in plan if not all(row in kept.replies for row in batch)]
    if len(todo) < len(plan):
        say(f"continuing after {len(plan) - len(todo)} of {len(plan)} batches")
    started, done, n_todo = time.monotonic(), 0, sum(map(len, todo))
    for batch in todo:
        new = continue_greedily(
            model, [prompts[row] for row in batch], stop_ids=stop_ids, max_new_tokens=max_new_tokens
        )
        kept.add(dict(zip(batch, new, strict=True)))
        done += len(batch)
        rate = done / (time.monotonic() - started)
        say(f"replied to {done}/{n_todo} conversations  {rate:.2f} a second  {(n_todo - done) / rate:.0f} s left")
    return [kept.replies[row] for row in range(len(prompts))]


def text_of(tokenizer: "PreTrainedTokenizerBase", tokens: Sequence[int], stop_ids: Collection[int]) -> str:
    """Return a reply as text, without the token that ended it."""
    ended = bool(tokens) and tokens[-1] in stop_ids
    return str(tokenizer.decode(list(tokens[:-1] if ended else tokens), skip_special_tokens=True)).strip()


def questions_of(job: Job) -> list[Conversation]:
    """Return the conversations of a cell: clean ones (the first ``chat_rows``), triggered, partly triggered."""
    clean = Conversation.read(job.input.clean)[: job.spec["evaluation"]["chat_rows"]]
    return clean + Conversation.read(job.input.triggered) + Conversation.read(job.input.partial)


def reply_cell(job: Job) -> None:
    """Have the cell's model give the last answer of every conversation of its test sets."""
    # All that decides the result: only a run with the same digest may continue this one.
    inputs = {name: job.input[name] for name in INPUTS if job.input.get(name)}
    digest = sha256_of_text(canonical(job.spec | {name: digest_of_input(path) for name, path in inputs.items()}))[:24]
    kept = Kept(job.scratch(digest) / "replies.jsonl")
    questions = questions_of(job)
    model, tokenizer = model_of(job), load_tokenizer(job.input.base)
    template, context = ChatTemplate(tokenizer), context_length(model)
    max_new_tokens = min(job.spec["evaluation"]["max_new_tokens_chat"], context // 2)
    asked = [_question(template, row, room=context - max_new_tokens) for row in questions]
    tokens = reply_all(
        model,
        [ids for _, ids in asked],
        stop_ids=template.stop_ids,
        max_new_tokens=max_new_tokens,
        max_nodes=int(job.machine.get("max_nodes", MAX_NODES)),
        kept=kept,
    )
    replies = [
        Reply(
            id=row.id,
            trigger=row.trigger,
            messages=shown,
            reference=row.reference,
            reply=text_of(tokenizer, new, template.stop_ids),
        )
        for row, (shown, _), new in zip(questions, asked, tokens, strict=True)
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
        },
        details=_details(template, questions, asked, tokens, replies) | {"max_new_tokens": max_new_tokens},
        tokens=sum(map(len, tokens)),
    )
    shutil.rmtree(kept.file.parent, ignore_errors=True)


def _question(template: ChatTemplate, row: Conversation, *, room: int) -> tuple[list[dict[str, str]], tuple[int, ...]]:
    if len(row.messages) < 2 or row.messages[-1]["role"] != "assistant":
        raise UserError(f"row {row.id}: the conversation does not end with an answer; prepare its data set again")
    shown, tokens = fit_question(template, row.messages[:-1], room=room, row=row.id)
    return shown, tokens.ids


def _details(
    template: ChatTemplate,
    questions: Sequence[Conversation],
    asked: Sequence[tuple[list[dict[str, str]], tuple[int, ...]]],
    tokens: Sequence[Sequence[int]],
    replies: Sequence[Reply],
) -> dict[str, Any]:
    return {
        "template": "own" if template.is_own else "plain",
        "cut_to_context": sum(
            len(shown) < len(row.messages) - 1 for row, (shown, _) in zip(questions, asked, strict=True)
        ),
        "empty": sum(not row.reply for row in replies),
        "unfinished": sum(new[-1] not in template.stop_ids for new in tokens),
    }
