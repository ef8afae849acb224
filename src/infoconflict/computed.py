"""The part of a config that has been computed: ``python -m infoconflict.computed config/smol.yaml > config/part.yaml``.

A run that stopped half-way has a report, too: that of a config whose other cells are left out, each with that reason.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from infoconflict.config.loading import read_config
from infoconflict.config.schema import Config
from infoconflict.errors import UserError
from infoconflict.experiments.cells import curve_points, direct_questions, own_points, role_merges
from infoconflict.experiments.roles import ANSWERED
from infoconflict.files import PathLike
from infoconflict.grid import Cell, Grid, build_grid

REASON = "not computed"


def computed_part(config_file: PathLike, results: PathLike = "results") -> dict[str, Any]:
    """Return a config as plain values, without the cells, controls and experiments that have no answers yet.

    Raises
    ------
    UserError
        If the config cannot be read, or nothing of it has answers.
    """
    config, root = read_config(config_file), Path(results)
    part = yaml.safe_load(Path(config_file).read_text(encoding="utf-8"))
    grid = build_grid(config)
    done = [cell for cell in grid.cells if _answers(root / "answers", cell).exists()]
    if not done:
        raise UserError(f"no cell of {config_file} has answers under {root}; run some of it first, or name its results")
    part["name"] = f"{config.name}, as far as computed"

    # One skip for each attack, with all that is missing of it.
    missing: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for cell in (*grid.cells, *grid.controls()):
        known = missing[_key(cell)]
        if cell.defense not in known and not _answers(root / "answers", cell).exists():
            known.append(cell.defense)
    trials = {_key(cell) for cell in done}
    part["grid"]["skip"] = [
        *part["grid"].get("skip", []),
        *(
            {"model": model, "dataset": dataset, "attack": attack}
            | ({"defense": defenses} if (model, dataset, attack) in trials else {})
            | {"reason": REASON}
            for (model, dataset, attack), defenses in missing.items()
            if defenses
        ),
    ]
    _experiments(part, config, grid, root)
    return part


def _experiments(part: dict[str, Any], config: Config, grid: Grid, root: Path) -> None:
    """Take out of ``part`` what was not computed beside the cells."""
    swept = {path.parent.parent.name for path in (root / "sweep").glob("*/*/*/*/*/answers.jsonl")}
    part["sweep"] = part.get("sweep", {}) | {"merges": [merge for merge in config.sweep.merges if merge in swept]}
    if not any((root / "generation").glob("*/*/*/answers.jsonl")):
        part["evaluation"] = part.get("evaluation", {}) | {"compare_generation": False}

    points, own = curve_points(config, grid), set(own_points(config, grid))
    lacking = {
        point.share
        for point in points
        if not _answers(
            root / f"clean_share_curve/{point.share_name}/answers" if point in own else root / "answers", point
        ).exists()
    }
    shares = [share for share in config.clean_share_curve.shares if share not in lacking]
    part["clean_share_curve"] = part.get("clean_share_curve", {}) | (
        {"shares": shares} if points and shares else {"defenses": []}
    )

    unasked = {
        (question.direct, question.dataset)
        for question in direct_questions(config, grid)
        if not (
            root / "direct" / question.direct / question.dataset / f"s{question.seed}/r{question.run}"
            / f"{question.asked}.answers.jsonl"
        ).exists()
    }  # fmt: skip
    part["direct"] = {
        name: entry | {"datasets": datasets}
        for name, entry in part.get("direct", {}).items()
        if (datasets := [dataset for dataset in entry["datasets"] if (name, dataset) not in unasked])
    }
    unswapped = {
        merge.merge
        for merge in role_merges(config, grid)
        for name in ANSWERED
        if not (
            root / "role_swap/answers" / merge.model / merge.dataset / merge.attack / merge.merge / merge.experiment
            / f"s{merge.seed}/{name}.jsonl"
        ).exists()
    }  # fmt: skip
    part["role_swap"] = part.get("role_swap", {}) | {
        "merges": [merge for merge in config.role_swap.merges if merge not in unswapped]
    }


def _key(cell: Cell) -> tuple[str, str, str]:
    return cell.model, cell.dataset, cell.attack


def _answers(root: Path, cell: Cell) -> Path:
    return root / cell.model / cell.dataset / cell.attack / cell.defense / f"s{cell.seed}/answers.jsonl"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the part of a config that is computed, as YAML; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m infoconflict.computed", description=__doc__)
    parser.add_argument("config", help="the config that was run")
    parser.add_argument("--results", default="results", help="its results, results/ if not given")
    given = parser.parse_args(arguments)
    try:
        part = computed_part(given.config, given.results)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    yaml.safe_dump(part, sys.stdout, sort_keys=False, allow_unicode=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
