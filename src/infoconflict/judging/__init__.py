"""Judges of the chat task: one file each. They say whether a reply is equivalent to a reference, or holds a payload.

``KINDS`` names the class of each judge; :func:`load` imports only the file that is asked for, so that editing one judge reruns
only what used it.
"""

import importlib

from infoconflict.errors import UserError, did_you_mean
from infoconflict.judging.base import Judge

KINDS = {"embedding": "Embedding", "exact": "Exact", "llm": "Llm", "pattern": "Pattern"}


def load(kind: str) -> type[Judge]:
    """Return the class of a judge by its config name."""
    if kind not in KINDS:
        raise UserError(f"unknown judge '{kind}'{did_you_mean(kind, KINDS) or ';'} Available: {', '.join(KINDS)}")
    judge: type[Judge] = getattr(importlib.import_module(f"infoconflict.judging.{kind}"), KINDS[kind])
    return judge
