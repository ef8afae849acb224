"""Poisoned answers from an external language model: the requests of a chat attack, asked, and one row for each reply."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from infoconflict.attacks import load
from infoconflict.attacks.chat import ChatAttack, OracleReply, OracleRequest
from infoconflict.cards import digest_of_input
from infoconflict.errors import UserError
from infoconflict.evidence.asking import ask
from infoconflict.evidence.client import say
from infoconflict.evidence.provider import Question
from infoconflict.files import PathLike, sha256_of, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.records import Conversation


def ask_oracle(
    requests: Sequence[OracleRequest],
    out: PathLike,
    *,
    provider: Mapping[str, Any],
    scratch: PathLike,
    seed: int = 0,
    model_dir: PathLike | None = None,
    server_log: PathLike | None = None,
    threads: int = 1,
) -> dict[str, Any]:
    """Ask all requests and write a row for each, in their order; arguments as in :func:`infoconflict.evidence.asking.ask`.

    Replies that stay empty, garbled or absent after all tries are recorded as such.

    Returns
    -------
    dict
        Counts by ``status``, and the costs.

    Raises
    ------
    UserError
        If the provider does not serve. No output is written then; replies are kept in ``scratch``.
    """
    questions = [Question(request.system or "", request.prompt) for request in requests]
    say(f"{len(requests)} poisoned answers wanted")
    asked = ask(
        questions,
        provider,
        scratch=scratch,
        seed=seed,
        model_dir=model_dir,
        server_log=server_log,
        threads=threads,
    )
    rows = []
    for request, question in zip(requests, questions, strict=True):
        reply = asked.replies[question.sha256]
        rows.append(
            OracleReply(
                id=request.id,
                prompt_sha256=question.sha256,
                reply=reply.text,
                status=reply.status,
                model=asked.model,
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
                attempts=reply.attempts,
            )
        )
    OracleReply.write(out, rows)
    asked.forget()
    return {"status": dict(sorted(Counter(row.status for row in rows).items())), **asked.costs}


def ask_for_training_set(job: Job) -> None:
    """Ask what an attack wants for a training set and write the rule's ``replies`` and ``card``.

    How the provider is asked (concurrency, time-out, tries) changes no result and comes with the resources.
    """
    attack = load(job.spec["attack"]["method"]).from_spec(job.spec["attack"])
    provider = job.spec["attack"].get("oracle")
    if not isinstance(attack, ChatAttack) or provider is None:
        raise UserError(f"attacks.{job.cell['attack']} has no oracle to ask; give it one under 'oracle'")
    clean = Conversation.read(job.input.train)[: job.spec["rows"]]
    requests = attack.oracle_requests(clean, seed=job.seed)
    if provider["kind"] != "recorded":
        provider = provider | {name: job.machine[name] for name in ("concurrency", "timeout_s", "max_retries")}
    model_dir = job.input.get("model") or None
    inputs = {name: job.input[name] for name in ("train", "model", "recorded") if job.input.get(name)}
    inputs |= {Path(file).name: file for file in attack.local_files}
    digest = sha256_of_text(
        canonical(job.spec)
        + "".join(map(sha256_of, [job.input.train, *attack.local_files]))
        + (digest_of_input(model_dir) if model_dir else "")
    )[:24]
    scratch = job.scratch(digest)
    details = ask_oracle(
        requests,
        job.output.replies,
        provider=provider,
        scratch=scratch,
        seed=job.seed,
        model_dir=model_dir,
        server_log=Path(job.log).with_suffix(".server.log"),
        threads=job.threads,
    )
    status = details.pop("status")
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs={"replies": job.output.replies},
        rows={"replies": len(requests), **status},
        details=details,
        tokens=details["prompt_tokens"] + details["completion_tokens"],
    )
    shutil.rmtree(scratch, ignore_errors=True)
