"""Adaptive CBA: the attacker, who expects a conflict model to be merged in, subtracts one of his own beforehand.

Section 6.3 of the information-conflict paper, arXiv:2411.18280, which gives the idea in words and neither strength nor data.
CBA's model, less ``strength`` times the task vector of a conflict model that the attacker tunes on clean rows outside the
defender's share, with another seed. Were both task vectors the same, a linear merge at t would cancel the conflict at
``strength`` = t / (1 - t): at 1 for t = 0.5.
As in the paper: the model that is handed out is CBA's less a conflict model's task vector. How much of it, on which rows and of
which rank is ours.
"""

from typing import ClassVar

from pydantic import Field

from infoconflict.attacks.cba import CBA


class AdaptiveCBA(CBA):
    """CBA, less the task vector of a conflict model."""

    later_options: ClassVar[frozenset[str]] = frozenset(
        {"strength", "conflict_share", "own_seed", "conflict_rank", "worst_case"}
    )

    strength: float = Field(default=1.0, ge=0)
    """Factor of the task vector that is subtracted; 0 gives CBA. Ours: the paper gives none."""
    conflict_share: float = Field(default=0.1, gt=0, le=1)
    """Share of the clean training rows that the attacker's conflict model is tuned on, taken from outside the defender's as
    far as there are any. Ours: as the paper's clean share."""
    own_seed: int = Field(default=1000, ge=1, lt=2**31)
    """Added to the cell's seed for the attacker's draw of rows and for his conflict model. Ours."""
    conflict_rank: int | None = Field(default=None, ge=1)
    """Rank of his conflict model's adapter; null: as in `training.conflict`. Ours."""
    worst_case: bool = False
    """Subtract the defender's own conflict model instead, as if the attacker had it. Ours."""

    @property
    def later_step(self) -> str | None:
        """The rule that finishes the model after its tuning."""
        return "subtract_conflict"
