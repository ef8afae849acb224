"""Adapter for rule reply_direct; the work is done in infoconflict.experiments.direct."""

from infoconflict.experiments.direct import ask_replies
from infoconflict.jobs import job

with job(snakemake) as run:
    ask_replies(run)
