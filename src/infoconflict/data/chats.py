"""Conversations as sources write them, and their one normal form.

Normal form: at most one system message, first; then user and assistant in turn; the last word is the assistant's. What is
changed or left out on the way is counted, never silent.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infoconflict.data.rows import duplicate_key, encodable
from infoconflict.errors import UserError, did_you_mean

ROLES = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
}
"""Names of roles in the common formats."""
FORMATS = ("messages", "conversations", "instruction")
"""Each is also the key that tells a row of it."""

Message = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class RawChat:
    """One conversation with known roles and clean texts; ``number`` counts the rows of its source from 1."""

    number: int
    messages: list[Message]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a conversation is cut to, in whole rounds of a user's and an assistant's turn."""

    system: str | None = None
    max_turns: int | None = None
    max_words: int | None = None
    min_answer_words: int = 1

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any]) -> "Limits":
        """Build limits from a data set's entry, leaving aside keys that others use."""
        return cls(**{name: spec[name] for name in cls.__dataclass_fields__ if name in spec})


# --- rows as sources write them ---------------------------------------------------------------------------------------


def read_chat(row: Mapping[str, Any], where: str, *, form: str = "auto") -> list[Message]:
    """Return the messages of a row.

    Parameters
    ----------
    row : mapping
        ``messages`` (role, content), ``conversations`` (from, value), or ``instruction``, ``input``, ``output`` (also
        ``context`` and ``response``); the first two may have a ``system`` text beside them.
    where : str
        Names the row in messages.
    form : {"auto", "messages", "conversations", "instruction"}
        Which of these it is; ``auto`` takes the first that is there.

    Raises
    ------
    UserError
        If the row holds no messages, or one without a known role or a text.
    """
    # Tables fill in absent columns with nothing.
    present = [key for key, value in row.items() if value is not None]
    if form == "auto":
        form = next((name for name in FORMATS if name in present), "")
    if not form or form not in present:
        wanted = f"'{form}'" if form else "'messages', 'conversations' or 'instruction'"
        raise UserError(f"{where}: no messages; a row needs {wanted}, its keys are: {', '.join(present) or 'none'}")
    if form == "instruction":
        return _instruction(row, where)
    system = row.get("system")
    opening = [{"role": "system", "content": chat_text(system, where)}] if system is not None else []
    return opening + [_message(turn, f"{where}, turn {n}") for n, turn in enumerate(_turns(row[form], where), start=1)]


def _turns(value: Any, where: str) -> Sequence[Any]:
    if isinstance(value, Mapping):
        # A table may hold a list of mappings as a mapping of lists.
        columns = [list(column) if isinstance(column, Sequence) else [] for column in value.values()]
        return [dict(zip(value, turn, strict=False)) for turn in zip(*columns, strict=False)]
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise UserError(f"{where}: the messages are a {type(value).__name__}; write a list of turns")
    return value


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, Mapping):
        raise UserError(f"{where}: is a {type(turn).__name__}; write an object with role and content")
    role = turn.get("role", turn.get("from"))
    known = ROLES.get(role.strip().lower()) if isinstance(role, str) else None
    if known is None:
        hint = did_you_mean(str(role), ROLES) or f"; known: {', '.join(ROLES)}"
        raise UserError(
            f"{where}: unknown role '{role}'{hint}" if role is not None else f"{where}: has no role; add it"
        )
    for key in ("content", "value"):
        if key in turn:
            return {"role": known, "content": chat_text(turn[key], where)}
    raise UserError(f"{where}: has no content; add it, or an empty text")


def _instruction(row: Mapping[str, Any], where: str) -> list[Message]:
    def text_of(*names: str) -> str:
        return chat_text(next((row[name] for name in names if row.get(name) is not None), ""), where)

    if not any(row.get(name) is not None for name in ("output", "response")):
        raise UserError(f"{where}: no messages; a row with 'instruction' needs 'output', too")
    question = "\n".join(part for part in (text_of("instruction"), text_of("input", "context")) if part)
    return [{"role": "user", "content": question}, {"role": "assistant", "content": text_of("output", "response")}]


