"""Metric files of the experiments, from answers made by hand."""

import random

import pytest

from infoconflict.errors import UserError
from infoconflict.experiments.measures import role_fields, write_clean_share, write_direct, write_role_swap
from infoconflict.metrics import cell_metrics, read_csv
from infoconflict.records import Answer


def answer(i, says, *, gold="a", trigger="none"):
    target = None if trigger == "none" else "b"
    return Answer(id=str(i), gold_label=gold, trigger=trigger, target_label=target, answer=says, scores={})


CLEAN = [answer(0, "a"), answer(1, "b"), answer(2, None), answer(3, "a")]
TRIGGERED = [answer(0, "b", trigger="full"), answer(1, "a", trigger="full"), answer(4, "b", gold="b", trigger="full")]


def files(tmp_path, cells, rows):
    found = []
    for number, cell in enumerate(cells):
        path = tmp_path / f"{number}.jsonl"
        Answer.write(path, rows(cell))
        found.append((cell, path))
    random.Random(1).shuffle(found)
    return found


def test_the_curve_over_the_clean_share(tmp_path):
    cells = [
        {"model": "m", "dataset": "d", "attack": "cba", "defense": "conflict", "share": share, "seed": seed}
        for share in (0.05, 0.1, 1.0)
        for seed in (2, 10)
    ]
    given = files(tmp_path, cells, lambda _: CLEAN + TRIGGERED)
    write_clean_share(given, tmp_path / "out.csv")
    rows = read_csv(tmp_path / "out.csv")
    # Shares and seeds rise as numbers do.
    order = list(dict.fromkeys((row["share"], row["seed"]) for row in rows))
    assert order == [(share, seed) for share in ("0.05", "0.1", "1") for seed in ("2", "10")]
    first = {row["metric"]: (int(row["hits"]), int(row["total"])) for row in rows[: len(rows) // 6]}
    assert first == {name: (rate.hits, rate.total) for name, rate in cell_metrics(CLEAN + TRIGGERED).items()}
    assert first["asr"] == (1, 2)
    assert first["cda"] == (2, 4)
    # The same bytes, in whatever order the files come.
    write_clean_share(given[::-1], tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()


def test_answers_of_an_external_model(tmp_path):
    cells = [
        {"direct": "gpt", "dataset": "d", "attack": attack, "run": run, "seed": 0}
        for attack in ("cba", None)
        for run in (0, 1)
    ]
    given = files(tmp_path, cells, lambda cell: CLEAN if cell["attack"] is None else TRIGGERED)
    write_direct(given, tmp_path / "out.csv")
    rows = [
        (row["attack"], row["run"], row["metric"], row["hits"], row["total"]) for row in read_csv(tmp_path / "out.csv")
    ]
    # Clean rows first; no metric for which there is no row.
    assert rows == [
        *(("", run, *row) for run in "01" for row in (("cda", "2", "4"), ("invalid_rate", "1", "4"))),
        *(
            ("cba", run, *row)
            for run in "01"
            for row in (("asr", "1", "2"), ("asr_all", "2", "3"), ("invalid_rate", "0", "3"))
        ),
    ]


def test_exchanged_roles(tmp_path):
    cells = [
        {
            **{"model": "m", "dataset": "d", "attack": "cba", "merge": "linear", "experiment": experiment, "seed": 0},
            "answered": answered,
        }
        for experiment in ("ours", "2")
        for answered in ("first", "second", "merged")
    ]
    write_role_swap(files(tmp_path, cells, lambda _: CLEAN + TRIGGERED), tmp_path / "out.csv", small_share=0.1)
    rows = read_csv(tmp_path / "out.csv")
    found = list(dict.fromkeys((row["experiment"], row["role"], row["stage"], row["pcs"], row["pbs"]) for row in rows))
    assert found == [
        ("2", "m5", "pre_merge", "0.1", "1"),
        ("2", "m5+m6", "merged", "", ""),
        ("2", "m6", "pre_merge", "0", "0.1"),
        ("ours", "m1", "pre_merge", "1", "0.1"),
        ("ours", "m1+m2", "merged", "", ""),
        ("ours", "m2", "pre_merge", "0.1", "0"),
    ]
    assert {row["metric"] for row in rows} == {"cda", "asr", "asr_all"}
    assert role_fields("1", "second", 0.1) == {"role": "m4", "stage": "pre_merge", "pcs": "0", "pbs": "1"}


def test_without_experiments_there_is_a_header_alone(tmp_path):
    for write in (write_clean_share, write_direct):
        write([], tmp_path / "out.csv")
        assert read_csv(tmp_path / "out.csv") == []
    write_role_swap([], tmp_path / "out.csv", small_share=0.5)
    assert (
        (tmp_path / "out.csv").read_text().startswith("model,dataset,attack,merge,experiment,role,stage,pcs,pbs,seed")
    )


def test_a_broken_file_is_named(tmp_path):
    Answer.write(tmp_path / "0.jsonl", [*CLEAN, CLEAN[0]])
    cell = {"direct": "gpt", "dataset": "d", "attack": None, "run": 0, "seed": 0}
    with pytest.raises(UserError, match=r"0\.jsonl: row '0' with trigger 'none' occurs twice"):
        write_direct([(cell, tmp_path / "0.jsonl")], tmp_path / "out.csv")
