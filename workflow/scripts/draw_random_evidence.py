"""Adapter for rule draw_random_evidence; the work is done in infoconflict.controls."""

from infoconflict.controls import draw_random_evidence
from infoconflict.jobs import job

with job(snakemake) as run:
    draw_random_evidence(run)
