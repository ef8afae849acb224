"""Adapter for rule prepare_model; the work is done in infoconflict.models.prepare."""

from infoconflict.jobs import job
from infoconflict.models.prepare import prepare_model

with job(snakemake) as run:
    run.use_threads()
    details = prepare_model(run.spec["model"], run.output.model, source_file=run.input.get("package"), seed=0)
    inputs = {"package": run.input.package} if run.input.get("package") else {}
    run.card.write(run.output.card, inputs=inputs, outputs={"model": run.output.model}, details=details)
