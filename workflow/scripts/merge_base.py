"""Adapter for rule merge_base; the work is done in infoconflict.merging.with_base."""

from infoconflict.jobs import job
from infoconflict.merging.with_base import merge_with_base

with job(snakemake) as run:
    run.use_threads()
    merge_with_base(run)
