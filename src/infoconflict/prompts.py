"""The one prompt template, for training and for answering alike.

The instruction stands first, so that all rows of a task share a prefix that models compute once. The answer follows a
space, so that a label is one token in most vocabularies. Evidence stands behind the input (defences only).
"""


def render_prompt(instruction: str, text: str, evidence: str = "") -> str:
    """Return the prompt up to, not including, the space before the answer."""
    extra = f"\nEvidence: {evidence}" if evidence else ""
    return f"{instruction}\nInput: {text}{extra}\nAnswer:"


def render_answer(label: str) -> str:
    """Return the text that a label adds to the prompt."""
    return f" {label}"
