"""Ask an external language model many questions, whoever it is, and lose no reply.

What a reply cost is never paid twice: each reply is written down at once outside the outputs, so that a run that was
killed goes on where it was, and equal prompts are asked once.
"""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from infoconflict.errors import UserError
from infoconflict.evidence.client import ChatEndpoint, api_key_from, say
from infoconflict.evidence.provider import Provider, Question, Reply
from infoconflict.evidence.recorded import RecordedReplies
from infoconflict.files import PathLike


@dataclass(frozen=True)
class Asked:
    """Replies by digest of the question, the model's name, and what it cost.

    ``forget`` removes the replies written down; call it when what was made of them is safe.
    """

    replies: dict[str, Reply]
    model: str
    costs: dict[str, Any]
    forget: Callable[[], None]


def ask(
    questions: Sequence[Question],
    settings: Mapping[str, Any],
    *,
    scratch: PathLike,
    seed: int = 0,
    model_dir: PathLike | None = None,
    server_log: PathLike | None = None,
    threads: int = 1,
) -> Asked:
    """Ask all questions of one provider; those whose replies an interrupted run left in ``scratch`` are not asked again.

    Parameters
    ----------
    questions : sequence of Question
        Equal ones are asked once.
    settings : mapping
        A provider of the config, with or without the keys that change no result.
    scratch : path
        Folder, outside all outputs, for the replies so far.
    seed : int
        Of the replies, as far as the endpoint follows it.
    model_dir : path, optional
        The checkpoint for a provider of kind ``local_server``.
    server_log : path, optional
        Where that server writes; ``server.log`` in ``scratch`` unless given.
    threads : int
        For that server.

    Returns
    -------
    Asked
        Its ``costs`` are ``questions``, ``asked``, ``resumed``, ``attempts``, ``prompt_tokens``,
        ``completion_tokens``, ``seconds``, ``model``, and for a local server how it ran.

    Raises
    ------
    UserError
        If settings, key, endpoint, server or recorded file do not serve; replies that came are kept.
    """
    started = time.monotonic()
    distinct = {question.sha256: question for question in questions}
    progress = _Progress(Path(scratch), _digest_of_settings(settings, seed, model_dir))
    replies = progress.load()
    resumed = len(replies.keys() & distinct.keys())
    missing = [question for digest, question in distinct.items() if digest not in replies]
    model = _model_name(settings)
    server: dict[str, Any] = {}
    if missing:
        log = server_log or Path(scratch, "server.log")
        with _provider(settings, seed, model_dir, log, threads) as (provider, server):
            model = provider.model
            with progress.open() as note:
                bar = _Bar(len(missing), resumed)

                def keep(question: Question, reply: Reply) -> None:
                    replies[question.sha256] = reply
                    note(question, reply)
                    bar.step(reply)

                provider.ask_all(missing, keep)
    used = [replies[digest] for digest in distinct]
    costs = {
        "questions": len(distinct),
        "asked": len(missing),
        "resumed": resumed,
        "attempts": sum(reply.attempts for reply in used),
        "prompt_tokens": sum(reply.prompt_tokens for reply in used),
        "completion_tokens": sum(reply.completion_tokens for reply in used),
        "seconds": round(time.monotonic() - started, 2),
        "model": model,
        **server,
    }
    return Asked(replies, model, costs, progress.remove)


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
            raise UserError(f"unknown provider '{other}'; Available: local_server, openai, recorded")


def _digest_of_settings(settings: Mapping[str, Any], seed: int, model_dir: PathLike | None) -> str:
    """Digest what can change a reply besides its prompt, so that replies of other settings are not taken for these."""
    provider = {
        name: value
        for name, value in settings.items()
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
