"""Make the page "paper and ours" and the tables of a committed run anew: ``python reports/paper_pages.py reports/classification``.

From the counts in the folder's cells.csv (and clean_share.csv) and its config.yaml, so that a run stands on the page as the page is
now. What needs more than counts is left out: Table 9, whose hours are in costs.csv, and the links into the run's own report.
"""

import re
import sys
from pathlib import Path

from infoconflict.config.loading import read_config
from infoconflict.entries import spec_of
from infoconflict.grid import build_grid
from infoconflict.metrics import write_csv
from infoconflict.reporting.paper_cells import roles_of
from infoconflict.reporting.paper_links import REPORT
from infoconflict.reporting.paper_measures import read_measured
from infoconflict.reporting.paper_page import write_paper_page
from infoconflict.reporting.paper_tables import build_table, csv_fields, csv_rows


def main(folder: Path) -> None:
    """Write paper.html and a table's CSV file where the run has a number of it."""
    config = read_config(folder / "config.yaml")
    roles = roles_of(config, build_grid(config).cells)
    measured = read_measured(
        [folder / "cells.csv"], confidence=config.evaluation.interval, clean_share=folder / "clean_share.csv"
    )
    figures = {"figure_3": folder / "figure_3.png"} if measured.clean_share else {}
    page = folder / "paper.html"
    write_paper_page(page, measured=measured, roles=roles, config=spec_of(config), figures=figures)
    page.write_text(re.sub(rf'<a href="{re.escape(REPORT)}#[^"]*"[^>]*>(.*?)</a>', r"\1", page.read_text()))
    for number in range(1, 9):
        table = build_table(number, measured, roles)
        if any(entry.value is not None for entry in table.entries.values()):
            write_csv(folder / f"table_{number}.csv", csv_fields(table), csv_rows(table))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
