"""Adapter for rule purify_choose_t; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import choose_merge_weight

with job(snakemake) as run:
    choose_merge_weight(run)
