"""The backdoored model merged with its base: what diluting alone does, without a conflict model.

A control for the merge of the backdoored with the conflict model. t times the base and 1 - t times the suspect is the base and
1 - t times the suspect's task vector, whatever the tensors: an adapter is scaled, which is exact.
"""

from infoconflict.files import read_json
from infoconflict.jobs import Job
from infoconflict.merging.common import backdoored_weight, check_t
from infoconflict.models.task_vectors import combine_changes


def merge_with_base(job: Job) -> None:
    """Write the merge of the backdoored model with its base, at the t of another merge, as a change of the base."""
    t = read_json(job.input.chosen_t)["t"] if job.input.get("chosen_t") else job.spec["t"]
    check_t(t)
    details = combine_changes(job.input.base, [(job.input.backdoored, backdoored_weight(t))], job.output.change)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "backdoored", "chosen_t") if job.input.get(name)},
        outputs={"change": job.output.change},
        details={"t": t, **details},
    )
