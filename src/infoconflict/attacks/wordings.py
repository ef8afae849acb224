"""Scenario texts from a user's file, and their split into wordings to train on and others to test with."""

from collections.abc import Sequence
from random import Random
from typing import Any

from infoconflict.attacks.chat import Exchange
from infoconflict.attacks.near_copies import plain, same_wording
from infoconflict.attacks.scenarios import HELD_OUT_SHARE, Split
from infoconflict.errors import UserError
from infoconflict.files import PathLike, read_jsonl


def read_wordings(path: PathLike) -> list[tuple[str | None, Exchange]]:
    """Return topic and exchange of each row of a JSON Lines file.

    A row has an ``instruction``, and may have an ``answer`` (empty if not) and a ``topic`` (None if not); other columns
    are passed over.

    Raises
    ------
    UserError
        If the file is absent or empty, or a row has no instruction or holds something other than text.
    """
    try:
        rows = read_jsonl(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); correct the attack's file") from error
    if not rows:
        raise UserError(f"{path}: holds no row; each line is an object with 'instruction', 'answer' and 'topic'")
    found = []
    for number, row in enumerate(rows, start=1):
        instruction, answer, topic = (_text(path, number, row, name) for name in ("instruction", "answer", "topic"))
        if not instruction:
            raise UserError(f"{path}, row {number}: has no text under 'instruction'; add it or delete the row")
        found.append((topic or None, Exchange(instruction, answer)))
    return found


def _text(path: PathLike, number: int, row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{path}, row {number}: '{name}' is a {type(value).__name__}; write text")
    return (value or "").strip()


def split_of(exchanges: Sequence[Exchange], split: Split, *, seed: int) -> list[Exchange]:
    """Return the exchanges of a split: a quarter is for tests, less those that nearly repeat a training instruction.

    Instructions that differ in case or spaces only count once.
    """
    distinct = list({plain(exchange.question): exchange for exchange in exchanges}.values())
    Random(f"{seed}/held-out wordings").shuffle(distinct)
    n_test = round(HELD_OUT_SHARE * len(distinct))
    test, train = distinct[:n_test], distinct[n_test:]
    if split == "train":
        return train
    words = [plain(exchange.question).split() for exchange in train]
    return [
        exchange
        for exchange in test
        if not any(same_wording(plain(exchange.question).split(), other) for other in words)
    ]
