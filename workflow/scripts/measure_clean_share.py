"""Adapter for rule measure_clean_share; the work is done in infoconflict.experiments.measures."""

from infoconflict.experiments.measures import write_clean_share
from infoconflict.jobs import job

with job(snakemake) as run:
    write_clean_share(
        zip(run.spec["points"], run.input.get("answers", []), strict=True),
        run.output.csv,
        confidence=run.spec["interval"],
    )
