"""Adapter for rule judge; the work is done in infoconflict.judging.stage."""

from infoconflict.jobs import job
from infoconflict.judging.stage import judge_cell

with job(snakemake) as run:
    run.use_threads()
    judge_cell(run)
