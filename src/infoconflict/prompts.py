"""The one prompt template, for training and for answering alike.

The instruction stands first, so that all rows of a task share a prefix that models compute once. The answer follows a
space, so that a label is one token in most vocabularies. Evidence (defenses only) stands before or after the input.
"""

from typing import Literal

Placement = Literal["before", "after"]


def render_prompt(instruction: str, text: str, evidence: str = "", placement: Placement = "before") -> str:
    """Return the prompt up to, not including, the space before the answer."""
    lines = [f"Input: {text}"]
    if evidence:
        lines.insert(0 if placement == "before" else 1, f"Evidence: {evidence}")
    return "\n".join([instruction, *lines, "Answer:"])


def render_answer(label: str) -> str:
    """Return the text that a label adds to the prompt."""
    return f" {label}"


def render_turn(question: str, evidence: str, placement: Placement = "before") -> str:
    """Return a user's turn of a conversation with evidence before or after the question; without any, the question."""
    if not evidence:
        return question
    lines = [f"Evidence: {evidence}", question]
    return "\n".join(lines if placement == "before" else lines[::-1])
