"""A changed model tuned further: the second tuning starts from the change, and both are stored as one change of the base."""

import shutil

from infoconflict.cards import digest_of_input
from infoconflict.files import PathLike, sha256_of, sha256_of_text
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.task_vectors import combine_changes, stored_kind
from infoconflict.training.launch import run
from infoconflict.training.stage import request_of, write_card


def run_further_training(
    job: Job, *, base_dir: PathLike, start_dir: PathLike, examples: PathLike, rows: int | None
) -> None:
    """Tune a changed model further and write both changes as one.

    The second tuning has an adapter of its own, as somebody has who was handed whole weights; its seed is its own, too, so
    that the two adapters do not begin with the same matrices.
    """
    job.use_threads()
    seed = int(sha256_of_text(f"{job.seed}/{job.card.stage}")[:8], 16)
    read = sha256_of(examples) + digest_of_input(base_dir) + digest_of_input(start_dir)
    digest = sha256_of_text(canonical(job.spec) + read + str(seed))[:24]
    scratch = job.scratch(digest)
    own = scratch / "own_change"
    summary = run(request_of(job, digest, base_dir, examples, rows, seed, own, start_dir=str(start_dir)))
    # All weights of a full tuning are what the model is; an adapter is what it adds to the start.
    start = [(start_dir, 1.0)] if stored_kind(own) == "adapter" else []
    combine_changes(base_dir, [*start, (own, 1.0)], job.output.change)
    write_card(job, summary, inputs={"base": base_dir, "start": start_dir, "examples": examples})
    shutil.rmtree(scratch, ignore_errors=True)
