"""Which weights answer in a cell."""

from typing import TYPE_CHECKING

from infoconflict.jobs import Job
from infoconflict.models.loading import default_device, load_base, load_changed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def model_of(job: Job) -> "PreTrainedModel":
    """Load the cell's model: ``input.merged`` (a checkpoint), else ``input.base`` with ``input.change`` folded in, if any."""
    device, precision = default_device(), job.spec["model"]["precision"]
    if merged := job.input.get("merged"):
        return load_base(merged, device=device, precision=precision)
    return load_changed(job.input.base, job.input.get("change"), device=device, precision=precision)
