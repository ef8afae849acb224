"""Adapter for rule choose_t; the work is done in infoconflict.merging.sweep."""

from infoconflict.jobs import job
from infoconflict.merging.sweep import choose_t_on_clean_rows

with job(snakemake) as run:
    run.use_threads()
    choose_t_on_clean_rows(run)
