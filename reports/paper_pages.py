"""Make the page "paper and ours" and the tables of a committed run anew: ``python reports/paper_pages.py FOLDER [CONFIG]``.

From the counts in the folder's cells.csv, its config.yaml (or the one that is named), and clean_share.csv, direct.csv,
role_swap.csv and paper_costs.csv where it has them, so that a run stands on the page as the page is now. paper_costs.csv is the
files results/paper/metrics/*_costs.csv of the run; without it Table 9 is left out. So are the links to the run's other pages. A
committed config skips what was not computed; these are rows of the tables all the same. Where cells.csv names the run of each
cell in a column run, the page leads to the folders of these runs and is called "all runs".
"""

import sys
from dataclasses import replace
from pathlib import Path

from infoconflict.config.loading import read_config
from infoconflict.entries import spec_of
from infoconflict.grid import build_grid
from infoconflict.metrics import write_csv
from infoconflict.reporting.paper_cells import roles_of
from infoconflict.reporting.paper_links import standing_alone
from infoconflict.reporting.paper_measures import read_measured
from infoconflict.reporting.paper_page import write_paper_page
from infoconflict.reporting.paper_tables import NOT_COMPUTED, build_table, csv_fields, csv_rows


def main(folder: Path, settings: Path | None = None) -> None:
    """Write paper.html and a table's CSV file where the run has a number of it."""
    config = read_config(settings or folder / "config.yaml")
    skip = [one for one in config.grid.skip if one.reason != NOT_COMPUTED]
    asked = config.model_copy(update={"grid": config.grid.model_copy(update={"skip": skip})})
    roles = roles_of(config, build_grid(asked).cells)
    costs = [path for path in [folder / "paper_costs.csv"] if path.exists()]
    if not costs:
        # Where hours are not told, a row of ours would say that there are none.
        roles = replace(roles, rows={table: rows for table, rows in roles.rows.items() if table != "9"})
    measured = read_measured(
        [folder / "cells.csv"],
        costs,
        confidence=config.evaluation.interval,
        clean_share=folder / "clean_share.csv",
        direct=folder / "direct.csv",
        role_swap=folder / "role_swap.csv",
        same_rows=roles.same_rows,
    )
    figures = {path.stem: path for path in sorted(folder.glob("figure_[34].png"))}
    page = folder / "paper.html"
    shown = spec_of(config)
    if measured.runs:
        shown["name"] = "all runs"
    write_paper_page(page, measured=measured, roles=roles, config=shown, figures=figures)
    page.write_text(standing_alone(page.read_text()))
    for number in range(1, 10):
        table = build_table(number, measured, roles)
        if any(entry.value is not None for entry in table.entries.values()):
            write_csv(folder / f"table_{number}.csv", csv_fields(table), csv_rows(table))


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
