"""Adapter for rule prepare_dataset; the work is done in infoconflict.data.prepare."""

from pathlib import Path

from infoconflict.data.prepare import prepare_dataset
from infoconflict.jobs import job

with job(snakemake) as run:
    details = prepare_dataset(
        run.spec["dataset"],
        source_file=run.input.get("package"),
        seed=run.seed,
        out_dir=Path(run.output.train).parent,
    )
    run.card.write(
        run.output.card,
        inputs={"package": run.input.package} if run.input.get("package") else {},
        outputs={"train": run.output.train, "test": run.output.test},
        rows=details["rows"],
        details=details,
    )
