"""Adapter for rule purify_rows; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import prepare_rows

with job(snakemake) as run:
    prepare_rows(run)
