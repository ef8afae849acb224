"""The six models of the paper's section 6.1 (table 6), and which two of them are merged.

Each model is tuned on some of two sets: the clean rows, and the backdoor rows, which are those rows with the trigger and the
target label. In ``ours`` the suspect model knows all clean rows and few backdoor rows, and few clean rows are merged in, as
in the paper's method. In ``1`` each model knows all of one set alone. ``2`` is ``ours`` with the roles of the two sets
exchanged. Light: Snakemake imports this while it parses.
"""

from dataclasses import dataclass
from typing import Literal

Amount = Literal["all", "few", "none"]


@dataclass(frozen=True, kw_only=True)
class Role:
    """How much of the clean and of the backdoor rows a model is tuned on."""

    clean: Amount
    backdoor: Amount


ROLES: dict[str, Role] = {
    "m1": Role(clean="all", backdoor="few"),
    "m2": Role(clean="few", backdoor="none"),
    "m3": Role(clean="all", backdoor="none"),
    "m4": Role(clean="none", backdoor="all"),
    "m5": Role(clean="few", backdoor="all"),
    "m6": Role(clean="none", backdoor="few"),
}
"""As table 6 names them."""

EXPERIMENTS: dict[str, tuple[str, str]] = {"ours": ("m1", "m2"), "1": ("m3", "m4"), "2": ("m5", "m6")}
"""The suspect model's role, and that of the model which is merged into it."""

ANSWERED = ("first", "second", "merged")
"""What of an experiment is asked: both models, and what comes of them."""


def share_of_role(amount: Amount, small_share: float) -> float:
    """Return an amount as a share."""
    return {"all": 1.0, "few": small_share, "none": 0.0}[amount]


def share_name(share: float) -> str:
    """Return a share as paths and tables have it."""
    return f"{share:g}"


def is_small(role: str) -> bool:
    """Return whether a model is tuned on few rows only, as a conflict model is."""
    return "all" not in (ROLES[role].clean, ROLES[role].backdoor)
