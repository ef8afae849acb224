"""Which cells changed, and because of what: a made-up chain of five cards, one difference at a time."""

import copy

import pytest

from infoconflict.diff import Cause, compare, differences, main, read_run, report_lines
from infoconflict.errors import UserError
from infoconflict.files import write_json, write_text

MODEL = {"model": "m", "dataset": "d", "attack": "a", "seed": "0"}


def card(stage, cell, inputs, outputs, **spec):
    return {
        "stage": stage,
        "cell": cell,
        "spec": spec,
        "code": f"code of {stage}",
        "inputs": inputs,
        "outputs": outputs,
        "versions": {"torch": "2.13"},
        "cost": {"device": "cpu"},
    }


def chain():
    """Data, tuning, conflict, and the answers of two defenses; keyed by a short name."""
    none, conflict = MODEL | {"defense": "none"}, MODEL | {"defense": "conflict"}
    return {
        "data": card("prepare_dataset", {"dataset": "d", "seed": "0"}, {"file": "f"}, {"train": "tr", "test": "te"}),
        "tuned": card("train_backdoored", MODEL, {"train": "tr"}, {"change": "b"}, training={"epochs": 3, "rank": 8}),
        "conflict": card("train_conflict", MODEL, {"train": "tr"}, {"change": "c"}, training={"epochs": 1}, above="x"),
        "none": card("answer", none, {"change": "b", "clean": "te"}, {"answers": "n"}),
        "both": card("answer", conflict, {"change": "b", "conflict": "c", "clean": "te"}, {"answers": "k"}),
    }


def write(folder, cards, rates=()):
    for name, one in cards.items():
        write_json(folder / "results" / name / "card.json", one)
    head = "model,dataset,attack,defense,seed,metric,hits,total,rate,low,high\n"
    write_text(folder / "results/metrics/cells.csv", head + "".join(rates))
    return read_run(folder)


@pytest.fixture
def runs(tmp_path):
    def make(**changes):
        after = copy.deepcopy(chain())
        for path, value in changes.items():
            *way, last = path.split("__")
            place = after
            for step in way:
                place = place[step]
            place[last] = value
        return write(tmp_path / "old", chain()), write(tmp_path / "new", after)

    return make


def test_nothing_changed(runs):
    found = compare(*runs())
    assert found.changed == {}
    assert found.same == ["m/d/a/conflict/s0", "m/d/a/none/s0"]


def test_a_setting_two_stages_above(runs):
    old, new = runs(
        conflict__spec__training__epochs=4,
        conflict__spec__above="y",
        conflict__outputs__change="c2",
        both__inputs__conflict="c2",
        both__outputs__answers="k2",
        both__spec__above="z",
    )
    found = compare(old, new)
    cause = Cause(kind="params", stage="train_conflict", what="training.epochs 1 → 4")
    assert found.changed == {"m/d/a/conflict/s0": (cause,)}
    assert found.same == ["m/d/a/none/s0"]


def test_data_and_code_reach_every_cell_below(runs):
    old, new = runs(
        data__inputs__file="f2",
        data__outputs__train="tr2",
        tuned__inputs__train="tr2",
        tuned__code="edited",
        tuned__outputs__change="b2",
        none__inputs__change="b2",
        none__outputs__answers="n2",
        both__inputs__change="b2",
        both__outputs__answers="k2",
    )
    found = compare(old, new)
    causes = (
        Cause(kind="code", stage="train_backdoored", what="code of trai → edited"),
        Cause(kind="data", stage="prepare_dataset", what="file of d/s0 is another file"),
    )
    assert found.changed == {"m/d/a/conflict/s0": causes, "m/d/a/none/s0": causes}


def test_versions_machine_and_chance(runs):
    old, new = runs(none__outputs__answers="n2", none__versions={"torch": "3"}, none__cost={"device": "GPU"})
    assert [cause.kind for cause in compare(old, new).changed["m/d/a/none/s0"]] == ["machine", "versions"]
    old, new = runs(none__outputs__answers="n2")
    assert [cause.kind for cause in compare(old, new).changed["m/d/a/none/s0"]] == ["unknown"]


def test_a_card_without_code_is_no_cause(runs):
    old, new = runs(none__outputs__answers="n2", none__code="")
    assert [cause.kind for cause in compare(old, new).changed["m/d/a/none/s0"]] == ["unknown"]


def test_inputs_that_come_go_or_have_no_card(runs):
    old, new = runs(both__inputs={"change": "b", "evidence": "e", "clean": "te9"}, both__outputs__answers="k2")
    said = [str(cause) for cause in compare(old, new).changed["m/d/a/conflict/s0"]]
    assert said == [
        "inputs of answer: conflict is gone",
        "inputs of answer: evidence is new",
        "missing cards of answer: who wrote clean of m/d/a/conflict/s0 in the later run left no card",
    ]


def test_new_and_gone_cells(tmp_path):
    before, after = chain(), chain()
    del before["both"], after["none"]
    found = compare(write(tmp_path / "old", before), write(tmp_path / "new", after))
    assert (found.new, found.gone) == (["m/d/a/conflict/s0"], ["m/d/a/none/s0"])


def test_differences_of_settings():
    old = {"a": 1, "b": {"c": [1], "d": 2}, "e": 0}
    new = {"a": 1, "b": {"c": [1, 2], "d": 2}, "f": 0}
    assert list(differences(old, new)) == ["b.c [1] → [1, 2]", "e is gone: 0", "f is new: 0"]


