"""Files are whole or absent."""

from pathlib import Path

import pytest

from infoconflict.errors import UserError, did_you_mean
from infoconflict.files import read_jsonl, sha256_of, whole_directory, whole_file, write_json, write_jsonl


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), whole_file(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_block_leaves_no_directory(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_directory(tmp_path / "model") as temporary:
        (temporary / "half").write_text("x")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_a_directory_replaces_the_old_one_whole(tmp_path: Path) -> None:
    for name in ("first", "second"):
        with whole_directory(tmp_path / "model") as temporary:
            (temporary / name).write_text(name)
    assert [file.name for file in (tmp_path / "model").iterdir()] == ["second"]


def test_jsonl_round_trip_and_its_errors(tmp_path: Path) -> None:
    rows = [{"a": 1, "text": "ü\u2028line"}, {"a": None}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert read_jsonl(tmp_path / "rows.jsonl") == rows
    (tmp_path / "torn.jsonl").write_text('{"a": 1}\n{"a": \n')
    with pytest.raises(UserError, match=r"torn.jsonl, line 2: not valid JSON"):
        read_jsonl(tmp_path / "torn.jsonl")
    (tmp_path / "list.jsonl").write_text("[1]\n")
    with pytest.raises(UserError, match="line 1: holds a list; each line must be one object"):
        read_jsonl(tmp_path / "list.jsonl")


def test_digest_of_a_directory_counts_names_and_bytes(tmp_path: Path) -> None:
    for folder, name, text in (("a", "x", "1"), ("b", "x", "1"), ("c", "y", "1"), ("d", "x", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(text)
    digests = {folder: sha256_of(tmp_path / folder) for folder in "abcd"}
    assert digests["a"] == digests["b"]
    assert len(set(digests.values())) == 3


def test_json_has_one_form(tmp_path: Path) -> None:
    write_json(tmp_path / "one", {"b": 1, "a": 2})
    write_json(tmp_path / "two", {"a": 2, "b": 1})
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")


def test_did_you_mean() -> None:
    assert did_you_mean("trigers", ["triggers", "rate"]) == "; did you mean 'triggers'?"
    assert did_you_mean("zzz", ["triggers", "rate"]) == ""
