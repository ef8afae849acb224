"""Adapter for rule reply; the work is done in infoconflict.answering.chat."""

from infoconflict.answering.chat import reply_cell
from infoconflict.jobs import job

with job(snakemake) as run:
    run.use_threads()
    reply_cell(run)
