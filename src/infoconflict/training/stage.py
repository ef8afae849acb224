"""A training stage as the workflow runs it: request, training, card, and a scratch folder that survives a kill."""

import shutil
from pathlib import Path

from infoconflict.cards import digest_of_input
from infoconflict.files import PathLike, sha256_of, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.training.launch import Request, run


def run_training(job: Job, *, base_dir: PathLike, examples: PathLike, rows: int | None) -> None:
    """Tune ``base_dir`` on the first ``rows`` examples and write the rule's ``change``, ``losses`` and ``card``."""
    job.use_threads()
    # All that decides the result: only a run with the same digest may continue this one.
    digest = sha256_of_text(canonical(job.spec) + sha256_of(examples) + digest_of_input(base_dir) + str(job.seed))[:24]
    scratch = job.scratch(digest)
    summary = run(
        Request(
            base_dir=str(base_dir),
            examples=str(examples),
            rows=rows,
            settings=job.spec["training"],
            seed=job.seed,
            out_dir=str(job.output.change),
            losses=str(job.output.losses),
            scratch=str(scratch),
            digest=digest,
            precision=job.spec["model"]["precision"],
            quantization=job.spec["model"]["quantization"],
            max_nodes=int(job.machine.get("max_nodes", 512)),
            gradient_checkpointing=bool(job.machine.get("gradient_checkpointing", 0)),
        )
    )
    seconds = summary.pop("training_seconds")
    job.card.write(
        job.output.card,
        inputs={"base": base_dir, "examples": examples},
        outputs={"change": job.output.change, "losses": job.output.losses},
        rows={"train": summary["rows"]},
        details={name: summary[name] for name in ("steps", "trainable_parameters", "final_loss", "computed_tokens")}
        | {"tokens_per_second": round(summary["tokens"] / seconds, 1) if seconds else None},
        tokens=summary["tokens"],
    )
    shutil.rmtree(Path(scratch), ignore_errors=True)