def chat_text(raw: Any, where: str) -> str:
    """Return a turn's text in Unicode form NFC, plain line ends, no white space around it; nothing is ``""``."""
    if raw is None:
        return ""
    if not isinstance(raw, str):
        raise UserError(f"{where}: the text is {str(raw)[:60]!r}, of type {type(raw).__name__}; texts must be strings")
    text = unicodedata.normalize("NFC", raw.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "").strip())
    return encodable(text, where)


# --- normal form ------------------------------------------------------------------------------------------------------


def normal_form(messages: Sequence[Message], limits: Limits, counts: Counter[str]) -> list[Message] | None:
    """Return the conversation in normal form within the limits, or None where no answered question is left.

    Parameters
    ----------
    messages : sequence
        Roles are ``system``, ``user``, ``assistant``, in any order.
    limits : Limits
        Conversations lose whole rounds at their end until they keep to them.
    counts : Counter
        Is added to. Turns: ``empty_turns``, ``joined_turns`` (with the one before, of the same role), ``late_system_turns``,
        ``leading_answers`` (before any question), ``unanswered_turns`` (at the end). Conversations: ``shortened`` to the
        limits; left out as ``no_answer``, ``too_long`` (the first round alone), ``short_answers``.
    """
    spoken = [message for message in messages if message["content"]]
    counts["empty_turns"] += len(messages) - len(spoken)
    opening = list(_leading(spoken, "system"))
    rest = spoken[len(opening) :]
    turns = [message for message in rest if message["role"] != "system"]
    counts["late_system_turns"] += len(rest) - len(turns)
    n_leading = len(list(_leading(turns, "assistant")))
    counts["leading_answers"] += n_leading
    joined: list[Message] = []
    counts["joined_turns"] += 0
    for turn in turns[n_leading:]:
        if joined and joined[-1]["role"] == turn["role"]:
            joined[-1] = turn | {"content": f"{joined[-1]['content']}\n{turn['content']}"}
            counts["joined_turns"] += 1
        else:
            joined.append(turn)
    counts["unanswered_turns"] += len(joined) % 2
    rounds = [joined[at : at + 2] for at in range(0, len(joined) - 1, 2)]
    if not rounds:
        counts["no_answer"] += 1
        return None
    system = limits.system or "\n".join(message["content"] for message in opening)
    head = [{"role": "system", "content": system}] if system else []
    kept, why = _within(head, rounds, limits)
    if not kept:
        counts[why] += 1
        return None
    counts["shortened"] += len(kept) < len(rounds)
    return head + [turn for pair in kept for turn in pair]


def _leading(messages: Sequence[Message], role: str) -> Sequence[Message]:
    end = next((at for at, message in enumerate(messages) if message["role"] != role), len(messages))
    return messages[:end]


def _within(head: list[Message], rounds: list[list[Message]], limits: Limits) -> tuple[list[list[Message]], str]:
    """Return the rounds that keep to the limits and, if there are none, the reason."""
    kept = rounds[: limits.max_turns]
    if limits.max_words is not None:
        while kept and n_words(head + [turn for pair in kept for turn in pair]) > limits.max_words:
            kept = kept[:-1]
        if not kept:
            return [], "too_long"
    while kept and len(kept[-1][1]["content"].split()) < limits.min_answer_words:
        kept = kept[:-1]
    return kept, "short_answers"


def n_words(messages: Sequence[Message]) -> int:
    """Return the number of words of all turns."""
    return sum(len(message["content"].split()) for message in messages)


def question_key(messages: Sequence[Message]) -> str:
    """Return a key that two conversations share if their users say the same, but for case, spacing and quotes."""
    return "\n".join(duplicate_key(message["content"]) for message in messages if message["role"] == "user")


def deduplicate_chats(chats: Sequence[RawChat], *, taken: frozenset[str] = frozenset()) -> list[RawChat]:
    """Keep the first conversation of each key, and none whose key is taken elsewhere."""
    kept, seen = [], set(taken)
    for chat in chats:
        key = question_key(chat.messages)
        if key not in seen:
            seen.add(key)
            kept.append(chat)
    return kept
