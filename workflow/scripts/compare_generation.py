"""Adapter for rule compare_generation; the work is done in infoconflict.answering.compare_generation."""

from infoconflict.answering.compare_generation import compare_generation
from infoconflict.jobs import job

with job(snakemake) as run:
    run.use_threads()
    compare_generation(run)
