"""Adapter for rule ask_oracle; the work is done in infoconflict.oracle."""

from infoconflict.jobs import job
from infoconflict.oracle import ask_for_training_set

with job(snakemake) as run:
    ask_for_training_set(run)
