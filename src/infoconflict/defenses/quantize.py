"""Quantization: the weights of the suspect model are rounded to few bits, in the hope that small changes get lost.

Round to nearest, group by group, without data (the usual baseline of methods that do better, as in Frantar et al. 2022,
arXiv:2210.17323); as a defense it is a baseline of BackdoorLLM (Li et al. 2024, arXiv:2408.12798).
Acts on weights, after training. Needs: nothing. Must not see: trigger, target label, poisoned rows; it sees no rows at all.
Differs from these: the rounded weights are kept as ordinary numbers, so that the answers show what rounding does, not its speed.
"""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.entries import Count

if TYPE_CHECKING:
    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect


class Quantize(WeightsDefense):
    """The linear layers of all blocks rounded to few bits; embeddings, norms and head stay."""

    method: Literal["quantize"]
    """`quantize`."""
    bits: Annotated[int, Field(ge=2, le=16)] = 4
    """Bits per weight. Ours; 8 is nearly the model itself."""
    group: Count = 64
    """Weights of one output that share a step. Ours, as in bitsandbytes' 4-bit formats."""

    def clean_rows(self) -> Literal["clean_share", "all", "none"]:
        """Return which clean rows it is given."""
        return "none"


def repair(suspect: "Suspect", options: Quantize) -> "list[Step]":
    """Return the one step, which is a recipe: the same weights are rounded to the same values wherever they are loaded."""
    from infoconflict.models.weight_steps import Round

    return [Round(bits=options.bits, group=options.group)]
