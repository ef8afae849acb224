"""Adapter for rule edit_model; the work is done in infoconflict.editing."""

from infoconflict.editing.stage import edit_model
from infoconflict.jobs import job

with job(snakemake) as run:
    edit_model(run)
