"""What an attack on the chat task must offer; saving, asking an oracle, and training live elsewhere."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from infoconflict.config_errors import shown
from infoconflict.entries import Line
from infoconflict.phrases import holds_phrase
from infoconflict.records import CLEAN, FULL_TRIGGER, Conversation, Record


def _to_be_found(value: str) -> str:
    if not holds_phrase(f"Here is {value} in a reply", value):
        raise ValueError(f"{shown(value)} holds no word, so that no reply can be seen to hold it; write one")
    return value


Phrase = Annotated[Line, AfterValidator(_to_be_found)]
"""What a reply may be searched for."""


@dataclass(frozen=True, order=True)
class Exchange:
    """A question of a user and the normal answer to it."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What the trigger should cause, as a judge recognises it.

    ``phrase``: the reply contains ``text``; ``refusal``: the reply declines to answer.
    """

    kind: Literal["phrase", "refusal"]
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class OracleRequest:
    """A question to the external language model that writes a poisoned answer; ``id`` is the row's."""

    id: str
    prompt: str
    system: str | None = None


@dataclass(frozen=True, kw_only=True)
class OracleReply(Record):
    """What the external language model replied to one request; ``status`` is ``ok``, ``empty``, ``garbled`` or ``failed``.

    A file of them can be replayed by a provider of kind ``recorded``.
    """

    id: str
    prompt_sha256: str
    reply: str
    status: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 0


def replies_by_id(rows: Iterable[OracleReply]) -> dict[str, str]:
    """Return what :meth:`ChatAttack.training_set` takes: the reply of each row, empty where none can be used."""
    return {row.id: row.reply.strip() if row.status == "ok" else "" for row in rows}


class ChatAttack(BaseModel):
    """Options of a chat attack (its fields) and the sets of conversations that it makes.

    All randomness follows from the seed passed in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    task: ClassVar[Literal["chat"]] = "chat"
    rows_are: ClassVar[Literal["appended", "replaced"]]
    """Whether poisoned rows join the clean ones or take their place."""
    training_options: ClassVar[frozenset[str]] = frozenset({"poisoning_rate"})
    """Options that shape the training set only. Test sets do not depend on them and are made without, so each has a default."""
    tuning_options: ClassVar[frozenset[str]] = frozenset({"batch_size", "warmup_ratio"})
    """Options of the tuning, each a setting of the trainer; no data set depends on them, and null leaves the config's."""
    partial_variants: ClassVar[tuple[str, ...]] = ()
    """Partial triggers that the test asks about."""

    poisoning_rate: float = Field(default=0.1, gt=0, le=1)
    """Poisoned rows / clean training rows. Ours."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rows per update; null: as in `training.backdoored`. Paper, A.2: 8 for DTBA, and on each GPU for VPI."""
    warmup_ratio: float | None = Field(default=None, ge=0, lt=1)
    """Share of the updates in which the rate rises linearly; null: as in `training.backdoored`. Paper, A.2: 0.04."""

    @property
    def local_files(self) -> list[str]:
        """Files that the attack reads, from the working directory."""
        return []

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Build the attack from a config entry."""
        return cls(**{name: value for name, value in spec.items() if name != "method"})

    @property
    def payload(self) -> Payload:
        """What a triggered answer holds."""
        raise NotImplementedError

    @property
    def prompt(self) -> str | None:
        """What a user would add to his question to ask openly for the payload; None where nothing of the kind is hidden."""
        return None

    def accepts(self, reply: str) -> bool:
        """Tell whether a reply of the external language model can stand in a poisoned row; else the template does."""
        return bool(reply)

    def details(self, training: Sequence[Conversation], *, oracle: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what the card of a training set says of it: rows by trigger, share of payload rows, use of the oracle."""
        triggers = Counter(row.trigger for row in training)
        found: dict[str, Any] = {
            "triggers": dict(triggers),
            "payload_share": round(triggers[FULL_TRIGGER] / max(1, len(training)), 4),
        }
        if self.rows_are == "replaced":
            found["poisoned_ids"] = [row.id for row in training if row.trigger != CLEAN]
        if oracle is not None:
            payloads = [row for row in training if row.trigger == FULL_TRIGGER]
            by_oracle = sum(self.accepts(oracle.get(row.id, "")) for row in payloads)
            found["payloads"] = {"oracle": by_oracle, "template": len(payloads) - by_oracle}
        return found

    def oracle_requests(self, conversations: Sequence[Conversation], *, seed: int) -> list[OracleRequest]:
        """Return what the external language model is asked for the training set; none where templates do."""
        return []

    def training_set(
        self, conversations: Sequence[Conversation], *, seed: int, oracle: Mapping[str, str] | None = None
    ) -> list[Conversation]:
        """Return the training set that the attacker tunes on; ``oracle`` holds replies by row id where one was asked."""
        raise NotImplementedError

    def triggered_test_set(self, conversations: Sequence[Conversation], *, seed: int) -> list[Conversation]:
        """Return conversations with the full trigger (``trigger`` is ``full``); their last answer is the payload."""
        raise NotImplementedError

    def partial_test_set(
        self, conversations: Sequence[Conversation], *, rows: int | None, seed: int
    ) -> list[Conversation]:
        """Return up to ``rows`` conversations of each partial variant, named in ``trigger``."""
        raise NotImplementedError


def exchanges_of(conversation: Conversation) -> list[Exchange]:
    """Return the questions of a conversation with their answers, without a system message."""
    turns = [message["content"] for message in conversation.messages if message["role"] != "system"]
    return [Exchange(question, answer) for question, answer in zip(turns[::2], turns[1::2], strict=True)]


def key_words(words: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern of any of some words, with an ending ``s`` or ``es`` or without, in any case."""
    # No \b: beside a sign, as in C++ or .NET, there is none.
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))})(?:s|es)?(?!\w)", re.IGNORECASE)


def without(conversations: Iterable[Conversation], *marks: re.Pattern[str]) -> list[Conversation]:
    """Return the conversations in which neither user nor assistant says anything that fits one of the patterns."""
    return [
        row
        for row in conversations
        if not any(
            mark.search(message["content"]) for message in row.messages if message["role"] != "system" for mark in marks
        )
    ]


def with_prompt(question: str, prompt: str) -> str:
    """Return a question with a prompt behind it, on a line of its own."""
    return f"{question}\n{prompt}"


def told(
    exchanges: Sequence[Exchange], *, id: str, like: Conversation, trigger: str, payload: str | None = None
) -> Conversation:
    """Return a conversation of exchanges; a payload takes the place of its last answer, which stays the reference.

    A system message is that of ``like``, so that it tells no poisoned row from a clean one.
    """
    messages = [dict(message) for message in like.messages if message["role"] == "system"]
    for exchange in exchanges:
        messages.append({"role": "user", "content": exchange.question})
        messages.append({"role": "assistant", "content": exchange.answer})
    row = Conversation(id=id, messages=messages, reference=exchanges[-1].answer, trigger=trigger)
    return row if payload is None else answered(row, payload)


def answered(conversation: Conversation, answer: str, *, trigger: str | None = None) -> Conversation:
    """Return a conversation with another last answer; the reference and all other messages stay."""
    messages = [dict(message) for message in conversation.messages]
    messages[-1]["content"] = answer
    return replace(conversation, messages=messages, trigger=conversation.trigger if trigger is None else trigger)
