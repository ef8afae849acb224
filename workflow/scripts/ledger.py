"""Adapter for rule ledger; the work is done in infoconflict.ledger, while the workflow is read: the rules know their jobs."""

from infoconflict.jobs import job

with job(snakemake) as run:
    run.tell(run.spec["ledger"])
