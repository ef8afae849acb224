"""Adapter for rule purify_answer; the work is done in infoconflict.purify.purify."""

from infoconflict.jobs import job
from infoconflict.purify.purify import answer_role

with job(snakemake) as run:
    answer_role(run)
