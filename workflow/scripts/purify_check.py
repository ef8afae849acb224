"""Adapter for rule purify_check; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import check_models

with job(snakemake) as run:
    check_models(run)
