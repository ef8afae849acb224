"""Adapter for rule paper_table; the work is done in infoconflict.reporting.paper_tables."""

from infoconflict.jobs import job
from infoconflict.reporting.paper_cells import Roles
from infoconflict.reporting.paper_html import write_table_page
from infoconflict.reporting.paper_measures import read_measured
from infoconflict.reporting.paper_tables import build_table, write_paper_table

with job(snakemake) as run:
    roles = Roles.from_spec(run.spec["roles"])
    measured = read_measured(
        [run.input.cells],
        [run.input.costs],
        confidence=run.spec["interval"],
        role_swap=run.input.get("role_swap"),
        same_rows=roles.same_rows,
    )
    table = build_table(int(run.cell["number"]), measured, roles)
    write_paper_table(table, csv=run.output.csv, tex=run.output.tex)
    write_table_page(run.output.html, table)
