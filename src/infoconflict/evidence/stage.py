"""Evidence for one test set as the workflow runs it: questions, provider, rows, card."""

import shutil
from pathlib import Path

from infoconflict.cards import digest_of_input
from infoconflict.evidence.collect import collect_evidence
from infoconflict.files import read_jsonl, sha256_of, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.records import read_queries


def collect_for_test_set(job: Job) -> None:
    """Ask the evidence of every question and write the rule's ``evidence`` and ``card``.

    How the provider is asked (concurrency, time-out, tries) changes no result and comes with the resources.
    """
    model_dir = job.input.get("model") or None
    suspect = job.input.get("suspect") or None
    options = dict(job.spec["evidence"])
    asked = {name: job.machine[name] for name in ("concurrency", "timeout_s", "max_retries")}
    kind = options["provider"]["kind"]
    options["provider"] = options["provider"] | (asked if kind != "recorded" else {})
    digest = sha256_of_text(
        canonical(job.spec)
        + "".join(map(sha256_of, [job.input.questions, *([suspect] if suspect else [])]))
        + (digest_of_input(model_dir) if model_dir else "")
    )[:24]
    scratch = job.scratch(digest)
    details = collect_evidence(
        [(read_queries(job.input.questions)[: job.spec.get("asked_rows")], job.output.evidence)],
        options=options,
        labels=job.spec.get("labels", []),
        scratch=scratch,
        seed=job.seed,
        model_dir=model_dir,
        server_log=Path(job.log).with_suffix(".server.log"),
        threads=job.threads,
        suspect_answers=read_replies(suspect) if suspect else None,
    )
    rows = {"evidence": sum(details["rows"].values()), **details["status"]}
    inputs = {"questions": job.input.questions}
    inputs |= {name: job.input[name] for name in ("model", "recorded", "suspect") if job.input.get(name)}
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs={"evidence": job.output.evidence},
        rows=rows,
        # Seconds and retries stand in the cost or differ from run to run; what was asked and said stays.
        details={name: value for name, value in details.items() if name not in ("rows", "status")},
        tokens=details["prompt_tokens"] + details["completion_tokens"],
    )
    shutil.rmtree(scratch, ignore_errors=True)


def read_replies(path: str) -> dict[tuple[str, str], str]:
    """Return the suspect's replies by question."""
    return {(row["id"], row["trigger"]): row["reply"] for row in read_jsonl(path)}
