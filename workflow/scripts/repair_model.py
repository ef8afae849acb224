"""Adapter for rule repair_model; the work is done in infoconflict.repairing and the defense's own file."""

from infoconflict.jobs import job
from infoconflict.repairing.stage import repair_cell

with job(snakemake) as run:
    repair_cell(run)
