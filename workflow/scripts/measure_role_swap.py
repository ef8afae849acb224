"""Adapter for rule measure_role_swap; the work is done in infoconflict.experiments.measures."""

from infoconflict.experiments.measures import write_role_swap
from infoconflict.jobs import job

with job(snakemake) as run:
    write_role_swap(
        zip(run.spec["merges"], run.input.get("answers", []), strict=True),
        run.output.csv,
        small_share=run.spec["small_share"],
        confidence=run.spec["interval"],
    )
