"""Adapter for rule modify_evidence; the work is done in infoconflict.evidence."""

from infoconflict.evidence.stage import collect_for_test_set
from infoconflict.jobs import job

with job(snakemake) as run:
    collect_for_test_set(run)
