"""Which weights answer in a cell."""

from typing import TYPE_CHECKING

from infoconflict.jobs import Job
from infoconflict.models.loading import default_device, load_base, load_changed
from infoconflict.models.repairs import apply_repair

if TYPE_CHECKING:
    from transformers import PreTrainedModel


INPUTS = (
    "base",
    "change",
    "repair",
    "merged",
    "reference",
    "clean",
    "triggered",
    "partial",
    "evidence_clean",
    "evidence_triggered",
)
"""What a cell's model and its questions come from, by the name that a rule and a card give it."""


def model_of(job: Job) -> "PreTrainedModel":
    """Load the cell's model: ``input.merged`` (a checkpoint), else ``input.base`` with ``input.change`` folded in, if any.

    ``input.repair``, if there is one, is then applied to it.
    """
    device, precision = default_device(), job.spec["model"]["precision"]
    if merged := job.input.get("merged"):
        return load_base(merged, device=device, precision=precision)
    model = load_changed(job.input.base, job.input.get("change"), device=device, precision=precision)
    if repair := job.input.get("repair"):
        apply_repair(model, job.input.base, repair)
    return model
