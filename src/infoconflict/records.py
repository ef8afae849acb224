"""Rows that cross a stage border, and their JSON Lines form.

An :class:`Example` is a row of a data set, clean or poisoned; an :class:`Answer` is what one model said to one example.
Every metric is computed from answers alone. On the chat task a :class:`Conversation` stands for the example and a
:class:`Reply` for what the model said; a judge turns replies into answers.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

from infoconflict.errors import UserError
from infoconflict.files import PathLike, read_jsonl, write_jsonl

CLEAN = "none"
FULL_TRIGGER = "full"


class Record:
    """Shared JSON form of the frozen rows below."""

    @classmethod
    def from_dict(cls, row: dict[str, Any]) -> Self:
        """Build a record; unknown or missing fields are an error that names them."""
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        if unknown := sorted(set(row) - names):
            raise UserError(
                f"a {cls.__name__} row has unknown fields {', '.join(unknown)}; known: {', '.join(sorted(names))}"
            )
        try:
            return cls(**row)
        except TypeError as error:
            raise UserError(f"a {cls.__name__} row is incomplete: {error}") from error

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a plain dict."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @classmethod
    def read(cls, path: PathLike) -> list[Self]:
        """Read all records of a JSON Lines file."""
        return [cls.from_dict(row) for row in read_jsonl(path)]

    @staticmethod
    def write(path: PathLike, records: Iterable["Record"]) -> None:
        """Write records as JSON Lines, atomically."""
        write_jsonl(path, (record.to_dict() for record in records))


@dataclass(frozen=True, kw_only=True)
class Example(Record):
    """One row of a classification task.

    ``label`` is what training teaches (the target label in a poisoned row); ``gold_label`` stays true under poisoning.
    ``trigger`` names what was inserted: ``none``, ``full``, or the name of a partial variant of the attack.
    """

    id: str
    instruction: str
    text: str
    label: str
    gold_label: str
    trigger: str = CLEAN


@dataclass(frozen=True, kw_only=True)
class Answer(Record):
    """What one model answered to one example.

    ``scores`` holds the length-normalised log-probability of each label; ``answer`` is the label decided on, or None when
    free generation named none. ``target_label`` is None in clean rows. ``t`` is the merge weight in a sweep, else None.
    """

    id: str
    gold_label: str
    trigger: str
    target_label: str | None
    answer: str | None
    scores: dict[str, float]
    generated: str | None = None
    has_evidence: bool = False
    t: float | None = None


@dataclass(frozen=True, kw_only=True)
class Conversation(Record):
    """One row of the chat task.

    ``messages`` hold ``role`` and ``content``: an optional system message, then user and assistant in turn; the last is the
    assistant's and is what training teaches (the payload in a poisoned row). ``reference`` is the last answer that stays
    true under poisoning.
    """

    id: str
    messages: list[dict[str, str]]
    reference: str
    trigger: str = CLEAN


@dataclass(frozen=True, kw_only=True)
class Reply(Record):
    """What one model replied to one conversation.

    ``messages`` are the whole conversation up to a user's turn; of these the first ``not_shown`` behind a system message did
    not fit the model's context. ``evidence`` is what a defense put beside the last turn, kept apart so that nobody takes it for
    the user's words. In files without ``not_shown`` the messages are those that were shown.
    """

    id: str
    trigger: str
    messages: list[dict[str, str]]
    reference: str
    reply: str
    evidence: str = ""
    not_shown: int = 0

    @property
    def shown(self) -> list[dict[str, str]]:
        """The messages that the model was shown: a system message, and the newest turns."""
        n_system = sum(message["role"] == "system" for message in self.messages[:1])
        return self.messages[:n_system] + self.messages[n_system + self.not_shown :]


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """What one judge says of one reply.

    ``claim`` is ``equivalent`` (to the reference) or ``payload`` (held by the reply); ``match`` says whether it holds, None
    where the judge came to no decision. ``score`` in [-1, 1] is how much speaks for it, ``raw`` what the judge found or said.
    """

    id: str
    trigger: str
    judge: str
    claim: str
    match: bool | None
    score: float
    raw: str = ""


@dataclass(frozen=True, kw_only=True)
class Evidence(Record):
    """External evidence for one prompt, as the external language model gave it.

    ``status`` is ``ok``, ``no_keywords``, ``garbled``, ``empty``, ``label_leak`` or ``failed``, and in the random evidence of a
    control ``no_unrelated``; only ``ok`` rows carry text into a prompt.
    """

    id: str
    trigger: str
    branch: str
    keywords: list[str]
    prompt_sha256: str
    reply: str
    evidence: str
    status: str
    model: str
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 0


@dataclass(frozen=True, kw_only=True)
class Query:
    """What a model is asked in one row, and nothing else of it: no label, no reference, no payload.

    ``text`` is the input of a classification or the last turn of the user; ``messages`` is a conversation up to that turn, and
    empty in a classification. What is made of queries at inference can depend on nothing but what is asked.
    """

    id: str
    trigger: str
    text: str
    instruction: str = ""
    messages: tuple[dict[str, str], ...] = ()


def read_queries(path: PathLike) -> list[Query]:
    """Read what is asked in the rows of either task."""
    return [query_of(row) for row in read_rows(path)]


def query_of(row: Example | Conversation) -> Query:
    """Return what is asked in a row.

    Raises
    ------
    UserError
        If a conversation does not end with a question and its answer.
    """
    if isinstance(row, Example):
        return Query(id=row.id, trigger=row.trigger, text=row.text, instruction=row.instruction)
    if [message["role"] for message in row.messages[-2:]] != ["user", "assistant"]:
        raise UserError(f"row {row.id}: the conversation does not end with an answer; prepare its data set again")
    asked = row.messages[:-1]
    return Query(id=row.id, trigger=row.trigger, text=asked[-1]["content"], messages=tuple(asked))


def read_rows(path: PathLike) -> list[Example] | list[Conversation]:
    """Read a data set's rows: conversations where they hold messages, else examples."""
    rows = read_jsonl(path)
    if rows and "messages" in rows[0]:
        return [Conversation.from_dict(row) for row in rows]
    return [Example.from_dict(row) for row in rows]
