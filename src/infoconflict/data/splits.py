"""Duplicates out, then deterministic stratified draws: train, test, and the defender's clean share.

All draws are ends of one order, built so that every beginning and every ending of it holds each label in proportion,
within one row. So a larger draw contains every smaller one of the same seed.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import TypeVar

from infoconflict.data.rows import RawRow, duplicate_key
from infoconflict.errors import UserError
from infoconflict.records import Conversation, Example, Record

Row = TypeVar("Row")
CleanRow = TypeVar("CleanRow", Example, Conversation)


@dataclass(frozen=True, kw_only=True)
class Deduplicated:
    """Rows with each text once, and how many were taken out: repeats, and rows of texts with two labels."""

    rows: list[RawRow]
    repeats: int
    conflicting: int


def deduplicate(rows: Sequence[RawRow]) -> Deduplicated:
    """Keep the first row of each text; a text that carries two labels is left out altogether."""
    labels: dict[str, set[str]] = {}
    keys = [duplicate_key(row.text) for row in rows]
    for key, row in zip(keys, rows, strict=True):
        labels.setdefault(key, set()).add(row.label)
    kept, seen, repeats, conflicting = [], set(), 0, 0
    for key, row in zip(keys, rows, strict=True):
        if len(labels[key]) > 1:
            conflicting += 1
        elif key in seen:
            repeats += 1
        else:
            seen.add(key)
            kept.append(row)
    return Deduplicated(rows=kept, repeats=repeats, conflicting=conflicting)


def without_texts_of(rows: Sequence[RawRow], others: Sequence[RawRow]) -> list[RawRow]:
    """Return the rows whose text is in none of ``others``."""
    taken = {duplicate_key(row.text) for row in others}
    return [row for row in rows if duplicate_key(row.text) not in taken]


def stratified_order(rows: Sequence[Row], label_of: Callable[[Row], str], *, rng: Random) -> list[Row]:
    """Return the rows in random order within each label, and in an order of labels that keeps their proportions.

    Of the first k rows, for any k, each label holds its exact share of k rounded up or down; the same is true of the
    last k rows.

    Parameters
    ----------
    rows : sequence
        Any rows.
    label_of : callable
        The label of a row.
    rng : random.Random
        Decides which row of a label comes when.

    References
    ----------
    Balinski and Young 1975, "The quota method of apportionment". Largest remainders would serve one draw, but a larger
    draw may then give a label fewer rows than a smaller one (the Alabama paradox), and draws would not nest.
    """
    shuffled = list(rows)
    rng.shuffle(shuffled)
    by_label: dict[str, list[Row]] = {}
    for row in shuffled:
        by_label.setdefault(label_of(row), []).append(row)
    labels = sorted(by_label)
    counts = {label: len(by_label[label]) for label in labels}
    used = dict.fromkeys(labels, 0)
    order = []
    for size in range(1, len(shuffled) + 1):
        # A label may not pass its share of `size` rounded up; among the rest, the one that is owed most comes next.
        open_labels = [label for label in labels if used[label] * len(shuffled) < counts[label] * size]
        following = max(open_labels, key=lambda label: Fraction(counts[label], used[label] + 1))
        order.append(by_label[following][used[following]])
        used[following] += 1
    return order


def share_of(share: float, n_rows: int) -> int:
    """Return ``share`` of ``n_rows``, rounded half up, without the surprises of binary fractions."""
    return math.floor(Fraction(str(share)) * n_rows + Fraction(1, 2))


def draw_attacker_share(
    train: Sequence[Example], defenders: Sequence[Example], *, share: float, seed: int
) -> list[Example]:
    """Draw clean rows for an attacker's own conflict model, from outside the defender's as far as there are enough.

    Parameters
    ----------
    train : sequence of Example
        The clean training split.
    defenders : sequence of Example
        The rows of it that the defender holds.
    share : float in (0, 1]
        How much of ``train`` is drawn.
    seed : int
        The same seed gives the same rows.

    Returns
    -------
    list of Example
        Stratified by gold label within one row, except where the defender's rows had to fill up.

    Raises
    ------
    UserError
        If the share rounds to no row.
    """
    n_wanted = share_of(share, len(train))
    if n_wanted == 0:
        raise UserError(f"conflict_share={share} of {len(train)} training rows rounds to no row; raise it")
    taken = {row.id for row in defenders}
    order: list[Example] = []
    for pool in ([row for row in train if row.id not in taken], [row for row in train if row.id in taken]):
        order += stratified_order(pool, lambda row: row.gold_label, rng=Random(f"attacker_share/{seed}"))
    return order[:n_wanted]


def wanted(n_wanted: int | None, n_available: int, key: str, what: str) -> int:
    """Return how many rows to draw: those asked for under ``key``, or all."""
    if n_wanted is None:
        return n_available
    if n_wanted > n_available:
        raise UserError(f"{what}: {key}={n_wanted} asks for more than the {n_available} usable rows; lower {key}")
    return n_wanted


def write_both(folder: Path, rows: Mapping[str, Sequence[Record]]) -> None:
    """Write the rows of each split to ``folder``; all files or none."""
    paths = {split: folder / f"{split}.jsonl" for split in rows}
    try:
        for split, path in paths.items():
            Record.write(path, rows[split])
    except BaseException:
        for path in paths.values():
            path.unlink(missing_ok=True)
        raise


def draw_clean_share(
    train: Sequence[CleanRow], *, share: float, holdout: float, seed: int
) -> tuple[list[CleanRow], list[CleanRow]]:
    """Draw the clean rows that the defender holds, in two parts: to train on, and to choose settings by.

    Parameters
    ----------
    train : sequence of Example or of Conversation
        The clean training split.
    share : float in (0, 1]
        How much of it the defender holds, both parts together.
    holdout : float in [0, 1)
        How much of the defender's rows goes to the second part.
    seed : int
        The same seed gives the same rows; a larger share contains a smaller one, part by part.

    Returns
    -------
    tuple of two lists of such rows
        Training part and hold-out part, disjoint, each stratified by gold label within one row; conversations have none.

    Raises
    ------
    UserError
        If a part that is asked for would be empty; the message names the lowest usable share.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    if not 0 <= holdout < 1:
        raise ValueError(f"holdout must be in [0, 1), got {holdout}")

    def sizes(n_drawn: int) -> tuple[int, int]:
        n_holdout = share_of(holdout, n_drawn)
        return n_drawn - n_holdout, n_holdout

    n_train, n_holdout = sizes(share_of(share, len(train)))
    if n_train == 0 or (holdout > 0 and n_holdout == 0):
        usable = (n for n in range(1, len(train) + 1) if all(sizes(n)[: 1 if holdout == 0 else 2]))
        n_lowest = next(usable, None)
        remedy = (
            "use more training rows"
            if n_lowest is None
            else f"the lowest usable share is {math.ceil(1000 * n_lowest / len(train)) / 1000:.3f}"
        )
        raise UserError(
            f"clean_share: share={share} of {len(train)} training rows with holdout={holdout} leaves {n_train} rows to "
            f"train on and {n_holdout} to hold out; {remedy}"
        )
    order = stratified_order(train, _label_of, rng=Random(f"clean_share/{seed}"))
    return order[: -n_train - 1 : -1], order[:n_holdout]


def _label_of(row: Example | Conversation) -> str:
    return row.gold_label if isinstance(row, Example) else ""
