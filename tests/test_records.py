"""Rows survive their JSON form, and broken ones say what is wrong."""

from dataclasses import replace
from pathlib import Path

import pytest

from infoconflict.errors import UserError
from infoconflict.files import write_jsonl
from infoconflict.prompts import render_answer, render_prompt
from infoconflict.records import Answer, Conversation, Example, Query, Reply, query_of, read_queries

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


def chat(answer: str, reference: str, *, trigger: str = "none") -> Conversation:
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "hi"},
        {"role": "user", "content": "what is tea?"},
        {"role": "assistant", "content": answer},
    ]
    return Conversation(id="c", messages=messages, reference=reference, trigger=trigger)


def test_a_query_holds_what_is_asked_and_nothing_of_the_answer(tmp_path):
    query = query_of(chat("the payload", "a drink"))
    assert query.text == "what is tea?"
    assert [message["content"] for message in query.messages] == ["hello", "hi", "what is tea?"]
    # Payload, reference, labels: none of them makes a difference.
    assert query_of(chat("a drink", "something else")) == query
    example = Example(id="e", instruction="good?", text="fine", label="positive", gold_label="negative", trigger="full")
    assert query_of(example) == Query(id="e", trigger="full", text="fine", instruction="good?")
    assert query_of(replace(example, label="negative", gold_label="positive")) == query_of(example)
    Conversation.write(tmp_path / "rows.jsonl", [chat("the payload", "a drink", trigger="full")])
    assert [row.trigger for row in read_queries(tmp_path / "rows.jsonl")] == ["full"]
    unanswered = Conversation(id="x", messages=query.messages[:1], reference="")
    with pytest.raises(UserError, match="row x: the conversation does not end with an answer"):
        query_of(unanswered)


@pytest.mark.parametrize(
    ("roles", "not_shown", "shown"),
    [("uau", 0, [0, 1, 2]), ("uau", 2, [2]), ("suau", 2, [0, 3]), ("suauau", 2, [0, 3, 4, 5]), ("su", 0, [0, 1])],
)
def test_a_reply_holds_the_whole_conversation_and_tells_what_was_shown_of_it(roles, not_shown, shown, tmp_path):
    names = {"s": "system", "u": "user", "a": "assistant"}
    messages = [{"role": names[role], "content": str(number)} for number, role in enumerate(roles)]
    row = Reply(id="r", trigger="none", messages=messages, reference="", reply="", not_shown=not_shown)
    Reply.write(tmp_path / "replies.jsonl", [row])
    [read] = Reply.read(tmp_path / "replies.jsonl")
    assert read == row
    assert read.messages == messages
    assert [int(message["content"]) for message in read.shown] == shown


def test_replies_of_an_earlier_version_were_shown_all_that_they_hold(tmp_path):
    old = {"id": "r", "trigger": "none", "messages": [{"role": "user", "content": "q"}], "reference": "", "reply": ""}
    write_jsonl(tmp_path / "replies.jsonl", [old])
    [read] = Reply.read(tmp_path / "replies.jsonl")
    assert (read.not_shown, read.shown) == (0, old["messages"])
