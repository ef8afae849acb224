"""Adapter for rule answer_roles; the work is done in infoconflict.experiments.role_answers."""

from infoconflict.experiments.role_answers import answer_roles
from infoconflict.jobs import job

with job(snakemake) as run:
    run.use_threads()
    answer_roles(run)
