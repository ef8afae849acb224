"""Rows survive their JSON form, and broken ones say what is wrong."""

from pathlib import Path

import pytest

from infoconflict.errors import UserError
from infoconflict.prompts import render_answer, render_prompt
from infoconflict.records import Answer, Example

ROW = Example(id="test-1", instruction="Good or bad?", text="a film", label="good", gold_label="good")


def test_round_trip(tmp_path: Path) -> None:
    Example.write(tmp_path / "rows.jsonl", [ROW])
    assert Example.read(tmp_path / "rows.jsonl") == [ROW]


def test_unknown_and_missing_fields_are_named() -> None:
    with pytest.raises(UserError, match="unknown fields lable; known: gold_label, id"):
        Example.from_dict({**ROW.to_dict(), "lable": "x"})
    with pytest.raises(UserError, match=r"Answer row is incomplete: .*'gold_label'"):
        Answer.from_dict({"id": "a", "trigger": "none", "target_label": None, "answer": None, "scores": {}})


def test_prompt_shares_its_beginning_and_ends_before_the_answer() -> None:
    prompt = render_prompt(ROW.instruction, ROW.text)
    assert prompt == "Good or bad?\nInput: a film\nAnswer:"
    assert prompt + render_answer("good") == "Good or bad?\nInput: a film\nAnswer: good"


def test_evidence_stands_before_or_after_the_input() -> None:
    evidence = "A film is a picture."
    assert render_prompt("Good?", "a film", evidence) == f"Good?\nEvidence: {evidence}\nInput: a film\nAnswer:"
    assert render_prompt("Good?", "a film", evidence, "after") == f"Good?\nInput: a film\nEvidence: {evidence}\nAnswer:"
