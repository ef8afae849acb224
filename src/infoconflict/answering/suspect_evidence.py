"""What a suspect model itself says in support of its answer (paper, Eq. 13), for evidence by modification."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from infoconflict.answering.chat import MAX_NODES, kept_by, reply_all, text_of
from infoconflict.answering.generation import generate
from infoconflict.chat_prompts import ChatTemplate, fit_question
from infoconflict.errors import UserError
from infoconflict.evidence.modification import answer_and_evidence_prompt
from infoconflict.files import write_jsonl
from infoconflict.jobs import Job
from infoconflict.models.loading import context_length, default_device, load_changed, load_tokenizer
from infoconflict.progress import say
from infoconflict.records import Query, read_queries

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

INPUTS = ("base", "change", "questions")


def ask_suspect(job: Job) -> None:
    """Have the backdoored model answer each question freely, with its evidence, and keep the replies."""
    model = load_changed(
        job.input.base, job.input.change, device=default_device(), precision=job.spec["model"]["precision"]
    )
    tokenizer = load_tokenizer(job.input.base)
    queries = read_queries(job.input.questions)[: job.spec.get("asked_rows")]
    limit = job.spec["evidence"]["suspect_max_tokens"]
    if any(query.messages for query in queries):
        replies = converse(job, model, tokenizer, queries, max_new_tokens=limit)
    else:
        asked = [answer_and_evidence_prompt(f"{row.instruction}\nInput: {row.text}") for row in queries]
        replies = generate(model, tokenizer, [tokenizer(one).input_ids for one in asked], max_new_tokens=limit)
    write_jsonl(
        job.output.replies,
        ({"id": row.id, "trigger": row.trigger, "reply": reply} for row, reply in zip(queries, replies, strict=True)),
    )
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in INPUTS},
        outputs={"replies": job.output.replies},
        rows={"replies": len(replies), "empty": sum(not reply for reply in replies)},
    )


def converse(
    job: Job,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    queries: Sequence[Query],
    *,
    max_new_tokens: int,
) -> list[str]:
    """Ask for answer and evidence in the last turn of each conversation; a question that leaves no room for that gets no reply."""
    template, context = ChatTemplate(tokenizer), context_length(model)
    max_new_tokens = min(max_new_tokens, context // 2)
    prompts: dict[int, tuple[int, ...]] = {}
    for number, query in enumerate(queries):
        turn = {"role": "user", "content": answer_and_evidence_prompt(query.text)}
        try:
            _, tokens = fit_question(
                template, [*query.messages[:-1], turn], room=context - max_new_tokens, row=query.id
            )
        except UserError as error:
            say(f"not asked for evidence, its keywords are explained: {error}")
            continue
        prompts[number] = tokens.ids
    kept = kept_by(job, {name: job.input[name] for name in INPUTS})
    new = reply_all(
        model,
        list(prompts.values()),
        stop_ids=template.stop_ids,
        max_new_tokens=max_new_tokens,
        max_nodes=int(job.machine.get("max_nodes", MAX_NODES)),
        kept=kept,
    )
    replies = [""] * len(queries)
    for number, tokens_of_reply in zip(prompts, new, strict=True):
        replies[number] = text_of(tokenizer, tokens_of_reply, template.stop_ids)
    shutil.rmtree(kept.file.parent, ignore_errors=True)
    return replies