def test_said_with_rates(tmp_path):
    after = chain()
    after["none"]["outputs"]["answers"] = "n2"
    rows = [f"m,d,a,none,0,asr,{hits},100,0.{hits},0,1\n" for hits in (90, 80)]
    old, new = write(tmp_path / "old", chain(), rows[:1]), write(tmp_path / "new", after, rows[1:])
    lines = list(report_lines(compare(old, new), old, new))
    assert lines[0] == "1 of 2 cells in both runs changed; 1 the same, 0 new, 0 gone."
    assert lines[2:] == [
        "1 cell, because of",
        "  unknown of answer: the same settings, code and inputs gave another result",
        "    m/d/a/none/s0  ASR 90.0 → 80.0 %",
    ]


def counted(asr, *, ftr="0.5"):
    """Rows of one cell in cells.csv, by rates as they stand there."""
    return [f"m,d,a,none,0,{metric},1,2,{rate},0,1\n" for metric, rate in (("asr", asr), ("ftr", ftr))]


def counting(code="counted so", **changes):
    return {"metrics": card("metrics", {}, {}, {"cells": "x"}, **{"interval": 0.95} | changes) | {"code": code}}


def test_the_same_answers_counted_otherwise(tmp_path):
    old = write(tmp_path / "old", chain() | counting(), counted("0.9"))
    new = write(tmp_path / "new", chain() | counting("otherwise"), counted("0.8"))
    found = compare(old, new)
    cause = Cause(kind="code", stage="metrics", what="counted so → otherwise")
    assert found.changed == {"m/d/a/none/s0": (cause,)}
    assert found.same == ["m/d/a/conflict/s0"]
    lines = list(report_lines(found, old, new))
    assert lines[0] == "1 of 2 cells in both runs changed; 1 the same, 0 new, 0 gone."
    assert lines[-1] == "    m/d/a/none/s0  ASR 90.0 → 80.0 %"


def test_other_code_of_the_metrics_with_the_same_rates_is_no_change(tmp_path):
    old = write(tmp_path / "old", chain() | counting(), counted("0.9"))
    new = write(tmp_path / "new", chain() | counting("otherwise", interval=0.9), counted("0.9"))
    assert compare(old, new).changed == {}


def test_any_metric_counts_and_one_without_rows(tmp_path):
    old = write(tmp_path / "old", chain() | counting(), counted("0.9"))
    new = write(tmp_path / "new", chain() | counting(interval=0.9), counted("0.9", ftr=""))
    lines = list(report_lines(compare(old, new), old, new))
    assert lines[2:] == [
        "1 cell, because of",
        "  settings of metrics: interval 0.95 → 0.9",
        "    m/d/a/none/s0  ASR 90.0 → 90.0 %, ftr 50.0 → none %",
    ]
    # A metric that only one run has is no other number.
    fewer = write(tmp_path / "fewer", chain() | counting(), counted("0.9")[:1])
    assert compare(old, fewer).changed == {}


def test_other_answers_may_also_be_counted_otherwise(tmp_path):
    after = chain() | counting("otherwise")
    after["none"]["outputs"]["answers"] = "n2"
    old = write(tmp_path / "old", chain() | counting(), counted("0.9"))
    new = write(tmp_path / "new", after, counted("0.8"))
    assert {cause.kind for cause in compare(old, new).changed["m/d/a/none/s0"]} == {"unknown", "code"}
    # Not where the same answers of another cell are counted alike.
    alike = [row.replace("none", "conflict") for row in counted("0.3")]
    old = write(tmp_path / "old", chain() | counting(), counted("0.9") + alike)
    new = write(tmp_path / "new", after, counted("0.8") + alike)
    assert {cause.kind for cause in compare(old, new).changed["m/d/a/none/s0"]} == {"unknown"}


def test_other_rates_without_a_reason_in_the_cards(tmp_path):
    old = write(tmp_path / "old", chain() | counting(), counted("0.9"))
    same = write(tmp_path / "same", chain() | counting(), counted("0.8"))
    (causes,) = compare(old, same).changed.values()
    assert [str(cause) for cause in causes] == [
        "unknown of metrics: the same answers, settings and code gave other rates"
    ]
    early = write(tmp_path / "early", chain(), counted("0.8"))
    (causes,) = compare(early, old).changed.values()
    assert [str(cause) for cause in causes] == [
        "missing cards of metrics: the same answers gave other rates, and the metrics of the earlier run left no card"
    ]


def test_runs_without_rates_say_so(tmp_path):
    old = write(tmp_path / "old", chain(), counted("0.9"))
    new = write(tmp_path / "new", chain())
    said = list(report_lines(compare(old, new), old, new))
    assert said[1:] == ["Answers alone were compared: the runs have no rates of the same cells in metrics/cells.csv."]


def test_the_program(tmp_path, capsys):
    write(tmp_path / "old", chain(), counted("0.9"))
    assert main([str(tmp_path / "old"), str(tmp_path / "old" / "results")]) == 0
    assert capsys.readouterr().out == "0 of 2 cells in both runs changed; 2 the same, 0 new, 0 gone.\n"
    assert main([str(tmp_path / "nothing"), str(tmp_path / "old")]) == 2
    assert "holds no card" in capsys.readouterr().err
    with pytest.raises(UserError, match="holds no card"):
        read_run(tmp_path / "old" / "results" / "metrics")
