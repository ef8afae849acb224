"""Adapter for rule measure_direct; the work is done in infoconflict.experiments.measures."""

from infoconflict.experiments.measures import write_direct
from infoconflict.jobs import job

with job(snakemake) as run:
    write_direct(
        zip(run.spec["questions"], run.input.get("answers", []), strict=True),
        run.output.csv,
        confidence=run.spec["interval"],
    )
