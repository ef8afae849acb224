"""Defenses: one file each, saying where it acts, what it needs, what it must not see, and how it works.

``METHODS`` names the class of each defense's options; :func:`load` imports only the file that is asked for, so that editing one
defense reruns only what used it. A file holds the options and, in functions, the algorithm; the file itself imports neither
torch nor anything above it, its functions do. What defenses are
compared with is in :mod:`infoconflict.defenses.controls`.
"""

import importlib
from typing import TYPE_CHECKING

from infoconflict.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from infoconflict.defenses.base import Defense

METHODS = {
    "none": "Undefended",
    "editing": "Editing",
    "editing_oracle": "EditingOracle",
    "fine_tuning": "FineTuning",
    "wanda": "Wanda",
    "quantize": "Quantize",
    "merge_with_base": "MergeWithBase",
    "fine_mixing": "FineMixing",
    "fine_pruning": "FinePruning",
    "nad": "NAD",
    "beear": "BEEAR",
    "crow": "Crow",
    "speculative": "Speculative",
    "cleangen": "CleanGen",
    "onion": "Onion",
    "internal": "Internal",
    "external": "External",
    "conflict": "Conflict",
}


def load(method: str) -> "type[Defense]":
    """Return the class of a defense's options by its config name."""
    if method not in METHODS:
        raise UserError(f"unknown defense '{method}'{did_you_mean(method, METHODS)} Available: {', '.join(METHODS)}")
    defense: type[Defense] = getattr(importlib.import_module(f"infoconflict.defenses.{method}"), METHODS[method])
    return defense
