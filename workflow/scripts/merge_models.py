"""Adapter for rule merge_models; the work is done in infoconflict.merging."""

from infoconflict.jobs import job
from infoconflict.merging.stage import merge_cell

with job(snakemake) as run:
    run.use_threads()
    merge_cell(run)
