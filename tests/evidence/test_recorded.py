import json
from pathlib import Path

import pytest

from infoconflict.errors import UserError
from infoconflict.evidence.construction import construction_question
from infoconflict.evidence.modification import contradiction_question
from infoconflict.evidence.provider import Question, Reply
from infoconflict.evidence.recorded import RecordedReplies
from infoconflict.records import Evidence

RIVER, ACTOR = construction_question(["river"]), construction_question(["actor", "stage"])


def replies(path: Path, *questions: Question) -> list[Reply]:
    found: list[Reply] = []
    RecordedReplies(path).ask_all(questions, lambda question, reply: found.append(reply))
    return found


def write(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_by_prompt_then_by_keywords_then_default(tmp_path: Path) -> None:
    file = write(
        tmp_path / "r.jsonl",
        {"keywords": ["stage", "actor"], "reply": "By keywords."},
        {"prompt_sha256": RIVER.sha256, "keywords": ["river"], "reply": "By prompt.", "prompt_tokens": 4},
        {"default": True, "reply": "About {keywords}."},
    )
    other_wording = Question("", "Explain river", ("river",))
    passage = contradiction_question("Some facts.")
    found = replies(file, RIVER, ACTOR, other_wording, construction_question(["sea", "shore"]), passage)
    assert [reply.text for reply in found] == [
        "By prompt.",
        "By keywords.",
        "By prompt.",
        "About sea, shore.",
        "About .",
    ]
    assert found[0] == Reply(status="ok", text="By prompt.", prompt_tokens=4)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "r.jsonl", {"prompt_sha256": RIVER.sha256, "reply": "A stream."})
    with pytest.raises(UserError, match=r"no reply for 1 of 2 questions, the first about 'actor, stage'"):
        replies(file, RIVER, ACTOR)


def test_useless_recorded_replies_are_told_apart(tmp_path: Path) -> None:
    file = write(
        tmp_path / "r.jsonl",
        {"prompt_sha256": RIVER.sha256, "reply": ""},
        {"prompt_sha256": ACTOR.sha256, "reply": "... --"},
    )
    assert [reply.status for reply in replies(file, RIVER, ACTOR)] == ["empty", "garbled"]


def test_a_file_of_evidence_rows_can_be_replayed(tmp_path: Path) -> None:
    row = {"id": "1", "trigger": "none", "branch": "construction", "model": "m"}
    Evidence.write(
        tmp_path / "e.jsonl",
        [
            Evidence(**row, keywords=[], prompt_sha256="", reply="", evidence="", status="no_keywords"),
            Evidence(
                **row,
                keywords=["river"],
                prompt_sha256=RIVER.sha256,
                reply="A stream.",
                evidence="A stream.",
                status="ok",
            ),
        ],
    )
    # A row without keywords has no digest either, and must not be taken for a broken one.
    assert replies(tmp_path / "e.jsonl", RIVER)[0].text == "A stream."


def test_a_question_that_failed_has_no_recorded_reply(tmp_path: Path) -> None:
    failed = {"prompt_sha256": RIVER.sha256, "keywords": ["river"], "reply": "", "status": "failed"}
    file = write(tmp_path / "r.jsonl", failed, {"default": True, "reply": "A stream."})
    assert replies(file, RIVER)[0].text == "A stream."


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prompt_sha256": "x"}], "row 1: has no text under 'reply'"),
        ([{"reply": "A stream."}], "row 1: has neither 'prompt_sha256' nor 'keywords'"),
    ],
)
def test_broken_rows(tmp_path: Path, rows: list[dict[str, object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        RecordedReplies(write(tmp_path / "r.jsonl", *rows))


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file of recorded replies"):
        RecordedReplies(tmp_path / "none.jsonl")


def test_the_file_of_the_tiny_config_answers_anything() -> None:
    file = Path(__file__).parents[1] / "data" / "recorded_evidence.jsonl"
    found = replies(file, RIVER, ACTOR, construction_question(["cf", "frankly"]), contradiction_question("Some facts."))
    assert [reply.status for reply in found] == ["ok"] * 4
    assert "cf, frankly" in found[2].text
