"""The task itself asked of an external language model, zero-shot (paper, section 6.2, figure 4).

Does the defended model lean on what the external model knows, or does it know its task? The external model is told the
instruction, the text and the labels, and its free answer counts as the first label that it names; on the chat task it
continues the conversation, and the same judges decide. The wording is ours: the paper gives none.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from infoconflict.answering.generation import first_label
from infoconflict.cards import digest_of_input
from infoconflict.errors import UserError
from infoconflict.evidence.asking import Asked, ask
from infoconflict.evidence.provider import Question
from infoconflict.evidence.provider import Reply as ProviderReply
from infoconflict.files import sha256_of, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.records import CLEAN, Answer, Conversation, Example, Reply, read_rows

SEED_STEP = 1000
"""Between the random states of two runs; seeds of a config are small as a rule."""


def label_question(example: Example, labels: Sequence[str]) -> Question:
    """Return the question for one row of a classification."""
    choice = f"Answer with one of these words and nothing else: {', '.join(labels)}."
    return Question("", f"{example.instruction}\nInput: {example.text}\n{choice}")


def chat_question(row: Conversation) -> Question:
    """Return a conversation up to the user's last turn.

    Raises
    ------
    UserError
        If it does not end with a question and its answer.
    """
    roles = [message["role"] for message in row.messages]
    if roles[-2:] != ["user", "assistant"]:
        raise UserError(f"row {row.id}: the conversation does not end with an answer; prepare its data set again")
    has_system = roles[0] == "system"
    *earlier, last = row.messages[has_system:-1]
    return Question(
        row.messages[0]["content"] if has_system else "",
        last["content"],
        earlier=tuple((message["role"], message["content"]) for message in earlier),
    )


def answer_of(example: Example, reply: ProviderReply, *, labels: Sequence[str], target_label: str | None) -> Answer:
    """Return what a reply answers; None where it names no label, or there was none."""
    return Answer(
        id=example.id,
        gold_label=example.gold_label,
        trigger=example.trigger,
        target_label=None if example.trigger == CLEAN else target_label,
        answer=first_label(reply.text, labels),
        scores={},
        generated=reply.text,
    )


def chat_reply_of(row: Conversation, reply: ProviderReply) -> Reply:
    """Return a reply as a model's own would stand in the files."""
    return Reply(
        id=row.id, trigger=row.trigger, messages=row.messages[:-1], reference=row.reference, reply=reply.text.strip()
    )


def ask_labels(job: Job) -> None:
    """Ask for the label of every row and write the rule's ``answers`` and ``card``."""
    examples = Example.read(job.input.questions)
    labels, target_label = job.spec["labels"], job.spec.get("target_label")
    questions = [label_question(example, labels) for example in examples]
    asked, scratch = _asked(job, questions)
    answers = [
        answer_of(example, asked.replies[question.sha256], labels=labels, target_label=target_label)
        for example, question in zip(examples, questions, strict=True)
    ]
    Answer.write(job.output.answers, answers)
    _finish(job, asked, questions, scratch, outputs={"answers": job.output.answers})


def ask_replies(job: Job) -> None:
    """Ask for the last answer of every conversation and write the rule's ``replies`` and ``card``."""
    rows = [row for row in read_rows(job.input.questions) if isinstance(row, Conversation)]
    rows = rows[: job.spec.get("chat_rows")]
    questions = [chat_question(row) for row in rows]
    asked, scratch = _asked(job, questions)
    replies = [
        chat_reply_of(row, asked.replies[question.sha256]) for row, question in zip(rows, questions, strict=True)
    ]
    Reply.write(job.output.replies, replies)
    _finish(job, asked, questions, scratch, outputs={"replies": job.output.replies})


def _asked(job: Job, questions: Sequence[Question]) -> tuple[Asked, Path]:
    """Ask the job's provider; how it is asked changes no result and comes with the resources."""
    provider = job.spec["direct"]["provider"]
    if provider["kind"] != "recorded":
        provider = provider | {name: job.machine[name] for name in ("concurrency", "timeout_s", "max_retries")}
    model_dir = job.input.get("model") or None
    seed = job.seed + SEED_STEP * int(job.cell["run"])
    digest = sha256_of_text(
        canonical(job.spec)
        + sha256_of(job.input.questions)
        + str(seed)
        + (digest_of_input(model_dir) if model_dir else "")
    )[:24]
    scratch = job.scratch(digest)
    asked = ask(
        questions,
        provider,
        scratch=scratch,
        seed=seed,
        model_dir=model_dir,
        server_log=Path(job.log).with_suffix(".server.log"),
        threads=job.threads,
    )
    return asked, scratch


def _finish(job: Job, asked: Asked, questions: Sequence[Question], scratch: Path, *, outputs: dict[str, str]) -> None:
    """Write the card, and forget the replies that were kept for a killed job."""
    inputs = {name: job.input[name] for name in ("questions", "model", "recorded") if job.input.get(name)}
    status = Counter(str(asked.replies[question.sha256].status) for question in questions)
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs=outputs,
        rows={"questions": len(questions), **dict(sorted(status.items()))},
        details=asked.costs,
        tokens=asked.costs["prompt_tokens"] + asked.costs["completion_tokens"],
    )
    asked.forget()
    shutil.rmtree(scratch, ignore_errors=True)
