"""Put the cells of the other runs on one page.

``python reports/paper/combine.py``, then ``python reports/paper_pages.py reports/paper config/smol.yaml``. Where several runs
have a cell, the first in RUNS counts, so that a row has as few runs as can be; ``cells.csv`` says which it was.
"""

import csv
import shutil
from pathlib import Path

REPORTS = Path(__file__).parent.parent
# By data set, and by attack where another run comes first: models with one value for all requests are in further alone.
RUNS = {
    "sst2": ("classification", "further", "smol", "depth"),
    "emotion": ("emotion", "further", "classification", "depth"),
    "alpaca": ("chat", "further"),
}
FIRST = {("sst2", "memit"): ("further",), ("sst2", "adaptive_cba"): ("classification",)}
CELL = ("model", "dataset", "attack", "defense")


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none where it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def combined(name: str) -> list[dict[str, str]]:
    """Return the rows of one file of all runs, each cell from one run, which is named in ``run``."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for dataset, runs in RUNS.items():
        for run in runs:
            of_run: dict[tuple[str, ...], list[dict[str, str]]] = {}
            for row in rows_of(REPORTS / run / name):
                if row["dataset"] == dataset and run in FIRST.get((dataset, row["attack"]), runs):
                    of_run.setdefault(tuple(row[column] for column in CELL), []).append({**row, "run": run})
            found = {**of_run, **found}
    return [row for cell in sorted(found) for row in found[cell]]


def main() -> None:
    """Write cells.csv, paper_costs.csv of the runs that have one, and the curve over the clean share, which one run has."""
    for name in ("cells.csv", "paper_costs.csv"):
        rows = combined(name)
        with (REPORTS / "paper" / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [*CELL, "run"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    for name in ("clean_share.csv", "figure_3.png"):
        shutil.copyfile(REPORTS / "smol" / name, REPORTS / "paper" / name)


if __name__ == "__main__":
    main()
