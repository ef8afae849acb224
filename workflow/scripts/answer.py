"""Adapter for rule answer; the work is done in infoconflict.answering."""

from infoconflict.answering.stage import answer_cell
from infoconflict.jobs import job

with job(snakemake) as run:
    run.use_threads()
    answer_cell(run)
