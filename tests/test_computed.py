"""The part of a config that has answers."""

import itertools
from pathlib import Path

import pytest
import yaml

from infoconflict.computed import REASON, computed_part, main
from infoconflict.config import read_config
from infoconflict.errors import UserError
from infoconflict.grid import Cell, build_grid

TINY = Path(__file__).parents[1] / "config/tiny.yaml"


def answer(root: Path, cell: Cell) -> None:
    path = root / "answers" / cell.model / cell.dataset / cell.attack / cell.defense / f"s{cell.seed}/answers.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def trial(cell: Cell) -> tuple[str, str, str]:
    return cell.model, cell.dataset, cell.attack


def read_part(root: Path, tmp_path: Path) -> tuple[Cell, ...]:
    """Return the cells and controls of the part, read as any config is."""
    path = tmp_path / "part.yaml"
    path.write_text(yaml.safe_dump(computed_part(TINY, root), sort_keys=False))
    grid = build_grid(read_config(path))
    return (*grid.cells, *grid.controls())


def test_only_what_has_answers_is_left(tmp_path: Path) -> None:
    grid = build_grid(read_config(TINY))
    cells = (*grid.cells, *grid.controls())
    root = tmp_path / "results"
    # Every seventh cell, and one whole trial's first.
    chosen = {*itertools.islice(cells, 0, None, 7), grid.cells[0]}
    for cell in chosen:
        answer(root, cell)
    with_cells = {trial(cell) for cell in chosen & {*grid.cells}}
    assert {*read_part(root, tmp_path)} == {cell for cell in chosen if trial(cell) in with_cells}
    part = computed_part(TINY, root)
    skipped = yaml.safe_load(TINY.read_text())["grid"]["skip"]
    assert part["grid"]["skip"][: len(skipped)] == skipped
    assert {skip["reason"] for skip in part["grid"]["skip"][len(skipped) :]} == {REASON}
    assert part["clean_share_curve"]["defenses"] == []
    assert part["sweep"]["merges"] == []
    assert part["role_swap"]["merges"] == []
    assert part["direct"] == {}


def test_a_whole_grid_stays_whole(tmp_path: Path) -> None:
    grid = build_grid(read_config(TINY))
    for cell in (*grid.cells, *grid.controls()):
        answer(tmp_path / "results", cell)
    assert read_part(tmp_path / "results", tmp_path) == (*grid.cells, *grid.controls())


def test_nothing_computed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no cell of .* has answers under"):
        computed_part(TINY, tmp_path)
    assert main([str(TINY), "--results", str(tmp_path)]) == 1
    assert "run some of it first" in capsys.readouterr().err
