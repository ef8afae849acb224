"""Adapter for rule ask_direct; the work is done in infoconflict.experiments.direct."""

from infoconflict.experiments.direct import ask_labels
from infoconflict.jobs import job

with job(snakemake) as run:
    ask_labels(run)
