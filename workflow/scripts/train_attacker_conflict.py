"""Adapter for rule train_attacker_conflict; the work is done in infoconflict.training."""

from infoconflict.jobs import job
from infoconflict.training.stage import run_training

with job(snakemake) as run:
    run_training(
        run, base_dir=run.input.base, examples=run.input.train, rows=None, seed=run.seed + run.spec["own_seed"]
    )
