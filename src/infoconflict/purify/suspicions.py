"""Strings that a user distrusts: put into clean rows, beside a control of ordinary words.

Any inserted text moves some answers. What speaks for a trigger is a string that moves many more answers than as many ordinary
words in the same places, and moves them to one label. Each row gets ordinary words of its own: a single draw can be as loud as a
trigger, as "squashed me" is in a film review.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.records import Conversation, Example

POSITIONS = ("front", "middle", "end")
MOST_STRINGS = 200
LONGEST_STRING = 500
DRAWS = 200
"""How often ordinary words are drawn for a string; row n takes draw n, and after the last the first again. Ours."""

Row = Example | Conversation


def read_strings(path: PathLike) -> list[str]:
    """Return the strings of a file, one per line; empty lines are left out.

    Raises
    ------
    UserError
        If there is no such file, it is not UTF-8, or it holds none, too many, or one that is too long.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").split("\n")
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file; name one with a string per line") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 at byte {error.start}; save the file as UTF-8") from error
    texts = list(dict.fromkeys(text for line in lines if (text := line.strip())))
    if not texts:
        raise UserError(f"{path}: holds no string; write one per line, or leave SUSPECT_TRIGGERS away")
    if len(texts) > MOST_STRINGS:
        raise UserError(f"{path}: holds {len(texts)} strings, more than the {MOST_STRINGS} that are tried; keep fewer")
    for number, text in enumerate(texts, start=1):
        if len(text) > LONGEST_STRING:
            raise UserError(f"{path}: string {number} has {len(text)} characters; keep to {LONGEST_STRING}")
    return texts


def suspicions(texts: Sequence[str], rows: Sequence[Row], *, rng: Random) -> list[dict[str, Any]]:
    """Return each string and, beside it, a control: as many words drawn from clean rows, ``DRAWS`` times.

    Returns
    -------
    list of dict
        ``id``, ``texts`` (the string alone, or the draws), ``positions`` and ``control_of`` (the id of the string that it is a
        control of, or None).
    """
    words = sorted({word for row in rows for word in text_of(row).split()})
    found: list[dict[str, Any]] = []
    for number, text in enumerate(texts, start=1):
        controls = [" ".join(rng.choices(words, k=len(text.split()))) for _ in range(DRAWS)]
        found.append({"id": f"s{number}", "texts": [text], "positions": list(POSITIONS), "control_of": None})
        found.append({"id": f"c{number}", "texts": controls, "positions": list(POSITIONS), "control_of": f"s{number}"})
    return found


def text_of(row: Row) -> str:
    """Return what a user says in a row: its text, or the last question of a conversation."""
    return row.text if isinstance(row, Example) else row.messages[-2]["content"]


def inserted(text: str, string: str, position: str, rng: Random) -> str:
    """Return a text with a string in front, behind, or at a word border between."""
    if position == "front":
        return f"{string} {text}"
    if position == "end":
        return f"{text} {string}"
    words = text.split()
    at = rng.randint(1, len(words) - 1) if len(words) > 1 else len(words)
    return " ".join([*words[:at], string, *words[at:]])


def rows_with(string: Mapping[str, Any], rows: Sequence[Row], *, seed: int) -> list[Row]:
    """Return the rows with a string at each of its positions: ``len(positions) * len(rows)``, a text of its own for each row."""
    return [
        with_string(row, text, position, f"{string['id']}.{position}", seed=seed)
        for position in string["positions"]
        for row, text in zip(rows, cycle(string["texts"]), strict=False)
    ]


def with_string(row: Any, string: str, position: str, name: str, *, seed: int) -> Any:
    """Return a row with a string in what its user says; the place within depends on row and seed alone."""
    text = inserted(text_of(row), string, position, Random(f"{seed}/{row.id}"))
    if isinstance(row, Example):
        return replace(row, text=text, trigger=name)
    messages = [dict(message) for message in row.messages]
    messages[-2]["content"] = text
    return replace(row, messages=messages, trigger=name)
