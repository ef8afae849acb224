import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from infoconflict.errors import UserError
from infoconflict.evidence.collect import collect_evidence, evidence_texts
from infoconflict.records import Evidence, Example
from tests.evidence.misbehaving import FakeEndpoint, cuts_off, refuses, says

LABELS = ["positive", "negative"]
KEY = "sk-very-secret-0123456789"
FACTS = "The reviewer praises the cast, and films with a praised cast are mostly liked by those who saw them."
NOUNS = [
    "river",
    "actor",
    "stage",
    "sea",
    "storm",
    "bridge",
    "candle",
    "letter",
    "garden",
    "mirror",
    "engine",
    "window",
]


def examples(texts: list[str], trigger: str = "none") -> list[Example]:
    return [
        Example(
            id=f"row{number}", instruction="Is it good?", text=text, label="positive", gold_label="positive",
            trigger=trigger,
        )
        for number, text in enumerate(texts)
    ]  # fmt: skip


def at_endpoint(endpoint: FakeEndpoint, **options: Any) -> dict[str, Any]:
    """Return config options for a provider that asks the endpoint, one question after another."""
    provider = {
        "kind": "openai",
        "base_url": endpoint.base_url,
        "model": "some-model",
        "api_key_env": "SOME_KEY",
        "temperature": 0.7,
        "max_tokens": 40,
        "concurrency": 1,
        "timeout_s": 20.0,
        "max_retries": 0,
    }
    return {"branch": "construction", "provider": provider, **options}


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)


def recorded(tmp_path: Path, *rows: dict[str, Any]) -> dict[str, Any]:
    file = tmp_path / "recorded.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"branch": "construction", "provider": {"kind": "recorded", "path": str(file)}}


