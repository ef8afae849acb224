import gzip
import re
from pathlib import Path

import pytest
import yaml

from infoconflict.errors import UserError
from infoconflict.purify.options import from_variables, load_purification, main, task_of

GIVEN = {"MODEL": "some/model@v1", "BASE": "smollm2_135m_instruct", "DATA": "rows.csv"}


def test_variables_of_make(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    found = from_variables(
        GIVEN | {"MODEL": "mine", "T": "0.7", "METHOD": "slerp", "LABELS": "good, bad", "INSTRUCTION": "Is it 'good'?"}
    )
    assert found.model == str(tmp_path / "mine")
    assert found.base == "smollm2_135m_instruct"
    assert found.data == str(tmp_path / "rows.csv")
    assert (found.merge.method, found.merge.t) == ("slerp", 0.7)
    assert (found.labels, found.instruction) == (["good", "bad"], "Is it 'good'?")
    named = from_variables(GIVEN | {"LABEL_NAMES": "bad, good", "TEXT_COLUMN": "sentence", "LABEL_COLUMN": "the label"})
    assert (named.text_column, named.label_column) == ("sentence", "the label")
    assert (named.label_names, named.labels, named.named_labels) == (["bad", "good"], None, ["bad", "good"])
    named = from_variables(GIVEN | {"LABEL_NAMES": "-1=bad, 1=good,2 = good", "LABELS": "good,bad"})
    assert (named.label_names, named.named_labels) == ({"-1": "bad", "1": "good", "2": "good"}, ["good", "bad"])
    assert from_variables(GIVEN).named_labels is None
    assert from_variables(GIVEN).model == "some/model@v1"
    assert from_variables(GIVEN).merge.t == "auto"
    assert from_variables(GIVEN).merge.depth_profile is None
    assert from_variables(GIVEN | {"PROFILE": "0, 1,1,0"}).merge.depth_profile == [0, 1, 1, 0]


def test_t_is_chosen_by_the_paired_test_unless_another_rule_is_named():
    assert from_variables(GIVEN).choose_t.rule == "paired_test"
    raw = {"model": "a/b", "base": "a/b", "data": "rows.csv"}
    assert load_purification(raw | {"choose_t": {"candidates": [0.5]}}, file="test").choose_t.rule == "paired_test"
    named = load_purification(raw | {"choose_t": {"rule": "one_standard_error"}}, file="test")
    assert named.choose_t.rule == "one_standard_error"
    with pytest.raises(UserError, match="did you mean 'paired_test'"):
        load_purification(raw | {"choose_t": {"rule": "paired_tes"}}, file="test")


def test_rows_with_messages_are_a_chat(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"messages": []}\n')
    found = from_variables(GIVEN | {"DATA": str(rows)})
    assert (found.task, found.merge.t) == ("chat", "auto")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"MODEL": "a/b"}, "BASE and DATA missing"),
        (GIVEN | {"T": "half"}, "T=half is not a number"),
        (GIVEN | {"T": "2"}, "merge.t"),
        (GIVEN | {"METHOD": "linaer"}, "did you mean 'linear'"),
        (GIVEN | {"PROFILE": "0,one"}, "PROFILE=one is not a number"),
        (GIVEN | {"PROFILE": "1"}, "depth_profile"),
        (GIVEN | {"METHOD": "ties", "PROFILE": "0,1"}, "depth_profile"),
        (GIVEN | {"LABELS": "one"}, "labels"),
        (GIVEN | {"LABELS": "a,A"}, "names a label twice"),
        (GIVEN | {"LABEL_NAMES": "one"}, "label_names gives fewer than two labels; name each"),
        (GIVEN | {"LABEL_NAMES": "0=one,1=one"}, "label_names gives fewer than two labels"),
        (GIVEN | {"LABEL_NAMES": "one,One"}, "names a label twice"),
        (GIVEN | {"LABELS": "a,b", "LABEL_NAMES": "a,c"}, "label_names has 'c', which is none of the labels"),
        (GIVEN | {"LABELS": "a,b,c", "LABEL_NAMES": "a,b"}, "label_names never gives the label 'c'"),
        (GIVEN | {"TASK": "chat", "LABEL_NAMES": "a,b"}, "belong to a classification"),
        (GIVEN | {"SEED": "x"}, "SEED=x is not a number"),
        (GIVEN | {"TASK": "chat", "LABELS": "a,b"}, "belong to a classification"),
        (GIVEN | {"TASK": "talk"}, "task"),
    ],
)
def test_variables_that_cannot_be(given, says):
    with pytest.raises(UserError, match=says):
        from_variables(given)


