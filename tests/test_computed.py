"""The part of a config that has answers."""

import itertools
from pathlib import Path

import pytest
import yaml

from infoconflict.computed import REASON, computed_part, main
from infoconflict.config.loading import read_config
from infoconflict.errors import UserError
from infoconflict.experiments.cells import direct_questions, own_points, role_merges
from infoconflict.experiments.roles import ANSWERED
from infoconflict.grid import Cell, build_grid

TINY = Path(__file__).parents[1] / "config/tiny.yaml"


def answer(root: Path, cell: Cell) -> None:
    path = root / "answers" / cell.model / cell.dataset / cell.attack / cell.defense / f"s{cell.seed}/answers.jsonl"
    touch(path)


def touch(path: Path) -> None:
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
    defenses = read_config(TINY).defenses
    used = {
        (trial(cell), name, getattr(defenses.get(cell.defense), name, None))
        for cell in chosen
        for name in ("merge", "evidence")
    }

    def is_left(cell: Cell) -> bool:
        # A merge with the base is the control of a merge, random words that of evidence: there is none where no defense uses them.
        for name, control in (("merge", "control_merge_base_"), ("evidence", "control_random_evidence_")):
            if cell.defense.startswith(control):
                return (trial(cell), name, cell.defense.removeprefix(control)) in used
        return trial(cell) in with_cells

    assert {*read_part(root, tmp_path)} == {cell for cell in chosen if is_left(cell)}
    part = computed_part(TINY, root)
    skipped = yaml.safe_load(TINY.read_text())["grid"]["skip"]
    assert part["grid"]["skip"][: len(skipped)] == skipped
    assert {skip["reason"] for skip in part["grid"]["skip"][len(skipped) :]} == {REASON}
    assert part["clean_share_curve"]["defenses"] == []
    assert part["sweep"]["merges"] == []
    assert part["role_swap"]["merges"] == []
    assert part["direct"] == {}
    assert part["evaluation"]["compare_generation"] is False


def test_a_trial_without_answers_is_left_out_whole(tmp_path: Path) -> None:
    grid = build_grid(read_config(TINY))
    first = trial(grid.cells[0])
    for cell in grid.cells:
        if trial(cell) == first:
            answer(tmp_path / "results", cell)
    whole = {
        (skip["model"], skip["dataset"], skip["attack"])
        for skip in computed_part(TINY, tmp_path / "results")["grid"]["skip"]
        if skip["reason"] == REASON and "defense" not in skip
    }
    assert whole == {trial(cell) for cell in grid.cells} - {first}


def test_a_whole_grid_stays_whole(tmp_path: Path) -> None:
    grid = build_grid(read_config(TINY))
    for cell in (*grid.cells, *grid.controls()):
        answer(tmp_path / "results", cell)
    assert read_part(tmp_path / "results", tmp_path) == (*grid.cells, *grid.controls())


def test_experiments_stay_as_far_as_they_were_made(tmp_path: Path) -> None:
    config = read_config(TINY)
    grid, root = build_grid(config), tmp_path / "results"
    for cell in grid.cells:
        answer(root, cell)
    lost, *shares = config.clean_share_curve.shares
    for point in own_points(config, grid):
        if point.share != lost:
            answer(root / f"clean_share_curve/{point.share_name}", point)
    for asked in direct_questions(config, grid):
        if asked.dataset == "reviews":
            touch(root / f"direct/{asked.direct}/reviews/s{asked.seed}/r{asked.run}/{asked.asked}.answers.jsonl")
    for merge in role_merges(config, grid):
        folder = f"{merge.model}/{merge.dataset}/{merge.attack}/{merge.merge}/{merge.experiment}/s{merge.seed}"
        for name in ANSWERED:
            touch(root / f"role_swap/answers/{folder}/{name}.jsonl")
    part = computed_part(TINY, root)
    assert lost != config.clean_share.share
    assert part["clean_share_curve"]["shares"] == shares
    assert part["clean_share_curve"]["defenses"] == config.clean_share_curve.defenses
    assert {dataset for entry in part["direct"].values() for dataset in entry["datasets"]} == {"reviews"}
    assert part["role_swap"]["merges"] == config.role_swap.merges != []


def test_nothing_computed_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"no cell of .* has answers under"):
        computed_part(TINY, tmp_path)
    assert main([str(TINY), "--results", str(tmp_path)]) == 1
    assert "run some of it first" in capsys.readouterr().err
