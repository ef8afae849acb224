"""Adapter for rule sweep_merge; the work is done in infoconflict.merging.sweep."""

from infoconflict.jobs import job
from infoconflict.merging.sweep import sweep_over_t

with job(snakemake) as run:
    run.use_threads()
    sweep_over_t(run)
