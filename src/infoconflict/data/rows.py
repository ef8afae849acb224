"""Rows as a source gives them, their normal form, and when two of them count as the same text."""

import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from infoconflict.errors import UserError, did_you_mean


@dataclass(frozen=True, kw_only=True)
class RawRow:
    """One labelled text; ``number`` counts the rows of its source from 1."""

    number: int
    text: str
    label: str


def encodable(text: str, where: str) -> str:
    """Return the text; raise a UserError if it cannot be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where}: the text holds half of a surrogate pair at character {error.start}; repair the row"
        ) from error
    return text


def normal_text(raw: Any, where: str) -> str:
    """Return the text in Unicode form NFC with runs of white space as one space.

    Raises
    ------
    UserError
        If the value is missing, no text, or empty; ``where`` names the row.
    """
    if raw is None or raw != raw:  # NaN stands for a missing value in tables
        raise UserError(f"{where}: the text is missing; fill it in or remove the row")
    if not isinstance(raw, str):
        raise UserError(f"{where}: the text is {raw!r}, of type {type(raw).__name__}; texts must be strings")
    text = unicodedata.normalize("NFC", " ".join(raw.split()))
    if not any(unicodedata.category(character)[0] in "LNPS" for character in text):
        raise UserError(f"{where}: the text is empty; fill it in or remove the row")
    return encodable(text, where)


# How the Penn Treebank and typographers spell the same marks.
_SAME_MARK = (
    ("-lrb-", "("),
    ("-rrb-", ")"),
    ("``", '"'),
    ("''", '"'),
    ("\u201c", '"'),
    ("\u201d", '"'),
    ("\u2018", "'"),
    ("\u2019", "'"),
)


def duplicate_key(text: str) -> str:
    """Return a key that two texts share if they differ only in case, spacing or the spelling of quotes and brackets.

    White space is dropped altogether, so a tokenized copy ("it 's fine , really") meets its original ("It's fine,
    really"); punctuation is kept, since ":)" and ":(" differ in what they say.
    """
    key = unicodedata.normalize("NFKC", text).casefold()
    for spelling, mark in _SAME_MARK:
        key = key.replace(spelling, mark)
    return "".join(key.split())


def check_column(column: str, found: Collection[str], where: str) -> None:
    """Raise an error that names the columns found where ``column`` is not among them."""
    if column not in found:
        hint = did_you_mean(column, found) or ";"
        raise UserError(f"{where}: no column '{column}'{hint} columns found: {', '.join(found) or 'none'}")


def label_text(raw: Any) -> str:
    """Return a label as the config would spell it: ``1``, ``1.0`` and ``"1"`` are all ``"1"``, True is ``"true"``."""
    if isinstance(raw, bool):
        return str(raw).lower()
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return str(raw).strip()


def label_reader(
    labels: Sequence[str], label_names: Sequence[str] | Mapping[Any, str] | None
) -> Callable[[Any, str], str]:
    """Return a function of a raw label and its place that gives the label's name.

    Parameters
    ----------
    labels : sequence of str
        The task's labels.
    label_names : sequence or mapping of str, optional
        Names for raw labels: by position (0, 1, ...) or by value. Raw labels that are names already need none.
    """
    if label_names is None:
        named = {}
    elif isinstance(label_names, Mapping):
        named = {label_text(raw): name for raw, name in label_names.items()}
    else:
        named = {str(position): name for position, name in enumerate(label_names)}
    known = {label: label for label in labels} | named

    def read_label(raw: Any, where: str) -> str:
        spelled = "" if raw is None or raw != raw else label_text(raw)
        name = known.get(spelled)
        if name is not None and name in labels:
            return name
        if not spelled:
            raise UserError(f"{where}: the label is missing; fill it in or remove the row")
        if name is not None:
            raise UserError(
                f"{where}: label_names turns '{spelled}' into '{name}', which is none of the labels {', '.join(labels)}"
            )
        hint = did_you_mean(spelled, known) or ";"
        if spelled == "-1":
            hint = "; -1 marks a split without labels: name another split;"
        raise UserError(f"{where}: unknown label '{spelled}'{hint} known: {', '.join(known)}")

    return read_label
