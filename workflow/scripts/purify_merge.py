"""Adapter for rule purify_merge; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import merge

with job(snakemake) as run:
    merge(run)
