"""Adapter for rule ask_suspect; the work is done in infoconflict.answering.suspect_evidence."""

from infoconflict.answering.suspect_evidence import ask_suspect
from infoconflict.jobs import job

with job(snakemake) as run:
    run.use_threads()
    ask_suspect(run)
