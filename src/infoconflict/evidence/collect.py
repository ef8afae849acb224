"""Collect evidence for rows of questions: keywords or the suspect's evidence out, replies in, one row for each example.

What a reply cost is never paid twice: each reply is written down at once outside the outputs, so that a run that was
killed goes on where it was, and equal prompts are asked once. Outputs appear whole, when all replies are there.
"""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infoconflict.errors import UserError
from infoconflict.evidence.cleaning import clean_evidence, names_label
from infoconflict.evidence.client import ChatEndpoint, api_key_from, say
from infoconflict.evidence.construction import construction_question
from infoconflict.evidence.keywords import keywords
from infoconflict.evidence.modification import contradiction_question, is_usable, split_reply
from infoconflict.evidence.provider import Provider, Question, Reply
from infoconflict.evidence.recorded import RecordedReplies
from infoconflict.files import PathLike
from infoconflict.records import Evidence, Example

CONSTRUCTION, MODIFICATION = "construction", "modification"

# The id and the trigger of a row: a partial variant shares the id of its clean row.
RowKey = tuple[str, str]


@dataclass(frozen=True)
class _Planned:
    """What one example needs: the branch taken, its keywords, and the question, if there is any."""

    example: Example
    branch: str
    keywords: list[str]
    question: Question | None


