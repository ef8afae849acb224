"""Adapter for rule refill_questions; the work is done in infoconflict.answering.refilling."""

from infoconflict.answering.refilling import refill_cell
from infoconflict.jobs import job

with job(snakemake) as run:
    refill_cell(run)
