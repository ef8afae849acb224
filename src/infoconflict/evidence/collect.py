"""Collect evidence for rows of questions: keywords or the suspect's evidence out, replies in, one row for each example.

Replies are asked for as :mod:`infoconflict.evidence.asking` does. Outputs appear whole, when all replies are there.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from infoconflict.errors import UserError
from infoconflict.evidence.asking import ask
from infoconflict.evidence.cleaning import clean_evidence, names_label
from infoconflict.evidence.client import say
from infoconflict.evidence.construction import construction_question
from infoconflict.evidence.keywords import keywords
from infoconflict.evidence.modification import contradiction_question, is_usable, split_reply
from infoconflict.evidence.provider import Question, Reply
from infoconflict.files import PathLike
from infoconflict.records import Evidence, Example, Query

CONSTRUCTION, MODIFICATION = "construction", "modification"

# The id and the trigger of a row: a partial variant shares the id of its clean row.
RowKey = tuple[str, str]
# Of an example, too, only what is asked is looked at.
Row = Query | Example


@dataclass(frozen=True)
class _Planned:
    """What one row needs: the branch taken, its keywords, and the question, if there is any."""

    row: Row
    branch: str
    keywords: list[str]
    question: Question | None


def collect_evidence(
    jobs: Sequence[tuple[Sequence[Row], PathLike]],
    *,
    options: Mapping[str, Any],
    labels: Sequence[str],
    scratch: PathLike,
    seed: int = 0,
    model_dir: PathLike | None = None,
    server_log: PathLike | None = None,
    threads: int = 1,
    suspect_answers: Mapping[RowKey, str] | None = None,
) -> dict[str, Any]:
    """Write a file of evidence rows for each list of questions, all of them with one provider.

    Parameters
    ----------
    jobs : sequence of (rows, path)
        What to write where: row ``i`` of a file belongs to question ``i``. Keywords are taken of its ``text``.
    options : mapping
        An entry under ``evidence`` in the config: ``branch``, ``provider``, ``textrank``, ``min_tokens``,
        ``max_evidence_words``. Absent ones take the defaults of the functions here.
    labels : sequence of str
        The task's label words: never keywords, and taken out of evidence. Empty for chat.
    scratch : path
        Folder, outside all outputs, for the replies so far. Emptied when the outputs stand.
    seed : int
        Of the replies, as far as the endpoint follows it.
    model_dir : path, optional
        The checkpoint for a provider of kind ``local_server``.
    server_log : path, optional
        Where that server writes; ``server.log`` in ``scratch`` unless given.
    threads : int
        For that server.
    suspect_answers : mapping of (id, trigger) to str, optional
        What the suspect model answered when asked for answer and evidence; needed by the branch ``modification``.

    Returns
    -------
    dict
        Counts and costs for the card: ``rows``, ``status`` and ``branches`` (counts), ``label_in_evidence`` (replies
        that named a label, and replies in all), ``questions``, ``asked``, ``resumed``, ``attempts``,
        ``prompt_tokens``, ``completion_tokens``, ``seconds``, ``model``, and for a local server how it ran.

    Raises
    ------
    UserError
        If settings, key, endpoint, server or recorded file do not serve. No output is written then; replies are kept.
    """
    plans = [[_plan(row, options, labels, suspect_answers) for row in asked] for asked, _ in jobs]
    questions = {plan.question.sha256: plan.question for rows in plans for plan in rows if plan.question}
    say(f"{sum(map(len, plans))} rows, {len(questions)} different questions")
    asked = ask(
        list(questions.values()),
        options["provider"],
        scratch=scratch,
        seed=seed,
        model_dir=model_dir,
        server_log=server_log,
        threads=threads,
    )
    rows = [[_row(plan, asked.replies, options, labels, asked.model) for plan in planned] for planned in plans]
    for (_, path), evidence in zip(jobs, rows, strict=True):
        Evidence.write(path, evidence)
    asked.forget()
    every = [row for evidence in rows for row in evidence]
    with_reply = [row for row in every if row.reply]
    return {
        "rows": {Path(path).name: len(evidence) for (_, path), evidence in zip(jobs, rows, strict=True)},
        "status": dict(sorted(Counter(row.status for row in every).items())),
        "branches": dict(sorted(Counter(row.branch for row in every).items())),
        "label_in_evidence": {
            "hits": sum(names_label(row.reply, labels) for row in with_reply),
            "total": len(with_reply),
        },
        **asked.costs,
    }


def evidence_texts(rows: Sequence[Evidence]) -> dict[RowKey, str]:
    """Return the text that goes into each row's prompt, by id and trigger; rows without usable text are left out."""
    return {(row.id, row.trigger): row.evidence for row in rows if row.status == "ok"}


def _plan(
    row: Row,
    options: Mapping[str, Any],
    labels: Sequence[str],
    suspect_answers: Mapping[RowKey, str] | None,
) -> _Planned:
    branch = options.get("branch", CONSTRUCTION)
    if branch == MODIFICATION:
        if suspect_answers is None:
            raise UserError(
                "evidence branch 'modification' rewrites the suspect model's own evidence, and none was given; use "
                "branch 'construction' or collect the suspect's answers first"
            )
        _, own = split_reply(suspect_answers.get((row.id, row.trigger), ""), labels)
        if is_usable(own, row.text, min_tokens=options.get("min_tokens", 12)):
            return _Planned(row, MODIFICATION, [], contradiction_question(own, has_labels=bool(labels)))
    words = keywords(row.text, labels=labels, **options.get("textrank", {}))
    question = construction_question(words, has_labels=bool(labels)) if words else None
    return _Planned(row, CONSTRUCTION, words, question)


def _row(
    plan: _Planned, replies: Mapping[str, Reply], options: Mapping[str, Any], labels: Sequence[str], model: str
) -> Evidence:
    common: dict[str, Any] = {
        "id": plan.row.id,
        "trigger": plan.row.trigger,
        "branch": plan.branch,
        "keywords": plan.keywords,
    }
    if plan.question is None:
        return Evidence(**common, prompt_sha256="", reply="", evidence="", status="no_keywords", model=model)
    reply = replies[plan.question.sha256]
    status, text = str(reply.status), ""
    if reply.status == "ok":
        limit = options.get("max_evidence_words", 60)
        text = clean_evidence(reply.text, labels=labels, max_words=limit)
        status = "ok" if text else "label_leak"
    return Evidence(
        **common,
        prompt_sha256=plan.question.sha256,
        reply=reply.text,
        evidence=text,
        status=status,
        model=model,
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        attempts=reply.attempts,
    )
