from pathlib import Path

import pytest
import yaml

from infoconflict.errors import UserError
from infoconflict.purify.options import from_variables, load_purification, main

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
    assert from_variables(GIVEN).model == "some/model@v1"
    assert from_variables(GIVEN).merge.t == "auto"
    assert from_variables(GIVEN).merge.depth_profile is None
    assert from_variables(GIVEN | {"PROFILE": "0, 1,1,0"}).merge.depth_profile == [0, 1, 1, 0]


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
        (GIVEN | {"SEED": "x"}, "SEED=x is not a number"),
        (GIVEN | {"TASK": "chat", "LABELS": "a,b"}, "belong to a classification"),
        (GIVEN | {"TASK": "talk"}, "task"),
    ],
)
def test_variables_that_cannot_be(given, says):
    with pytest.raises(UserError, match=says):
        from_variables(given)


def test_the_config_that_is_written_is_the_config_that_is_read(tmp_path, capsys):
    assert main(GIVEN | {"OUT": str(tmp_path / "out"), "METHOD": "ties"}) == 0
    path = tmp_path / "out" / "purify.yaml"
    assert load_purification(yaml.safe_load(path.read_text()), file=str(path)) == from_variables(
        GIVEN | {"METHOD": "ties"}
    )
    assert main({"OUT": str(tmp_path)}) == 1
    assert "MODEL and BASE and DATA missing" in capsys.readouterr().err
    assert Path(from_variables(GIVEN).data).is_absolute()
