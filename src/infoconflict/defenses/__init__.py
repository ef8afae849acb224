"""Defenses: one file each, saying where it acts, what it needs, what it must not see, and how it works.

``METHODS`` names the class of each defense's options; :func:`load` imports only the file that is asked for, so that editing one
defense reruns only what used it. A file holds the options and, in functions, the algorithm; the file itself imports neither
torch nor anything above it, its functions do. ``CONTROLS`` are what defenses are compared with.
"""

import importlib
from typing import TYPE_CHECKING

from infoconflict.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from infoconflict.defenses.base import Defense

METHODS = {
    "none": "Undefended",
    "fine_tuning": "FineTuning",
    "internal": "Internal",
    "external": "External",
    "conflict": "Conflict",
}

# Models that are asked the same rows as the defended ones. They stand in a cell's place for the defense.
CONTROLS = ("control_base", "control_conflict", "control_clean_tuned")


def load(method: str) -> "type[Defense]":
    """Return the class of a defense's options by its config name."""
    if method not in METHODS:
        raise UserError(f"unknown defense '{method}'{did_you_mean(method, METHODS)} Available: {', '.join(METHODS)}")
    defense: type[Defense] = getattr(importlib.import_module(f"infoconflict.defenses.{method}"), METHODS[method])
    return defense
