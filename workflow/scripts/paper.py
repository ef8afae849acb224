"""Adapter for rule paper; the work is done in infoconflict.reporting.paper_page."""

from pathlib import Path

from infoconflict.jobs import job
from infoconflict.reporting.paper_cells import Roles
from infoconflict.reporting.paper_measures import read_measured
from infoconflict.reporting.paper_page import write_paper_page

with job(snakemake) as run:
    roles = Roles.from_spec(run.spec["roles"])
    measured = read_measured(
        run.input.cells,
        run.input.costs,
        confidence=run.spec["interval"],
        clean_share=run.input.get("clean_share"),
        direct=run.input.get("direct"),
        role_swap=run.input.get("role_swap"),
        same_rows=roles.same_rows,
    )
    write_paper_page(
        run.output.page,
        measured=measured,
        roles=roles,
        config=run.spec["config"],
        figures={Path(path).stem: path for path in run.input.figures},
    )
