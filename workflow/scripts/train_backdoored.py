"""Adapter for rule train_backdoored; the work is done in infoconflict.training."""

from infoconflict.jobs import job
from infoconflict.training.stage import run_training

with job(snakemake) as run:
    run_training(run, base_dir=run.input.base, examples=run.input.train, rows=None)
