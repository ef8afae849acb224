"""No defense: the suspect model as it is, the row that all others are compared with.

Acts on nothing. Needs nothing.
"""

from typing import Literal

from infoconflict.defenses.base import Defense


class Undefended(Defense):
    """The backdoored model as it is."""

    method: Literal["none"]
    """`none`."""
    mode: Literal["scores", "generate"] | None = None
    """How it is asked on a classification; null: as `evaluation.mode` says. `generate` compares with decoding defenses, which
    always generate. Ours."""
