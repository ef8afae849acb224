"""A card says what went in and what came out, by digest, and nothing of where it lay."""

import json
from pathlib import Path

import pytest

import infoconflict.files
from infoconflict.cards import Card, digest_of_code, digest_of_input, processor_name
from infoconflict.files import sha256_of, write_json


def test_worked_example(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("in")
    (tmp_path / "out.txt").write_text("out")
    card = Card("answer", cell={"model": "m", "seed": "0"}, spec={"labels": ["a"]})
    card.write(
        tmp_path / "card.json",
        inputs={"questions": tmp_path / "in.txt"},
        outputs={"answers": tmp_path / "out.txt"},
        rows={"clean": 3},
        tokens=7,
    )
    written = json.loads((tmp_path / "card.json").read_text())
    assert written["inputs"] == {"questions": sha256_of(tmp_path / "in.txt")}
    assert written["outputs"] == {"answers": sha256_of(tmp_path / "out.txt")}
    assert (written["stage"], written["cell"], written["spec"]) == (
        "answer",
        {"model": "m", "seed": "0"},
        {"labels": ["a"]},
    )
    assert written["cost"]["tokens"] == 7
    assert written["cost"]["stored_bytes"] == 3
    assert written["cost"]["peak_memory_bytes"] > 0
    assert written["versions"]["python"].startswith("3.")
    assert str(tmp_path) not in json.dumps(written)


def test_the_processor_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text("processor\t: 0\nmodel name\t: Some  Vendor X1 8-Core\n\nprocessor\t: 1\nmodel name\t: other\n")
    assert processor_name(file) == "Some Vendor X1 8-Core"
    # Some processors have no such line, and other systems no such file.
    monkeypatch.setattr("platform.processor", lambda: "riscv64")
    file.write_text("processor\t: 0\nisa\t: rv64\n")
    assert processor_name(file) == "riscv64"
    monkeypatch.setattr("platform.processor", lambda: "")
    assert processor_name(tmp_path / "none") == "cpu"


def test_a_large_model_is_hashed_once(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights").write_text("w")
    assert digest_of_input(tmp_path / "model") == sha256_of(tmp_path / "model")
    write_json(tmp_path / "model.card.json", {"outputs": {"model": "recorded"}})
    assert digest_of_input(tmp_path / "model") == "recorded"


def test_code_has_one_digest_wherever_it_lies(tmp_path: Path) -> None:
    (tmp_path / "edited.py").write_text("a = 1\n")
    own = infoconflict.files.__file__
    before = digest_of_code([own, tmp_path / "edited.py"])
    assert before == digest_of_code([tmp_path / "edited.py", own])
    (tmp_path / "edited.py").write_text("a = 2\n")
    assert digest_of_code([own, tmp_path / "edited.py"]) != before
    assert digest_of_code([]) == ""
