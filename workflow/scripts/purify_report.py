"""Adapter for rule purify_report; the work is done in infoconflict.purify.report."""

from infoconflict.jobs import job
from infoconflict.purify.report import report_purification

with job(snakemake) as run:
    report_purification(run)
