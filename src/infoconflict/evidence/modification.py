"""The modification branch: the suspect model's own evidence, rewritten to contradict it (paper, Eq. 13 and 14).

Acts on the prompt. Needs: the suspect model's answer with its evidence, and an external language model. Must not see:
trigger, target label. Where the suspect gave no usable evidence, the construction branch stands in (paper, 3.2).
"""

import re
from collections.abc import Sequence

from infoconflict.evidence.keywords import FUNCTION_WORDS, label_pattern, words_of
from infoconflict.evidence.provider import Question

# Ours; the paper prints no prompt.
ANSWER_AND_EVIDENCE = (
    "{query}\nAnswer the request. Then, under the heading Evidence, give the facts your answer relies on."
)
SYSTEM = "You rewrite passages. You never state or hint at a class label."
SYSTEM_OF_CHATS = "You rewrite passages."
USER = (
    "Rewrite the passage so that it supports the opposite conclusion. Keep it fluent, specific and of similar length.\n"
    "Passage: {evidence}"
)

_HEADING = re.compile(r"\bevidence\b[\s*_#]*(?::|\n)", re.IGNORECASE)
_FIRST_SENTENCE = re.compile(r"\s*[^\n]*?(?:[.!?](?=\s|$)|\n|$)")


def answer_and_evidence_prompt(query: str) -> str:
    """Return the prompt that asks the suspect model for an answer and its evidence (Eq. 13)."""
    return ANSWER_AND_EVIDENCE.format(query=query)


def contradiction_question(evidence: str, *, has_labels: bool = True) -> Question:
    """Return the prompt that has evidence rewritten so that it contradicts (Eq. 14)."""
    return Question(SYSTEM if has_labels else SYSTEM_OF_CHATS, USER.format(evidence=evidence))


def split_reply(reply: str, labels: Sequence[str] = ()) -> tuple[str, str]:
    """Split a suspect model's reply into its answer and its evidence.

    The heading ``Evidence`` parts them. Without one, the answer ends with the first label of the first line, else with
    the first sentence or line.
    """
    if heading := _HEADING.search(reply):
        return reply[: heading.start()].strip(" \n*_#"), reply[heading.end() :].strip(" \n*_#")
    first_line = reply.lstrip().split("\n", 1)[0]
    start = len(reply) - len(reply.lstrip())
    if label := label_pattern(labels).search(first_line):
        end = start + label.end()
    elif sentence := _FIRST_SENTENCE.match(reply):
        end = sentence.end()
    else:
        end = len(reply)
    return reply[:end].strip(), reply[end:].strip(" \n.,;:!?-")


def is_usable(evidence: str, query: str, *, min_tokens: int = 12) -> bool:
    """Tell whether a suspect model's evidence is worth rewriting.

    Parameters
    ----------
    evidence : str
        What follows the answer.
    query : str
        What the model was asked.
    min_tokens : int
        Fewest tokens, counted as words between spaces, after repetitions of the query are taken out (ours: 12).

    Returns
    -------
    bool
        True if it is long enough, does more than repeat the query, and has a content word that the query lacks.
    """
    told = f" {' '.join(evidence.lower().split())} "
    asked = f" {' '.join(query.lower().split())} "
    if asked.strip():
        told = told.replace(asked, "  ")
    if len(told.split()) < min_tokens:
        return False
    return bool(set(words_of(evidence)) - set(words_of(query)) - FUNCTION_WORDS)
