"""A training stage as the workflow runs it: request, training, card, and a scratch folder that survives a kill."""

import shutil
from typing import Any

from infoconflict.cards import digest_of_input
from infoconflict.files import PathLike, sha256_of, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.training.launch import Request, run


def run_training(
    job: Job, *, base_dir: PathLike, examples: PathLike, rows: int | None, seed: int | None = None
) -> None:
    """Tune ``base_dir`` on the first ``rows`` examples and write the rule's ``change``, ``losses`` and ``card``.

    ``seed`` is the cell's, if not given.
    """
    job.use_threads()
    seed = job.seed if seed is None else seed
    # All that decides the result: only a run with the same digest may continue this one.
    digest = sha256_of_text(canonical(job.spec) + sha256_of(examples) + digest_of_input(base_dir) + str(seed))[:24]
    summary = run(request_of(job, digest, base_dir, examples, rows, seed, job.output.change))
    write_card(job, summary, inputs={"base": base_dir, "examples": examples})
    shutil.rmtree(job.scratch(digest), ignore_errors=True)


def request_of(
    job: Job,
    digest: str,
    base_dir: PathLike,
    examples: PathLike,
    rows: int | None,
    seed: int,
    out_dir: PathLike,
    start_dir: str | None = None,
) -> Request:
    """Return the training run that a job's spec and machine describe."""
    return Request(
        base_dir=str(base_dir),
        start_dir=start_dir,
        examples=str(examples),
        rows=rows,
        settings=job.spec["training"],
        seed=seed,
        out_dir=str(out_dir),
        losses=str(job.output.losses),
        scratch=str(job.scratch(digest)),
        digest=digest,
        precision=job.spec["model"]["precision"],
        quantization=job.spec["model"]["quantization"],
        max_nodes=int(job.machine.get("max_nodes", 512)),
        gradient_checkpointing=bool(job.machine.get("gradient_checkpointing", 0)),
    )


def write_card(job: Job, summary: dict[str, Any], *, inputs: dict[str, PathLike]) -> None:
    """Write the card of a training run."""
    seconds = summary.pop("training_seconds")
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs={"change": job.output.change, "losses": job.output.losses},
        rows={"train": summary["rows"]},
        details={name: summary[name] for name in ("steps", "trainable_parameters", "final_loss", "computed_tokens")}
        | {"tokens_per_second": round(summary["tokens"] / seconds, 1) if seconds else None},
        tokens=summary["tokens"],
    )
