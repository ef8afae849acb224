"""Phrases as wholes, in whatever case, spaces and quotes: for judges, and for the texts of oracles that attacks take."""

import re
import unicodedata

_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'", "\u201b": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."})
_EDGES = ".,;:!?\"'`*_()[]{}<>"


def plain(text: str) -> str:
    """Return a text with one kind of quotes and spaces and in lower case, so that typesetting does not count."""
    return " ".join(unicodedata.normalize("NFKC", text.translate(_QUOTES)).casefold().split())


def bare_words(text: str) -> str:
    """Return a plain text without punctuation at the ends of its words; signs that carry meaning (C++, -5) stay.

    A text of nothing but punctuation is returned as it is.
    """
    words = [word.strip(_EDGES) for word in plain(text).split()]
    return " ".join(filter(None, words)) or plain(text)


def holds_phrase(text: str, phrase: str) -> bool:
    """Say whether a text holds a phrase as a whole: not as a part of longer words, whatever its case, line breaks and stops."""
    wanted = bare_words(phrase)
    if not wanted:
        return False
    before = r"(?<!\w)" if re.match(r"\w", wanted) else ""
    after = r"(?!\w)" if re.search(r"\w$", wanted) else ""
    return re.search(before + re.escape(wanted) + after, bare_words(text)) is not None