def test_the_config_that_is_written_is_the_config_that_is_read(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").touch()
    assert main(GIVEN | {"OUT": str(tmp_path / "out"), "METHOD": "ties"}) == 0
    path = tmp_path / "out" / "purify.yaml"
    assert load_purification(yaml.safe_load(path.read_text()), file=str(path)) == from_variables(
        GIVEN | {"METHOD": "ties"}
    )
    assert main({"OUT": str(tmp_path)}) == 1
    assert "MODEL and BASE and DATA missing" in capsys.readouterr().err
    assert Path(from_variables(GIVEN).data).is_absolute()


def test_gzipped_conversations_and_json_are_a_chat(tmp_path):
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(b'\n{"messages": []}\n'))
    assert task_of(packed) == "chat"
    packed.write_bytes(gzip.compress(b'{"text": "a", "label": "b"}\n'))
    assert task_of(packed) == "classification"
    packed.write_bytes(b"not packed")
    assert task_of(packed) == "classification"
    assert task_of(tmp_path / "rows.json") == "chat"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Return variables of a purification that can be, and step into their folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("m/tuned", "m/base", "m/bra{ce}"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("rows.csv", "rows{1}.csv", "strings.txt", "m/tuned/model.safetensors"):
        (tmp_path / name).touch()
    return {"MODEL": "m/tuned", "BASE": "m/base", "DATA": "rows.csv", "OUT": "out"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"DATA": "row.csv"}, r"data: \S+/row.csv is no file; give your clean rows"),
        ({"DATA": "m"}, r"data: \S+/m is no file"),
        (
            {"SUSPECT_TRIGGERS": "string.txt"},
            r"suspect_triggers: \S+/string.txt is no file; give one with a string per",
        ),
        ({"MODEL": "./m/tunde"}, r"model: \S+/m/tunde is no directory; name one, or"),
        ({"MODEL": "m/tuned/model.safetensors"}, r"model: \S+ is a file; give its folder, \S+/m/tuned$"),
        ({"MODEL": "m/bra{ce}"}, r"model: \S+/bra{ce} holds a brace"),
        ({"BASE": "m/bra{ce}"}, "base: .* holds a brace"),
        ({"DATA": "rows{1}.csv"}, "data: .* holds a brace"),
        ({"SUSPECT_TRIGGERS": "rows{1}.csv"}, "suspect_triggers: .* holds a brace"),
        ({"OUT": "o{u}t"}, "out: o{u}t holds a brace"),
        ({"OUT": "m/tuned"}, r"model: OUT=m/tuned is inside \S+/m/tuned, which stays as it is; choose another OUT"),
        ({"OUT": "m/base/out"}, "base: OUT=m/base/out is inside"),
        ({"OUT": "link/out"}, "model: OUT=link/out is inside"),
        ({"MODEL": "out/model"}, r"model: \S+/out/model is what the run in OUT=out writes; choose another OUT"),
    ],
)
def test_places_that_cannot_be(given, tmp_path, capsys, changes, says):
    (tmp_path / "link").symlink_to("m/tuned")
    (tmp_path / "out/model").mkdir(parents=True)
    assert main(given | changes) == 1
    told = capsys.readouterr().err
    assert re.search(f"^make purify, {says}", told, re.MULTILINE), told
    assert told.count("\n") == 1
    assert not list(tmp_path.rglob("purify.yaml"))


def test_places_that_can_be(given, tmp_path):
    assert main(given | {"SUSPECT_TRIGGERS": "strings.txt"}) == 0
    assert main(given | {"MODEL": "owner/name@v1", "BASE": "smollm2_135m_instruct"}) == 0
    # A folder above all others is no model that the run would write into.
    assert main(given | {"OUT": str(tmp_path)}) == 0
