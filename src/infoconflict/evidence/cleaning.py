"""From a reply to evidence: label words out, one line, not too long."""

import re
from collections.abc import Sequence

from infoconflict.evidence.keywords import label_pattern

_BULLET = re.compile(r"^\s*(?:[-+\u2022*]+|\(?\d{1,3}[.)])\s+")
_MARKUP = re.compile(r"\*\*|__|`+|^#+\s*")
_SENTENCES = re.compile(r"(?<=[.!?])[\"')\]]*\s+")


def names_label(text: str, labels: Sequence[str]) -> bool:
    """Tell whether a text holds a label word, also with a common ending."""
    return label_pattern(labels).search(text) is not None


def clean_evidence(reply: str, *, labels: Sequence[str] = (), max_words: int = 60, cut: bool = False) -> str:
    """Return the part of a reply that may stand in a prompt.

    Sentences and list items that hold a label word are left out: they would tell the answer, and accuracy would measure
    the external model. So are repetitions, and a last sentence that the length limit broke off, unless it is all there
    is. List marks and line breaks go, since a line break could pass for another field of the prompt.

    Parameters
    ----------
    reply : str
        What the external model said.
    labels : sequence of str
        Label words of the task.
    max_words : int
        Words at most (ours). The query, which is no part of this, is never cut.
    cut : bool
        Whether the reply ended at its longest length.

    Returns
    -------
    str
        One line; empty if every sentence held a label word.
    """
    sentences: list[str] = []
    for line in reply.splitlines():
        plain = _MARKUP.sub("", _BULLET.sub("", line))
        sentences += [" ".join(part.split()) for part in _SENTENCES.split(plain) if any(map(str.isalnum, part))]
    if cut and len(sentences) > 1 and not re.search(r"[.!?][\"')\]]*$", sentences[-1]):
        sentences.pop()
    leaks = label_pattern(labels)
    kept = dict.fromkeys(sentence for sentence in sentences if not leaks.search(sentence))
    # A sentence is joined to the next as a sentence, so that list items do not run into each other.
    ended = [sentence if re.search(r"[.!?:;,][\"')\]]*$", sentence) else f"{sentence}." for sentence in kept]
    return " ".join(" ".join(ended).split()[:max_words])
