"""Adapter for rule calibrate_judge; the work is done in infoconflict.judging.stage."""

from infoconflict.jobs import job
from infoconflict.judging.stage import calibrate_judges

with job(snakemake) as run:
    run.use_threads()
    calibrate_judges(run)
