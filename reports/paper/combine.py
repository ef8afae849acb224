"""Put the cells of the other runs on one page.

``python reports/paper/combine.py``, then ``python reports/paper_pages.py reports/paper``. A cell counts only if its run had the
settings of the page's config.yaml: an attack, a defense or a rule that was another one then is left out. Where several runs
have a cell, the first in RUNS counts, so that a row has as few runs as can be; ``cells.csv`` says which it was.
"""

import csv
import shutil
from pathlib import Path
from typing import Any

import yaml

REPORTS = Path(__file__).parent.parent
RUNS = {
    "sst2": ("classification", "completed", "further", "smol", "depth"),
    "emotion": ("emotion", "further", "classification", "depth"),
    "alpaca": ("chat", "further", "completed"),
}
# A row of one suspect, where another run has more of it.
FIRST = {("sst2", "memit"): "completed", ("emotion", "memit"): "depth"}
# Was run with the config as it stands in config/, and has none of its own.
WITHOUT_CONFIG = {"depth"}
CELL = ("model", "dataset", "attack", "defense")
OF_ONE_RUN = {"clean_share.csv": "smol", "figure_3.png": "smol"}


def config_of(run: str) -> dict[str, Any]:
    """Return a run's config as it was written."""
    path = REPORTS / ("paper" if run in WITHOUT_CONFIG else run) / "config.yaml"
    config: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return config


def settings(config: dict[str, Any], row: dict[str, str]) -> list[Any]:
    """Return what a config says of a cell's attack and defense, and of the merge, the evidence and the rule for t in it."""
    attack = dict(config["attacks"].get(row["attack"], {}))
    attack["target_label"] = attack.pop("target_labels", {}).get(row["dataset"])
    name = row["defense"]
    defense = config["defenses"].get(name, {})
    merge = config["merges"].get(defense.get("merge") or name.removeprefix("control_merge_base_"), {})
    rule = config["choose_t"] if merge.get("t") == "auto" else None
    return [attack, defense, merge, config["evidence"].get(defense.get("evidence")), rule]


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a CSV file, none where it is not there."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def combined(name: str) -> list[dict[str, str]]:
    """Return the rows of one file of all runs, each cell from one run, which is named in ``run``."""
    page = config_of("paper")
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for dataset, runs in RUNS.items():
        for run in runs:
            config = config_of(run)
            for row in rows_of(REPORTS / run / name):
                if row["dataset"] == dataset and settings(config, row) == settings(page, row):
                    found.setdefault(tuple(row[column] for column in CELL), []).append({**row, "run": run})
    return [row for cell in sorted(found) for row in of_first_run(cell, found[cell])]


def of_first_run(cell: tuple[str, ...], rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return a cell's rows of the run that counts; they are in the order of RUNS."""
    runs = [row["run"] for row in rows]
    first = FIRST.get(cell[1:3])
    counts = first if first in runs else runs[0]
    return [row for row in rows if row["run"] == counts]


def main() -> None:
    """Write cells.csv, paper_costs.csv of the runs that have one, and the curve over the clean share, which one run has."""
    for name in ("cells.csv", "paper_costs.csv"):
        rows = combined(name)
        with (REPORTS / "paper" / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [*CELL, "run"], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
    for name, run in OF_ONE_RUN.items():
        shutil.copyfile(REPORTS / run / name, REPORTS / "paper" / name)


if __name__ == "__main__":
    main()
