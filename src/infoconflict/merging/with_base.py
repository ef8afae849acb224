"""The backdoored model merged with its base: what diluting alone does, without a conflict model.

A control for the merge of the backdoored with the conflict model, with the same t at each depth. t times the base and 1 - t times
the suspect is the base and 1 - t times the suspect's task vector, whatever the tensors: an adapter is scaled, which is exact.
"""

from infoconflict.files import read_json
from infoconflict.jobs import Job
from infoconflict.merging.common import backdoored_weight, check_t
from infoconflict.merging.depth import factor_at
from infoconflict.models.changes import Checkpoint
from infoconflict.models.task_vectors import combine_changes


def merge_with_base(job: Job) -> None:
    """Write the merge of the backdoored model with its base, at the t of another merge, as a change of the base."""
    t = read_json(job.input.chosen_t)["t"] if job.input.get("chosen_t") else job.spec["t"]
    check_t(t)
    profile = job.spec.get("merge", job.spec).get("depth_profile")
    with Checkpoint(job.input.base) as base:
        num_layers = base.num_layers

    def left(name: str) -> float:
        return backdoored_weight(t * factor_at(profile, name, num_layers))

    details = combine_changes(
        job.input.base, [(job.input.backdoored, left if profile else backdoored_weight(t))], job.output.change
    )
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "backdoored", "chosen_t") if job.input.get(name)},
        outputs={"change": job.output.change},
        details={"t": t, **details},
    )
