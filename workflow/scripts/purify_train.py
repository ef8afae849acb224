"""Adapter for rule purify_train; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import tune_conflict

with job(snakemake) as run:
    tune_conflict(run)
