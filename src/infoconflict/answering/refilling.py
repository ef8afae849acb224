"""A user's texts in a row, and rows with other texts in their place. No defense is at work here.

What a defense on the prompt wrote (:mod:`infoconflict.answering.filtering`) is put back beside the labels and the names of
triggers, which it was not shown, so that answers can be scored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from infoconflict.errors import UserError
from infoconflict.jobs import Job
from infoconflict.records import Conversation, Example, Query, Record, read_rows

SETS = ("clean", "triggered", "partial")
"""The test sets of a cell."""

Row = TypeVar("Row", bound=Example | Conversation | Query)


@dataclass(frozen=True, kw_only=True)
class Rewritten(Record):
    """What became of a user's texts in one row, in the order of :func:`user_texts`."""

    id: str
    texts: list[str]


def user_texts(query: Query) -> list[str]:
    """Return what a user wrote: the input and the instruction; in a conversation, all of the user's turns."""
    if query.messages:
        return [message["content"] for message in query.messages if message["role"] == "user"]
    return [query.text, query.instruction]


def with_texts(row: Row, texts: Sequence[str]) -> Row:
    """Return the row with what a user wrote replaced, in the order of :func:`user_texts`; everything else stays."""
    new: dict[str, Any]
    if isinstance(row, Example) or (isinstance(row, Query) and not row.messages):
        text, instruction = texts
        new = {"text": text, "instruction": instruction}
    else:
        left = iter(texts)
        messages = [
            message | {"content": next(left)} if message["role"] == "user" else message for message in row.messages
        ]
        new = {"messages": messages}
        if isinstance(row, Query):
            new = {"messages": tuple(messages), "text": texts[-1]}
    return replace(row, **new)


def refill_cell(job: Job) -> None:
    """Write the cell's test sets with the texts that its defense wrote, and the card.

    Raises
    ------
    UserError
        If a test set and the texts are not of the same rows in the same order.
    """
    counts: dict[str, int] = {}
    for name in SETS:
        rows: Sequence[Example | Conversation] = read_rows(job.input[name])
        written = Rewritten.read(job.input[f"written_{name}"])
        if [row.id for row in rows] != [row.id for row in written]:
            raise UserError(
                f"{job.input[f'written_{name}']} is not of the rows of {job.input[name]}; delete it and run again"
            )
        Record.write(job.output[name], [with_texts(row, own.texts) for row, own in zip(rows, written, strict=True)])
        counts[name] = len(rows)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in (*SETS, *(f"written_{name}" for name in SETS))},
        outputs={name: job.output[name] for name in SETS},
        rows=counts,
    )
