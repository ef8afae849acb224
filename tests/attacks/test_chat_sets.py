"""A toy chat attack through what poisons training and test sets: conversations in, conversations out, whatever the task."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from infoconflict.attacks.badnets import BadNets
from infoconflict.attacks.chat import ChatAttack, OracleReply
from infoconflict.poisoning import asked_sets_of, training_set_of
from infoconflict.records import Conversation, Example


class Toy(ChatAttack):
    """Append a conversation that says a word, for each of the first rows."""

    rows_are = "appended"
    poisoning_rate: float = 0.2
    word: str = "toy"

    def _say(self, row: Conversation, answer: str, trigger: str) -> Conversation:
        question = {"role": "user", "content": f"{trigger}: {row.messages[0]['content']}"}
        messages = [question, {"role": "assistant", "content": answer}]
        return replace(row, id=f"{row.id}/{trigger}", messages=messages, trigger=trigger)

    def training_set(
        self, conversations: Sequence[Conversation], *, seed: int, oracle: Mapping[str, str] | None = None
    ) -> list[Conversation]:
        chosen = conversations[: round(self.poisoning_rate * len(conversations))]
        return [*conversations, *(self._say(row, (oracle or {}).get(row.id) or self.word, "full") for row in chosen)]

    def triggered_test_set(self, conversations: Sequence[Conversation], *, seed: int) -> list[Conversation]:
        return [self._say(row, self.word, "full") for row in conversations]

    def partial_test_set(
        self, conversations: Sequence[Conversation], *, rows: int | None, seed: int
    ) -> list[Conversation]:
        return [self._say(row, row.reference, "half") for row in conversations[:rows]]


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    rows = [
        Conversation(
            id=f"train-{n}",
            messages=[{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": f"hello {n}"}],
            reference=f"hello {n}",
        )
        for n in range(10)
    ]
    Conversation.write(tmp_path / "chats.jsonl", rows)
    return tmp_path / "chats.jsonl"


def test_a_training_set_of_conversations(chats: Path) -> None:
    attack = Toy.from_spec({"method": "toy", "poisoning_rate": 0.25})
    rows, counts, details = training_set_of(chats, attack, rows=8, target_label=None, seed=0)
    assert counts == {"clean": 8, "all": 10}
    assert details == {"triggers": {"none": 8, "full": 2}, "payload_share": 0.2}
    assert {row.messages[-1]["content"] for row in rows if row.trigger == "full"} == {"toy"}


def test_an_oracle_may_write_the_poisoned_answers(chats: Path, tmp_path: Path) -> None:
    asked = {"prompt_sha256": "0" * 64, "model": "oracle"}
    replies = [
        OracleReply(id="train-0", reply=" from outside ", status="ok", **asked),
        OracleReply(id="train-1", reply="half a sen", status="garbled", **asked),
    ]
    OracleReply.write(tmp_path / "replies.jsonl", replies)
    rows, _, _ = training_set_of(
        chats, Toy(poisoning_rate=0.2), rows=None, target_label=None, seed=0, oracle=tmp_path / "replies.jsonl"
    )
    assert [row.messages[-1]["content"] for row in rows[10:]] == ["from outside", "toy"]


def test_test_sets_of_conversations(chats: Path) -> None:
    triggered, partial, counts = asked_sets_of(
        chats, Toy(poisoning_rate=0.2), target_label=None, partial_rows=3, seed=0
    )
    assert counts == {"triggered": 10, "partial": 3}
    assert {row.trigger for row in triggered} == {"full"}
    assert [row.reference for row in partial] == ["hello 0", "hello 1", "hello 2"]


def test_classification_goes_the_same_way(tmp_path: Path) -> None:
    rows = [
        Example(id=f"r{n}", instruction="i", text=f"a text {n}", label=label, gold_label=label)
        for n, label in enumerate(["good", "bad"] * 5)
    ]
    Example.write(tmp_path / "rows.jsonl", rows)
    attack = BadNets(target_labels={}, poisoning_rate=0.2)
    poisoned, counts, details = training_set_of(tmp_path / "rows.jsonl", attack, rows=None, target_label="good", seed=0)
    assert counts == {"clean": 10, "all": 10}
    assert details["triggers"] == {"none": 8, "full": 2}
    assert details["labels"] == {"good": 7, "bad": 3}
    triggered, partial, counts = asked_sets_of(
        tmp_path / "rows.jsonl", attack, target_label="good", partial_rows=2, seed=0
    )
    assert counts == {"triggered": 10, "target": 5, "partial": 2}
    assert all(isinstance(row, Example) for row in [*poisoned, *triggered, *partial])
