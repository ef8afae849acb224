"""From a reply to evidence: label words out, one line, not too long."""

import re
from collections.abc import Sequence

from infoconflict.evidence.keywords import label_pattern

_BULLET = re.compile(r"^\s*(?:[-+\u2022*]+|\(?\d{1,3}[.)])\s+")
_MARKUP = re.compile(r"\*\*|__|`+|^#+\s*")
_ENDED = re.compile(r"[.!?][\"')\]]*$")
_SENTENCES = re.compile(r"(?<=[.!?])[\"')\]]*\s+")


def names_label(text: str, labels: Sequence[str]) -> bool:
    """Tell whether a text holds a label word, also with a common ending."""
    return label_pattern(labels).search(text) is not None


def clean_evidence(reply: str, *, labels: Sequence[str] = (), max_words: int = 60) -> str:
    """Return the part of a reply that may stand in a prompt.

    Sentences and list items that hold a label word are left out: they would tell the answer, and accuracy would measure
    the external model. So are repetitions, and a last sentence without its end where all before it have theirs: the
    length limit broke it off. List marks and line breaks go, since a line break could pass for another field of the
    prompt.

    Parameters
    ----------
    reply : str
        What the external model said.
    labels : sequence of str
        Label words of the task.
    max_words : int
        Words at most (ours). The query, which is no part of this, is never cut.

    Returns
    -------
    str
        One line; empty if every sentence held a label word.
    """
    sentences: list[str] = []
    for line in reply.splitlines():
        plain = _MARKUP.sub("", _BULLET.sub("", line))
        sentences += [" ".join(part.split()) for part in _SENTENCES.split(plain) if any(map(str.isalnum, part))]
    if len(sentences) > 1 and all(map(_ENDED.search, sentences[:-1])) and not _ENDED.search(sentences[-1]):
        sentences.pop()
    leaks = label_pattern(labels)
    kept = dict.fromkeys(sentence for sentence in sentences if not leaks.search(sentence))
    # List items end like sentences, so that they do not run into each other.
    ended = [sentence if sentence[-1] in ":;," or _ENDED.search(sentence) else f"{sentence}." for sentence in kept]
    return " ".join(" ".join(ended).split()[:max_words])
