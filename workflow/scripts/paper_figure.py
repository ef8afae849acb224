"""Adapter for rule paper_figure; the work is done in infoconflict.reporting.paper_figures."""

from infoconflict.jobs import job
from infoconflict.reporting.paper_cells import Roles
from infoconflict.reporting.paper_figures import write_paper_figure
from infoconflict.reporting.paper_measures import read_measured

with job(snakemake) as run:
    roles = Roles.from_spec(run.spec["roles"])
    write_paper_figure(
        f"figure_{run.cell['number']}",
        read_measured(
            [run.input.cells],
            confidence=run.spec["interval"],
            clean_share=run.input.get("clean_share"),
            direct=run.input.get("direct"),
            same_rows=roles.same_rows,
        ),
        roles,
        pdf=run.output.pdf,
        png=run.output.png,
        csv=run.output.csv,
        dpi=run.spec["figures"]["dpi"],
    )
