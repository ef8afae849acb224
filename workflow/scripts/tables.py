"""Adapter for rule tables; the work is done in infoconflict.reporting.tables."""

from pathlib import Path

from infoconflict.jobs import job
from infoconflict.reporting.tables import write_tables

with job(snakemake) as run:
    write_tables(
        Path(run.input.metrics[0]).parent,
        list(zip(run.spec["chosen_t"], run.input.get("chosen_t", []), strict=True)),
        run.input.excluded,
        Path(run.output.csv[0]).parent,
        confidence=run.spec["interval"],
    )
