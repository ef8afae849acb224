"""The merged checkpoint of one cell as the workflow runs it: dense parents, mergekit, card."""

import tempfile
from pathlib import Path

from infoconflict.files import read_json
from infoconflict.jobs import Job
from infoconflict.merging.mergekit_runner import dense_checkpoint, merge_with_mergekit
from infoconflict.merging.sweep import method_options


def merge_cell(job: Job) -> None:
    """Fold both changes into the base, merge with mergekit, and keep the YAML that it was given beside the model."""
    merge = job.spec["merge"]
    t = read_json(job.input.chosen_t)["t"] if job.input.get("chosen_t") else merge["t"]
    target = Path(job.output.model)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The dense parents are several times the size of their changes: they live no longer than this job.
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        parents = {}
        for name in ("backdoored", "conflict"):
            parents[name] = Path(folder) / name
            dense_checkpoint(job.input.base, job.input[name], parents[name])
        details = merge_with_mergekit(
            method=merge["method"],
            t=t,
            backdoored_dir=parents["backdoored"],
            conflict_dir=parents["conflict"],
            base_dir=job.input.base,
            out_dir=target,
            yaml_path=job.output.mergekit,
            **method_options(merge),
        )
    inputs = {name: job.input[name] for name in ("base", "backdoored", "conflict")}
    if job.input.get("chosen_t"):
        inputs["chosen_t"] = job.input.chosen_t
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs={"model": target, "mergekit": job.output.mergekit},
        details={"t": t, **details},
    )
