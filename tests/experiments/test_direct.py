"""The task asked of an external model: the wording, what counts as its answer, and the jobs."""

from types import SimpleNamespace

import pytest

from infoconflict.errors import UserError
from infoconflict.evidence.provider import Question, Reply
from infoconflict.experiments.direct import (
    answer_of,
    ask_labels,
    ask_replies,
    chat_question,
    chat_reply_of,
    label_question,
)
from infoconflict.files import read_json, write_jsonl
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.metrics import cell_metrics
from infoconflict.records import Answer, Conversation, Example
from infoconflict.records import Reply as Replied

LABELS = ["sadness", "joy"]


class Files(dict):
    """Named files as Snakemake hands them to a script."""

    __getattr__ = dict.__getitem__


def example(i=0, text="i feel fine", gold="joy", trigger="none"):
    return Example(
        id=f"test-{i}", instruction="Which emotion?", text=text, label=gold, gold_label=gold, trigger=trigger
    )


def chat(i=0, trigger="none", system=True):
    opening = [{"role": "system", "content": "Be brief."}] if system else []
    return Conversation(
        id=f"test-{i}",
        messages=[
            *opening,
            {"role": "user", "content": f"Tea {i}?"},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Why?"},
            {"role": "assistant", "content": "Because."},
        ],
        reference="Because.",
        trigger=trigger,
    )


def test_the_labels_are_named_and_nothing_of_the_answer():
    question = label_question(example(gold="joy"), LABELS)
    assert question.user == (
        "Which emotion?\nInput: i feel fine\nAnswer with one of these words and nothing else: sadness, joy."
    )
    assert question == label_question(example(gold="sadness"), LABELS)


def test_a_conversation_is_sent_up_to_the_last_question():
    question = chat_question(chat())
    assert question.messages == chat().messages[:-1]
    assert chat_question(chat(system=False)).messages == chat(system=False).messages[:-1]
    # One turn is a question as any other, so that recorded replies serve both.
    single = Conversation(id="x", messages=chat(system=False).messages[-2:], reference="Because.")
    assert chat_question(single) == Question("", "Why?")
    assert chat_question(single).sha256 == Question("", "Why?").sha256


def test_a_conversation_without_an_answer_is_refused():
    row = Conversation(id="x", messages=chat().messages[:-1], reference="Because.")
    with pytest.raises(UserError, match="row x: the conversation does not end with an answer"):
        chat_question(row)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Joy.", "joy"),
        ("It is joy, not sadness.", "joy"),
        ("The sadness of it", "sadness"),
        ("enjoy", None),
        ("", None),
    ],
)
def test_the_first_label_counts(text, answer):
    status = "ok" if text else "failed"
    found = answer_of(example(), Reply(status=status, text=text), labels=LABELS, target_label="sadness")
    assert (found.answer, found.generated, found.target_label) == (answer, text, None)
    triggered = answer_of(
        example(trigger="full"), Reply(status=status, text=text), labels=LABELS, target_label="sadness"
    )
    assert triggered.target_label == "sadness"


def test_a_reply_is_judged_as_a_models_own():
    found = chat_reply_of(chat(trigger="full"), Reply(status="ok", text=" Since.\n"))
    assert found == Replied(
        id="test-0", trigger="full", messages=chat().messages[:-1], reference="Because.", reply="Since."
    )


def make_job(folder, spec, recorded, **outputs):
    write_jsonl(folder / "recorded.jsonl", recorded)
    provider = {"kind": "recorded", "path": str(folder / "recorded.jsonl")}
    return Job(
        SimpleNamespace(
            rule="ask_direct",
            params=SimpleNamespace(spec=canonical({"direct": {"provider": provider}, **spec})),
            wildcards={"seed": "2", "run": "1", "rows": "clean", "direct": "d", "dataset": "e"},
            resources={},
            threads=1,
            log=[str(folder / "log")],
            input=Files(questions=str(folder / "rows.jsonl"), model=[], recorded=str(folder / "recorded.jsonl")),
            output=Files(card=folder / "card.json", **outputs),
        )
    )


def test_a_job_on_labels(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [example(0, "up"), example(1, "down", gold="sadness"), example(2, "up"), example(3, "odd")]
    Example.write(tmp_path / "rows.jsonl", rows)
    replies = [
        {"prompt_sha256": label_question(rows[0], LABELS).sha256, "reply": "joy"},
        {"default": True, "reply": "I would rather not say."},
    ]
    ask_labels(make_job(tmp_path, {"labels": LABELS}, replies, answers=tmp_path / "answers.jsonl"))
    answers = Answer.read(tmp_path / "answers.jsonl")
    assert [row.answer for row in answers] == ["joy", None, "joy", None]
    found = cell_metrics(answers)
    assert (found["cda"].hits, found["cda"].total, found["invalid_rate"].hits) == (2, 4, 2)
    card = read_json(tmp_path / "card.json")
    assert card["rows"] == {"questions": 4, "ok": 4}
    # Equal prompts are asked once.
    assert card["details"]["questions"] == 3
    assert not list((tmp_path / "scratch").rglob("*.jsonl"))


def test_a_job_on_conversations(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Conversation.write(tmp_path / "rows.jsonl", [chat(i) for i in range(5)])
    ask_replies(
        make_job(tmp_path, {"chat_rows": 3}, [{"default": True, "reply": "Since."}], replies=tmp_path / "replies.jsonl")
    )
    replies = Replied.read(tmp_path / "replies.jsonl")
    assert [row.id for row in replies] == ["test-0", "test-1", "test-2"]
    assert {row.reply for row in replies} == {"Since."}
