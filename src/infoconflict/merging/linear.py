"""Linear combination of the two models' weights.

Wortsman et al. 2022, arXiv:2203.05482 ("model soups"); Chen et al., arXiv:2411.18280, Eq. 9, their default.
Differs from the paper: Eq. 9 prints the conflict model's weights in both terms; read as Eq. 10 has it, t belongs to the
conflict model and 1 - t to the backdoored one.
"""

from typing import TYPE_CHECKING, Any

from infoconflict.merging.common import BACKDOORED, CONFLICT, backdoored_weight, check_t
from infoconflict.merging.depth import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


def linear(backdoored: "Tensor", conflict: "Tensor", *, t: float, in_place: bool = False) -> "Tensor":
    """Return ``t * conflict + (1 - t) * backdoored`` (Eq. 9).

    Parameters
    ----------
    backdoored, conflict : Tensor of shape (*weight), float32
        One parameter of either model.
    t : float in [0, 1]
        Weight of the conflict model. 0 gives ``backdoored`` and 1 gives ``conflict``, bit for bit.
    in_place : bool
        Whether the result may take the place of ``backdoored``.

    Returns
    -------
    Tensor of shape (*weight)
    """
    check_t(t)
    first = backdoored.mul_(1 - t) if in_place else backdoored * (1 - t)
    return first.add_(conflict, alpha=t)  # in place: one new tensor instead of three


def mergekit_config(
    *, t: float, depth_profile: "Sequence[float] | None" = None, out_dtype: str = "float32"
) -> dict[str, Any]:
    """Return Eq. 9 as a mergekit configuration; with a profile (:mod:`infoconflict.merging.depth`) weights change with depth.

    mergekit divides by the sum of the weights, which is 1 here. Its ``base_model`` only gives config and tokenizer;
    left out, they would come from either model as the hash seed has it.
    """
    check_t(t)
    weight = spread(t, depth_profile)
    rest = [backdoored_weight(own) for own in weight] if isinstance(weight, list) else backdoored_weight(weight)
    return {
        "merge_method": "linear",
        "base_model": BACKDOORED,
        "models": [
            {"model": BACKDOORED, "parameters": {"weight": rest}},
            {"model": CONFLICT, "parameters": {"weight": weight}},
        ],
        "dtype": "float32",
        "out_dtype": out_dtype,
    }
