"""Adapter for rule filter_questions; the work is done in infoconflict.answering.filtering and the defense's own file."""

from infoconflict.answering.filtering import filter_cell
from infoconflict.jobs import job

with job(snakemake) as run:
    filter_cell(run)
