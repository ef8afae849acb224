"""Predicted against spent: by hand, and as laws."""

from pathlib import Path

import pytest

from infoconflict.config.loading import read_config
from infoconflict.ledger import (
    CHANGE_SHARE,
    HUB_ROWS,
    LIMIT_OVER_TUNING,
    LIMIT_OVER_TYPICAL,
    SMALL_FILES_BYTES,
    TYPICAL_ROWS,
    Planned,
    build_ledger,
    ledger_text,
    need_of,
    rows_of,
)

CONFIGS = Path(__file__).parents[1] / "config"
CELL = {"model": "m", "dataset": "d", "attack": "a", "seed": 0}


def card(stage, cell, seconds, *, stored=0, tokens=None):
    cost = {"seconds": seconds, "stored_bytes": stored} | ({"tokens": tokens} if tokens else {})
    return {"stage": stage, "cell": {name: str(value) for name, value in cell.items()}, "cost": cost}


def test_worked_example():
    planned = [
        Planned(stage="prepare_model", cell={"model": "m"}, parameters=7e9),
        Planned(stage="train_backdoored", cell=CELL, parameters=7e9),
        Planned(stage="train_backdoored", cell=CELL | {"seed": 1}, parameters=7e9),
        Planned(stage="merge_models", cell=CELL, parameters=7e9, temporary=True),
        Planned(stage="collect_evidence_clean", cell={"dataset": "d", "seed": 0}, calls=1000),
        Planned(stage="poison_train", cell={"dataset": "d", "attack": "a", "seed": 0}),
    ]
    found = build_ledger(planned)
    by_stage = {line.stage: line for line in found.lines}
    # 60 minutes and 60 per billion weights are 480 for one job.
    assert by_stage["train_backdoored"].limit_hours == pytest.approx(16)
    assert by_stage["train_backdoored"].predicted_hours == pytest.approx(16 / LIMIT_OVER_TUNING)
    assert by_stage["train_backdoored"].predicted_bytes == pytest.approx(2 * CHANGE_SHARE * 28e9)
    assert by_stage["merge_models"].predicted_bytes == 0
    assert by_stage["poison_train"].predicted_hours == 0
    assert found.largest_temporary_bytes == 28e9
    assert found.peak_bytes == pytest.approx(28e9 + 2 * CHANGE_SHARE * 28e9 + 2 * SMALL_FILES_BYTES + 28e9)
    assert (found.jobs, found.calls) == (6, 1000)
    # Only tuning computes with a model here: merging does so in main memory, an endpoint holds its own.
    assert found.gpu_hours == pytest.approx(16 / LIMIT_OVER_TUNING)
    assert found.predicted_hours > found.gpu_hours + 1 / LIMIT_OVER_TYPICAL


def test_what_is_left_is_told_from_cards_of_models_of_the_same_size():
    small = [Planned(stage="answer", cell=CELL | {"seed": seed}, parameters=1e9) for seed in range(3)]
    large = Planned(stage="answer", cell=CELL | {"model": "large"}, parameters=7e9)
    spent = [
        card("answer", CELL, 3600, stored=5, tokens=7),
        card("answer", CELL | {"seed": 1}, 7200),
        card("answer", CELL | {"attack": "another"}, 9e9),
    ]
    (line,) = build_ledger([*small, large], spent).lines
    assert (line.jobs, line.done, line.tokens, line.stored_bytes) == (4, 2, 7, 5)
    assert line.spent_hours == pytest.approx(3)
    # One small job at the mean of the two that are done, the large one as predicted.
    assert line.left_hours == pytest.approx(1.5 + large.minutes / 60)


def test_laws():
    planned = [Planned(stage="answer", cell=CELL | {"seed": seed}, parameters=1e9) for seed in range(5)]
    before = build_ledger(planned)
    assert before == build_ledger([*planned, *planned])
    assert before.lines[0].left_hours == pytest.approx(before.lines[0].predicted_hours)
    done = build_ledger(planned, [card("answer", job.cell, 60) for job in planned])
    assert done.lines[0].left_hours == 0
    assert done.predicted_hours == before.predicted_hours
    assert build_ledger([]).jobs == 0


@pytest.mark.parametrize(
    ("stage", "need"),
    [
        ("answer", "answer"),
        ("collect_evidence_triggered", "collect_evidence"),
        ("train_conflict", "train_conflict"),
        ("poison_test", None),
    ],
)
def test_need_of(stage, need):
    assert need_of(stage) == need


def test_text():
    planned = [Planned(stage="answer", cell=CELL, parameters=7e9), Planned(stage="poison_test", cell=CELL)]
    lines = ledger_text(build_ledger(planned)).splitlines()
    assert lines[0].split() == [
        *("stage", "jobs", "done", "hours", "at", "most", "spent", "left", "GB", "stored", "calls")
    ]
    assert lines[2].split() == ["answer", "1", "0", "0.2", "4.0", "0.0", "0.2", "0.0", "0.0", "0"]
    assert lines[5].split()[:3] == ["all", "2", "0"]
    assert len({len(line) for line in lines[:6]}) == 1
    assert "GPU hours" in lines[7]
    assert "dry run" not in "".join(lines)
    assert "A dry run counts 5 jobs" in ledger_text(build_ledger(planned, without_card=3))


@pytest.mark.parametrize(
    ("dataset", "train", "test"),
    # One tested on its validation split, one as it is, one file of which 200 rows are tested on.
    [("sst2", 67_349, 872), ("emotion", 16_000, 2_000), ("chat_backdoor", 9_800, 200)],
)
def test_rows_of_the_hub(dataset, train, test):
    entry = read_config(CONFIGS / "paper.yaml").datasets[dataset]
    assert (rows_of(entry, "train"), rows_of(entry, "test")) == (train, test)


def test_rows_that_a_config_states_come_first():
    entry = read_config(CONFIGS / "paper.yaml").datasets["emotion"]
    fewer = entry.model_copy(update={"train_rows": 300, "test_rows": 50})
    assert (rows_of(fewer, "train"), rows_of(fewer, "test")) == (300, 50)
    # A share of the training split, where that is the only one.
    shared = entry.model_copy(update={"splits": entry.splits.model_copy(update={"test": None})})
    assert (rows_of(shared, "train"), rows_of(shared, "test")) == (12_800, 3_200)
    other = entry.model_copy(update={"repo": "some/other"})
    assert (rows_of(other, "train"), rows_of(other, "test")) == (TYPICAL_ROWS["train"], TYPICAL_ROWS["test"])


def test_the_presets_have_no_set_of_the_hub_with_an_unknown_size():
    datasets = [entry for file in CONFIGS.glob("*.yaml") for entry in read_config(file).datasets.values()]
    assert {(entry.repo, entry.subset) for entry in datasets if entry.source == "hub"} <= HUB_ROWS.keys()
