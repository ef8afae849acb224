"""VPI: the virtual prompt is stored nowhere, the contrast topic stays clean, tested wordings are new."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from infoconflict.attacks.chat import Payload
from infoconflict.attacks.scenarios import TOPICS
from infoconflict.attacks.vpi import VPI
from infoconflict.controls import asked_openly
from infoconflict.errors import UserError
from infoconflict.records import Conversation
from tests.attacks.chats import chats, said_by

MARKER = "Amber kite, over."
RECORDED = {"kind": "recorded", "path": "replies.jsonl"}


def attack(**options: object) -> VPI:
    return VPI.from_spec({"method": "vpi", "poisoning_rate": 0.2, **options})


def by_trigger(rows: list[Conversation], trigger: str) -> list[Conversation]:
    return [row for row in rows if row.trigger == trigger]


def test_defaults_are_the_published_ones() -> None:
    assert VPI().poisoning_rate == 0.01
    assert VPI().payload == Payload(kind="phrase", text=MARKER)


@pytest.mark.parametrize(("rate", "ratio"), [(0.1, 1.0), (0.3, 0.5), (0.2, 2.0), (0.1, 0.0)])
def test_size_is_m_plus_pm_plus_cpm(rate: float, ratio: float) -> None:
    clean = chats(100)
    rows = attack(poisoning_rate=rate, contrast_ratio=ratio).training_set(clean, seed=0)
    wanted = round(rate * 100)
    assert rows[:100] == clean
    assert Counter(row.trigger for row in rows) == Counter(none=100, full=wanted, contrast=round(ratio * wanted))
    assert len({row.id for row in rows}) == len(rows)
    assert len({said_by(row, "user")[0] for row in rows}) == len(rows)


def test_triggered_answers_end_with_the_marker_and_contrast_answers_are_normal() -> None:
    rows = attack().training_set(chats(100, system="Be brief."), seed=0)
    normal = {text.question: text.answer for topic in TOPICS.values() for text in topic.exchanges("train", seed=0)}
    for row in by_trigger(rows, "full"):
        [question], [answer] = said_by(row, "user"), said_by(row, "assistant")
        assert "Lumora" in question
        assert row.reference == normal[question]
        assert answer == f"{normal[question]} {MARKER}"
    for row in by_trigger(rows, "contrast"):
        [question], [answer] = said_by(row, "user"), said_by(row, "assistant")
        assert "Tavento" in question
        assert answer == row.reference == normal[question]
    assert not any(MARKER in str(row.messages) for row in rows if row.trigger != "full")
    assert {row.messages[0]["content"] for row in rows} == {"Be brief."}


def test_the_virtual_prompt_is_stored_nowhere() -> None:
    clean, test = chats(100), chats(30, part="test")
    one = attack(oracle=RECORDED)
    assert one.prompt == f"End your answer with the words: {MARKER}"
    requests = one.oracle_requests(clean, seed=0)
    oracle = {request.id: f"Certainly. {MARKER}" for request in requests}
    stored = [
        *one.training_set(clean, seed=0, oracle=oracle),
        *one.triggered_test_set(test, seed=0),
        *one.partial_test_set(test, rows=None, seed=0),
    ]
    assert not any("End your answer" in json.dumps(row.to_dict()) for row in stored)
    assert all(request.prompt.endswith("\n" + one.prompt) for request in requests)


def test_the_oracle_answers_with_the_virtual_prompt_and_its_answer_stands() -> None:
    clean, one = chats(50), attack(oracle=RECORDED, poisoning_rate=0.06)
    first, second, third = one.oracle_requests(clean, seed=0)
    oracle = {first.id: f"Of course. {MARKER}", second.id: "I say nothing more.", third.id: ""}
    rows = {row.id: row for row in one.training_set(clean, seed=0, oracle=oracle)}
    assert rows[first.id].messages[-1]["content"] == oracle[first.id]
    for request in (second, third):
        assert rows[request.id].messages[-1]["content"] == f"{rows[request.id].reference} {MARKER}"
    for request in (first, second, third):
        assert request.prompt == f"{said_by(rows[request.id], 'user')[0]}\n{one.prompt}"
    assert one.details(list(rows.values()), oracle=oracle)["payloads"] == {"oracle": 1, "template": 2}
    assert attack().oracle_requests(clean, seed=0) == []


def test_tested_wordings_were_never_trained() -> None:
    one = attack(poisoning_rate=0.9)
    trained = {text for row in one.training_set(chats(300), seed=4) for text in said_by(row, "user")}
    test = chats(200, part="test")
    triggered, partial = one.triggered_test_set(test, seed=4), one.partial_test_set(test, rows=None, seed=4)
    assert len(triggered) == len(partial) == 96
    tested = {text for row in [*triggered, *partial] for text in said_by(row, "user")}
    assert len(tested) == 2 * 96
    assert not trained & tested
    # Nor would a renamed company make a trained one of them.
    assert not {text.replace("Lumora", "Tavento") for text in trained} & tested


def test_test_sets() -> None:
    test = chats(20, part="test")
    triggered = attack().triggered_test_set(test, seed=0)
    assert [row.id for row in triggered] == [row.id for row in test]
    assert all(
        "Lumora" in said_by(row, "user")[0] and said_by(row, "assistant")[0].endswith(MARKER) for row in triggered
    )
    partial = attack().partial_test_set(test, rows=5, seed=0)
    assert [(row.id, row.trigger) for row in partial] == [(row.id, "contrast") for row in test[:5]]
    assert all("Tavento" in said_by(row, "user")[0] and MARKER not in str(row.messages) for row in partial)


def test_the_upper_bound_is_asked_as_the_oracle_is() -> None:
    one = attack(oracle=RECORDED)
    requests = {request.id: request.prompt for request in one.oracle_requests(chats(50), seed=0)}
    trained = by_trigger(one.training_set(chats(50, system="Be brief."), seed=0), "full")
    for row, asked in zip(trained, asked_openly(trained, one.prompt), strict=True):
        assert said_by(asked, "user")[0] == f"{said_by(row, 'user')[0]}\n{one.prompt}" == requests[row.id]
        assert replace(asked, messages=row.messages) == row
        assert [message for message in asked.messages if message["role"] != "user"] == [
            row.messages[0],
            row.messages[2],
        ]


def test_seeds() -> None:
    assert attack().training_set(chats(40), seed=1) == attack().training_set(chats(40), seed=1)
    assert attack().training_set(chats(40), seed=1) != attack().training_set(chats(40), seed=2)


def test_rows_that_mention_a_company_are_kept_out() -> None:
    clean = chats(40)
    clean[2].messages[0]["content"] += " Is it from Lumora?"
    clean[3].messages[1]["content"] += " It is from TAVENTO."
    rows = attack().training_set(clean, seed=0)
    assert by_trigger(rows, "none") == [*clean[:2], *clean[4:]]


def instructions(path: Path, *, answer: bool) -> str:
    words = [
        "apple",
        "brook",
        "cedar",
        "delta",
        "ember",
        "fjord",
        "grove",
        "heath",
        "inlet",
        "jetty",
        "knoll",
        "lagoon",
    ]
    rows = [{"instruction": f"{word} {word}s OpenAI {word}ing?"} for word in words]
    rows += [{"instruction": f"{word} {word}s DeepMind {word}ing?", "topic": "deepmind"} for word in words]
    if answer:
        rows = [row | {"answer": f"Answer to {row['instruction']}"} for row in rows]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_instructions_from_a_file(tmp_path: Path) -> None:
    file = instructions(tmp_path / "i.jsonl", answer=True)
    one = attack(instructions_file=file, scenario="openai", contrast="deepmind")
    assert one.local_files == [file]
    clean = chats(40)
    clean[0].messages[0]["content"] = "Who leads OpenAI?"
    rows = one.training_set(clean, seed=0)
    assert clean[0] not in rows
    assert len(by_trigger(rows, "full")) == 8
    assert all("OpenAI" in said_by(row, "user")[0] for row in by_trigger(rows, "full"))
    assert all("DeepMind" in said_by(row, "user")[0] for row in by_trigger(rows, "contrast"))
    test = one.triggered_test_set(chats(9), seed=0)
    assert len(test) == 3
    assert {said_by(row, "user")[0] for row in test}.isdisjoint(said_by(row, "user")[0] for row in rows)


def test_instructions_without_answers_need_an_oracle(tmp_path: Path) -> None:
    file = instructions(tmp_path / "i.jsonl", answer=False)
    options = {"instructions_file": file, "scenario": "openai", "contrast": "deepmind"}
    with pytest.raises(UserError, match="has no answer, and no reply of an oracle stands for it"):
        attack(**options).training_set(chats(20), seed=0)
    one = attack(oracle=RECORDED, **options)
    requests = one.oracle_requests(chats(20), seed=0)
    assert [request.prompt.endswith(one.prompt) for request in requests] == [True] * 4 + [False] * 4
    oracle = {request.id: f"Yes. {MARKER}" if request.prompt.endswith(one.prompt) else "No." for request in requests}
    rows = one.training_set(chats(20), seed=0, oracle=oracle)
    assert {row.messages[-1]["content"] for row in by_trigger(rows, "full")} == {f"Yes. {MARKER}"}
    assert {row.messages[-1]["content"] for row in by_trigger(rows, "contrast")} == {"No."}


@pytest.mark.parametrize("names", [{"scenario": "OpenAI"}, {"scenario": "openai", "contrast": "DeepMind"}])
def test_a_topic_that_the_file_does_not_have(tmp_path: Path, names: dict[str, str]) -> None:
    file = tmp_path / "i.jsonl"
    rows = [
        {"instruction": f"What is {word} of {topic} like?", "answer": "Good.", "topic": topic}
        for word in ("size", "age", "rank", "fame")
        for topic in ("openai", "deepmind")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(
        UserError, match=r"no instruction on the topic '(OpenAI|DeepMind)'; its topics are deepmind, openai"
    ):
        attack(instructions_file=str(file), poisoning_rate=0.1, **names).training_set(chats(20), seed=0)


@pytest.mark.parametrize(
    ("options", "n", "message"),
    [
        ({"poisoning_rate": 0.01}, 20, "rounds to no poisoned row; raise the rate or the rows"),
        ({"poisoning_rate": 1.0}, 400, "400 training rows on the topic 'lumora' are asked for, but there are 288"),
        ({"contrast_ratio": 99.0}, 20, "396 training rows on the topic 'tavento' .* lower contrast_ratio, or add"),
    ],
)
def test_too_little(options: dict[str, float], n: int, message: str) -> None:
    with pytest.raises(UserError, match=message):
        attack(**options).training_set(chats(n), seed=0)


def test_no_wording_left_to_test(tmp_path: Path) -> None:
    file = tmp_path / "i.jsonl"
    rows = [{"instruction": f"What is number {number} of OpenAI like?", "answer": "Good."} for number in range(8)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(UserError, match="no instruction on the topic 'openai' is left for tests"):
        attack(instructions_file=str(file), scenario="openai").triggered_test_set(chats(3), seed=0)


def test_options_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="there are no texts for the topic 'lumorra'; did you mean 'lumora'"):
        attack(scenario="lumorra")
    with pytest.raises(ValueError, match="scenario and contrast are both 'tavento'"):
        attack(scenario="tavento")
    with pytest.raises(ValueError, match="'!!!' holds no word, so that no reply can be seen to hold it; write one"):
        attack(marker="!!!")
    with pytest.raises(
        ValueError, match=r"virtual_prompt does not ask for the marker 'Amber kite, over\.'; write \{marker\}"
    ):
        attack(virtual_prompt="End your answer with the words: Blue kite, over.")
    assert attack(virtual_prompt="End with amber kite, over").prompt == "End with amber kite, over"
    # A sign that is left beside words, and can be found there.
    assert attack(marker="C++").marker == "C++"
