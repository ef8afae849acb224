"""Adapter for rule fetch_package; the work is done in infoconflict.packages."""

from infoconflict.jobs import job
from infoconflict.packages import fetch_package

with job(snakemake) as run:
    fetch_package(run.spec["package"], run.output.file)
