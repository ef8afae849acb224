"""Adapter for rule collect_statistics; the work is done in infoconflict.editing."""

from infoconflict.editing.statistics_stage import collect_statistics
from infoconflict.jobs import job

with job(snakemake) as run:
    collect_statistics(run)
