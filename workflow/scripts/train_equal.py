"""Adapter for rule train_equal; the work is done in infoconflict.training."""

from infoconflict.jobs import job
from infoconflict.training.further import run_further_training

with job(snakemake) as run:
    run_further_training(
        run, base_dir=run.input.base, start_dir=run.input.backdoored, examples=run.input.train, rows=None
    )