def collect_evidence(
    jobs: Sequence[tuple[Sequence[Example], PathLike]],
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
    """Write a file of evidence rows for each list of examples, all of them with one provider.

    Parameters
    ----------
    jobs : sequence of (examples, path)
        What to write where: row ``i`` of a file belongs to example ``i``.
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
    started = time.monotonic()
    plans = [[_plan(example, options, labels, suspect_answers) for example in examples] for examples, _ in jobs]
    questions = {plan.question.sha256: plan.question for rows in plans for plan in rows if plan.question}
    say(f"{sum(map(len, plans))} rows, {len(questions)} different questions")
    progress = _Progress(Path(scratch), _digest_of_settings(options, seed, model_dir))
    replies = progress.load()
    resumed = len(replies.keys() & questions.keys())
    missing = [question for digest, question in questions.items() if digest not in replies]
    model = _model_name(options["provider"])
    server: dict[str, Any] = {}
    if missing:
        with _provider(options["provider"], seed, model_dir, server_log or Path(scratch, "server.log"), threads) as (
            provider,
            server,
        ):
            model = provider.model
            with progress.open() as note:
                bar = _Bar(len(missing), resumed)

                def keep(question: Question, reply: Reply) -> None:
                    replies[question.sha256] = reply
                    note(question, reply)
                    bar.step(reply)

                provider.ask_all(missing, keep)
    rows = [[_row(plan, replies, options, labels, model) for plan in planned] for planned in plans]
    for (_, path), evidence in zip(jobs, rows, strict=True):
        Evidence.write(path, evidence)
    progress.remove()
    used = [replies[digest] for digest in questions]
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
        "questions": len(questions),
        "asked": len(missing),
        "resumed": resumed,
        "attempts": sum(reply.attempts for reply in used),
        "prompt_tokens": sum(reply.prompt_tokens for reply in used),
        "completion_tokens": sum(reply.completion_tokens for reply in used),
        "seconds": round(time.monotonic() - started, 2),
        "model": model,
        **server,
    }


def evidence_texts(rows: Sequence[Evidence]) -> dict[RowKey, str]:
    """Return the text that goes into each row's prompt, by id and trigger; rows without usable text are left out."""
    return {(row.id, row.trigger): row.evidence for row in rows if row.status == "ok"}


def _plan(
    example: Example,
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
        _, own = split_reply(suspect_answers.get((example.id, example.trigger), ""), labels)
        if is_usable(own, example.text, min_tokens=options.get("min_tokens", 12)):
            return _Planned(example, MODIFICATION, [], contradiction_question(own))
    words = keywords(example.text, labels=labels, **options.get("textrank", {}))
    return _Planned(example, CONSTRUCTION, words, construction_question(words) if words else None)


def _row(
    plan: _Planned, replies: Mapping[str, Reply], options: Mapping[str, Any], labels: Sequence[str], model: str
) -> Evidence:
    common: dict[str, Any] = {
        "id": plan.example.id,
        "trigger": plan.example.trigger,
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


def _model_name(provider: Mapping[str, Any]) -> str:
    return str(provider.get("model", provider["kind"]))


@contextmanager
def _provider(
    settings: Mapping[str, Any], seed: int, model_dir: PathLike | None, server_log: PathLike, threads: int
) -> Iterator[tuple[Provider, dict[str, Any]]]:
    """Yield whoever answers, and what the card says about a local server."""
    names = ("temperature", "max_tokens", "concurrency", "timeout_s", "max_retries")
    patience = {name: settings[name] for name in names if name in settings}
    match settings["kind"]:
        case "recorded":
            yield RecordedReplies(settings["path"]), {}
        case "openai":
            variable = settings.get("api_key_env")
            key = api_key_from(variable) if variable else None
            yield ChatEndpoint(settings["base_url"], settings["model"], api_key=key, seed=seed, **patience), {}
        case "local_server":
            from infoconflict.evidence.local_server import local_server

            if model_dir is None:
                raise UserError(f"no checkpoint was given for the local server with model '{settings.get('model')}'")
            temperature = settings.get("temperature", 0.7)
            dtype = settings.get("dtype", "auto")
            with local_server(model_dir, server_log, temperature=temperature, threads=threads, dtype=dtype) as server:
                endpoint = ChatEndpoint(
                    server.base_url, server.model, model=_model_name(settings), seed=seed, **patience
                )
                yield endpoint, {"dtype": server.dtype, "continuous_batching": server.continuous_batching}
        case other:
            raise UserError(f"unknown evidence provider '{other}'; Available: local_server, openai, recorded")


def _digest_of_settings(options: Mapping[str, Any], seed: int, model_dir: PathLike | None) -> str:
    """Digest what can change a reply besides its prompt, so that replies of other settings are not taken for these."""
    provider = {
        name: value
        for name, value in options["provider"].items()
        if name not in ("concurrency", "timeout_s", "max_retries", "api_key_env")
    }
    files: list[Any] = []
    watched = Path(provider["path"]) if provider["kind"] == "recorded" else model_dir
    if watched is not None:
        folder = Path(watched)
        found = sorted(folder.iterdir()) if folder.is_dir() else [folder]
        files = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in found if f.is_file()]
    return hashlib.sha256(json.dumps([provider, seed, files], sort_keys=True).encode()).hexdigest()[:12]


class _Progress:
    """The replies so far, one JSON line each, in a file that carries the digest of the settings in its name."""

    def __init__(self, scratch: Path, digest: str) -> None:
        self.path = scratch / f"replies-{digest}.jsonl"

    def load(self) -> dict[str, Reply]:
        """Return the replies by prompt digest. Questions that failed got no reply and are asked again."""
        replies: dict[str, Reply] = {}
        if not self.path.is_file():
            return replies
        data = self.path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            # A run was killed while writing; appending to the torn line would spoil the next one, too.
            os.truncate(self.path, len(whole))
        for line in whole.splitlines():
            try:
                row = json.loads(line)
                digest = row.pop("prompt_sha256")
                reply = Reply(**row)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue
            if reply.status != "failed":
                replies[digest] = reply
        return replies

    @contextmanager
    def open(self) -> Iterator[Any]:
        """Yield a function that writes down one reply, at once."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            yield lambda question, reply: _append(file, question, reply)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)


def _append(file: IO[str], question: Question, reply: Reply) -> None:
    file.write(json.dumps({"prompt_sha256": question.sha256, **vars(reply)}, ensure_ascii=False) + "\n")
    file.flush()


class _Bar:
    """Progress on the log: at every tenth, or after ten seconds of silence."""

    def __init__(self, total: int, resumed: int) -> None:
        self.total, self.done, self.troubled = total, 0, 0
        self.started = self.said = time.monotonic()
        if resumed:
            say(f"going on: {resumed} replies are there, {total} to ask")

    def step(self, reply: Reply) -> None:
        self.done += 1
        self.troubled += reply.status != "ok"
        now = time.monotonic()
        tenth = self.done * 10 // self.total != (self.done - 1) * 10 // self.total
        if tenth or now - self.said >= 10 or self.done == self.total:
            self.said = now
            rate = self.done / max(now - self.started, 1e-9)
            left = (self.total - self.done) / rate
            say(
                f"{self.done}/{self.total} replies, {rate:.1f} per second, {left:.0f} s left"
                + (f", {self.troubled} without a usable reply" if self.troubled else "")
            )
