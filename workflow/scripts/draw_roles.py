"""Adapter for rule draw_roles; the work is done in infoconflict.experiments.role_rows."""

from infoconflict.experiments.role_rows import draw_roles
from infoconflict.jobs import job

with job(snakemake) as run:
    draw_roles(run)
