"""Adapter for rule list_excluded: the cells that are left out, and why."""

from infoconflict.files import write_json
from infoconflict.jobs import job

with job(snakemake) as run:
    write_json(run.output.excluded, run.spec["excluded"])
