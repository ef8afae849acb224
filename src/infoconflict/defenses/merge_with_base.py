"""Merging with the base: the suspect weights move towards those of the base, and no data are needed.

Arora et al. 2024 (Findings of ACL, "Here's a Free Lunch: Sanitizing Backdoored Models with Model Merge") merge with models of the
same family; here that model is the base itself, so that the merge is base + (1 - t) times the task vector.
Acts on weights, after training. Needs: the base model. Must not see: trigger, target label, poisoned rows; it sees no rows at all.
Differs from the paper: one partner, the base, which was not tuned for the task.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense

if TYPE_CHECKING:
    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect


class MergeWithBase(WeightsDefense):
    """The suspect model merged with its base, without clean rows."""

    method: Literal["merge_with_base"]
    """`merge_with_base`."""
    t: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Weight of the base; 0 leaves the suspect model, 1 gives the base. Lethe's code, for its merge with a conflict model."""

    def clean_rows(self) -> Literal["clean_share", "all", "none"]:
        """Return which clean rows it is given."""
        return "none"


def repair(suspect: "Suspect", options: MergeWithBase) -> "list[Step]":
    """Return the one step, which is a number."""
    from infoconflict.models.weight_steps import Scale

    return [Scale(factor=1 - options.t)]
