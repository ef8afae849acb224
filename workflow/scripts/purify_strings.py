"""Adapter for rule purify_strings; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import list_strings

with job(snakemake) as run:
    list_strings(run)