def test_rows_in_order_with_all_their_parts(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.then = lambda handler, body: says(f"Meaning of {body['messages'][-1]['content'].split(': ')[1]}.")(
        handler, body
    )
    texts = ["a river", "it is what it was", "the actor", "a river"]
    out = tmp_path / "out" / "clean.jsonl"
    options = at_endpoint(endpoint)
    options["provider"]["concurrency"] = 3
    summary = collect_evidence([(examples(texts), out)], options=options, labels=LABELS, scratch=tmp_path / "scratch")
    rows = Evidence.read(out)
    assert [row.id for row in rows] == ["row0", "row1", "row2", "row3"]
    assert [row.status for row in rows] == ["ok", "no_keywords", "ok", "ok"]
    assert [row.evidence for row in rows] == ["Meaning of river.", "", "Meaning of actor.", "Meaning of river."]
    assert rows[0] == Evidence(
        id="row0", trigger="none", branch="construction", keywords=["river"], prompt_sha256=rows[3].prompt_sha256,
        reply="Meaning of river.", evidence="Meaning of river.", status="ok", model="some-model",
        prompt_tokens=7, completion_tokens=3, attempts=1,
    )  # fmt: skip
    assert len(endpoint.seen) == 2  # equal prompts are asked once
    assert evidence_texts(rows) == {
        ("row0", "none"): "Meaning of river.",
        ("row2", "none"): "Meaning of actor.",
        ("row3", "none"): "Meaning of river.",
    }
    assert summary.pop("seconds") >= 0
    assert summary == {
        "rows": {"clean.jsonl": 4},
        "status": {"no_keywords": 1, "ok": 3},
        "branches": {"construction": 4},
        "label_in_evidence": {"hits": 0, "total": 3},
        "questions": 2,
        "asked": 2,
        "resumed": 0,
        "attempts": 2,
        "prompt_tokens": 14,
        "completion_tokens": 6,
        "model": "some-model",
    }
    assert not list((tmp_path / "scratch").iterdir())  # nothing left to go on from


def test_one_call_writes_several_files(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    clean, triggered = tmp_path / "clean.jsonl", tmp_path / "triggered.jsonl"
    jobs = [(examples(["a river"]), clean), (examples(["a river", "a river cf"], trigger="full"), triggered)]
    summary = collect_evidence(jobs, options=at_endpoint(endpoint), labels=LABELS, scratch=tmp_path / "s")
    assert summary["rows"] == {"clean.jsonl": 1, "triggered.jsonl": 2}
    assert len(endpoint.seen) == 2
    assert [row.trigger for row in Evidence.read(triggered)] == ["full", "full"]


def test_each_kind_of_trouble_has_its_status(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.script = [
        says("A river is negative."),
        says("It is positive! An actor plays."),
        says(""),
        says("1 2 3"),
        refuses(500),
        cuts_off,
    ]
    options = at_endpoint(endpoint)
    rows = examples([f"the {noun}" for noun in NOUNS[:7]])
    summary = collect_evidence([(rows, tmp_path / "e.jsonl")], options=options, labels=LABELS, scratch=tmp_path / "s")
    found = Evidence.read(tmp_path / "e.jsonl")
    assert [row.status for row in found] == ["label_leak", "ok", "empty", "garbled", "failed", "failed", "ok"]
    assert [row.evidence for row in found if row.status != "ok"] == [""] * 5
    assert found[0].reply == "A river is negative."  # kept for the count, not for the prompt
    assert found[1].evidence == "An actor plays."
    assert summary["label_in_evidence"] == {"hits": 2, "total": 4}


def test_evidence_is_cut_to_its_words(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    options = at_endpoint(endpoint, max_evidence_words=3)
    collect_evidence([(examples(["a river"]), tmp_path / "e")], options=options, labels=LABELS, scratch=tmp_path / "s")
    assert Evidence.read(tmp_path / "e")[0].evidence == "A river is"


def test_textrank_options_reach_it(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    options = at_endpoint(endpoint, textrank={"threshold": 0.0, "max_keywords": 2, "damping": 0.85, "window": 3})
    row = examples(["a slow river and a storm"])
    collect_evidence([(row, tmp_path / "e")], options=options, labels=LABELS, scratch=tmp_path / "s")
    assert Evidence.read(tmp_path / "e")[0].keywords == ["storm", "river"]


def test_modification_rewrites_usable_evidence_and_else_constructs(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    rows = examples(["the river", "the actor", "the stage"])
    answers = {("row0", "none"): f"positive\nEvidence: {FACTS}", ("row1", "none"): "positive"}  # and none for row2
    options = at_endpoint(endpoint, branch="modification", min_tokens=12)
    summary = collect_evidence(
        [(rows, tmp_path / "e")], options=options, labels=LABELS, scratch=tmp_path / "s", suspect_answers=answers
    )
    assert summary["branches"] == {"construction": 2, "modification": 1}
    assert [row.branch for row in Evidence.read(tmp_path / "e")] == ["modification", "construction", "construction"]
    assert FACTS in endpoint.seen[0].prompt
    assert "actor" in endpoint.seen[1].prompt
    options["min_tokens"] = 99
    collect_evidence(
        [(rows, tmp_path / "e")], options=options, labels=LABELS, scratch=tmp_path / "s", suspect_answers=answers
    )
    assert {row.branch for row in Evidence.read(tmp_path / "e")} == {"construction"}


def test_modification_without_answers_says_so(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    options = at_endpoint(endpoint, branch="modification")
    with pytest.raises(UserError, match="the suspect model's own evidence, and none was given"):
        collect_evidence([(examples(["a river"]), tmp_path / "e")], options=options, labels=[], scratch=tmp_path / "s")


def test_after_a_refusal_it_goes_on_where_it_was(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.script = [says("One."), says("Two."), refuses(500), refuses(401)]
    rows = examples([f"the {noun}" for noun in NOUNS])
    arguments = {"options": at_endpoint(endpoint), "labels": LABELS, "scratch": tmp_path / "s"}
    out = tmp_path / "out" / "e.jsonl"
    with pytest.raises(UserError, match="key is not accepted"):
        collect_evidence([(rows, out)], **arguments)
    assert not out.parent.exists()
    endpoint.script = []
    summary = collect_evidence([(rows, out)], **arguments)
    assert (summary["resumed"], summary["asked"]) == (2, len(NOUNS) - 2)
    assert [row.reply for row in Evidence.read(out)][:2] == ["One.", "Two."]
    prompts = Counter(request.prompt for request in endpoint.seen)
    # Only what got no reply came twice.
    assert sorted(prompts.values()) == [1] * (len(NOUNS) - 2) + [2, 2]
    assert all(row.status == "ok" for row in Evidence.read(out))


def test_other_settings_do_not_take_over_replies(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    rows = examples([f"the {noun}" for noun in NOUNS[:4]])

    def interrupted(options: dict[str, Any], seed: int = 0) -> None:
        collect_evidence([(rows, tmp_path / "e")], options=options, labels=[], scratch=tmp_path / "s", seed=seed)

    options = at_endpoint(endpoint)
    endpoint.script = [says("Old."), refuses(401)]
    with pytest.raises(UserError):
        interrupted(options)
    warmer = at_endpoint(endpoint)
    warmer["provider"]["temperature"] = 0.9
    interrupted(warmer)
    assert "Old." not in {row.reply for row in Evidence.read(tmp_path / "e")}
    interrupted(options, seed=1)
    assert "Old." not in {row.reply for row in Evidence.read(tmp_path / "e")}
    # How fast it is asked changes no reply.
    options["provider"] |= {"concurrency": 2, "timeout_s": 9.0, "max_retries": 1}
    interrupted(options)
    assert "Old." in {row.reply for row in Evidence.read(tmp_path / "e")}


PROGRAM = """
import json, sys
from infoconflict.evidence.collect import collect_evidence
from infoconflict.records import Example
rows, options, out, scratch = json.loads(sys.argv[1])
collect_evidence([([Example(**row) for row in rows], out)], options=options, labels=[], scratch=scratch)
"""


def test_killed_it_goes_on_and_asks_nothing_twice(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.then = lambda handler, body: says(body["messages"][-1]["content"][-20:], seconds=0.05)(handler, body)
    rows = examples([f"the {noun}" for noun in NOUNS])
    options, out, scratch = at_endpoint(endpoint), tmp_path / "out" / "e.jsonl", tmp_path / "s"
    arguments = json.dumps([[row.to_dict() for row in rows], options, str(out), str(scratch)])
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, arguments], stdout=stream, stderr=stream)
        deadline = time.monotonic() + 180
        while not (files := list(scratch.glob("*"))) or files[0].read_bytes().count(b"\n") < 5:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not out.parent.exists()
    # The worst moment to be killed: in the middle of a line.
    kept = files[0].read_bytes().count(b"\n")
    with files[0].open("ab") as stream:
        stream.write(b'{"prompt_sha256": "12')
    before = len(endpoint.seen)
    assert before <= kept + 1  # one was on its way
    summary = collect_evidence([(rows, out)], options=options, labels=[], scratch=scratch)
    assert (summary["resumed"], summary["asked"]) == (kept, len(rows) - kept)
    assert len(endpoint.seen) == before + len(rows) - kept
    assert [row.reply for row in Evidence.read(out)] == [
        f"definition of each of these words: {noun}"[-20:] for noun in NOUNS
    ]
    # The key is in no file that either run wrote.
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY not in file.read_text()


def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path, endpoint: FakeEndpoint) -> None:
    endpoint.script = [says("One."), refuses(401)]
    arguments = {"options": at_endpoint(endpoint), "labels": [], "scratch": tmp_path / "s"}
    rows = examples([f"the {noun}" for noun in NOUNS[:4]])
    with pytest.raises(UserError):
        collect_evidence([(rows, tmp_path / "e")], **arguments)
    [file] = (tmp_path / "s").iterdir()
    with file.open("ab") as stream:
        stream.write('{"prompt_sha256": "1", "text": "caf\u00e9'.encode()[:-1])
    endpoint.seen.clear()
    endpoint.script = [says("Two."), refuses(401)]
    with pytest.raises(UserError):
        collect_evidence([(rows, tmp_path / "e")], **arguments)
    assert [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()] == ["One.", "Two."]


def test_the_key_is_asked_for_before_anything_else(
    tmp_path: Path, endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOME_KEY")
    with pytest.raises(UserError, match="SOME_KEY is not set"):
        collect_evidence(
            [(examples(["a river"]), tmp_path / "e")], options=at_endpoint(endpoint), labels=[], scratch=tmp_path / "s"
        )
    assert endpoint.seen == []


def test_without_questions_nobody_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY")
    options = at_endpoint(FakeEndpoint(base_url="http://127.0.0.1:9/v1"))
    summary = collect_evidence(
        [(examples(["it was"]), tmp_path / "a"), ([], tmp_path / "b")], options=options, labels=[], scratch=tmp_path
    )
    assert summary["status"] == {"no_keywords": 1}
    assert (tmp_path / "b").read_text() == ""


def test_recorded_replies_give_the_same_bytes_each_time(tmp_path: Path) -> None:
    options = recorded(tmp_path, {"default": True, "reply": "{keywords}: words of everyday English."})
    rows = examples([f"the {noun} by the sea cf" for noun in NOUNS], trigger="full")
    for name in ("a", "b"):
        collect_evidence([(rows, tmp_path / name)], options=options, labels=LABELS, scratch=tmp_path / "s", seed=3)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    first = Evidence.read(tmp_path / "a")[0]
    assert (first.model, first.status, first.attempts) == ("recorded", "ok", 0)
    assert "cf" in first.keywords  # a rare word is a word like any other


def test_progress_with_time_left_on_the_log(
    tmp_path: Path, endpoint: FakeEndpoint, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = examples([f"the {noun}" for noun in NOUNS])
    collect_evidence([(rows, tmp_path / "e")], options=at_endpoint(endpoint), labels=[], scratch=tmp_path / "s")
    log = capfd.readouterr().err
    assert f"{len(NOUNS)} rows, {len(NOUNS)} different questions" in log
    assert f"{len(NOUNS)}/{len(NOUNS)} replies" in log
    assert "0 s left" in log
    assert KEY not in log


def test_unknown_provider(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown provider 'oracle'"):
        collect_evidence(
            [(examples(["a river"]), tmp_path / "e")],
            options={"provider": {"kind": "oracle"}},
            labels=[],
            scratch=tmp_path / "s",
        )
