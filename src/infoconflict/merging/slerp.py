"""Spherical linear interpolation between the two models, tensor by tensor.

Shoemake 1985, "Animating rotation with quaternion curves"; Chen et al., arXiv:2411.18280, Eq. 10.
Differs from the paper: in nothing that it states; where Eq. 10 divides by about zero, mergekit's rules are followed
(below). Two fine-tunings of one base are nearly parallel, so that SLERP and linear are close at equal t; measure it
with :func:`cosine`.
"""

import math
from typing import TYPE_CHECKING, Any

from infoconflict.merging.common import BACKDOORED, CONFLICT, check_t
from infoconflict.merging.depth import spread

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

NEARLY_PARALLEL = 0.9995  # mergekit 0.1.5, merge_methods/slerp.py: dot_threshold
SMALLEST_NORM = 1e-8  # mergekit 0.1.5, merge_methods/slerp.py: eps


def cosine(backdoored: "Tensor", conflict: "Tensor") -> float:
    """Return the cosine of the angle between two tensors, flattened, in [-1, 1].

    A tensor of zeros has no direction; as in mergekit its norm then counts as 1 and the cosine is 0.
    """
    first, second = backdoored.flatten(), conflict.flatten()
    norms = [float(norm) if norm > SMALLEST_NORM else 1.0 for norm in (first.norm(), second.norm())]
    # Divide before multiplying: the product of two large norms can overflow float32.
    dot = float((first / norms[0]).mul_(second / norms[1]).sum())
    return max(-1.0, min(1.0, dot))


def slerp(
    backdoored: "Tensor", conflict: "Tensor", *, t: float, cos: float | None = None, in_place: bool = False
) -> "Tensor":
    """Return the point at ``t`` on the arc from ``backdoored`` to ``conflict`` (Eq. 10).

    Parameters
    ----------
    backdoored, conflict : Tensor of shape (*weight), float32
        One parameter of either model; taken as one flat vector.
    t : float in [0, 1]
        Weight of the conflict model. 0 gives ``backdoored`` and 1 gives ``conflict``, bit for bit.
    cos : float, optional
        What :func:`cosine` gives for the two; pass it to save that pass when only t varies.
    in_place : bool
        Whether the result may take the place of ``backdoored``.

    Returns
    -------
    Tensor of shape (*weight)
        Linear in t where |cos| > 0.9995, since the divisor of Eq. 10 vanishes there.
    """
    check_t(t)
    cos = cosine(backdoored, conflict) if cos is None else cos
    weights = [1 - t, t]
    if abs(cos) <= NEARLY_PARALLEL:
        angle = math.acos(cos)
        weights = [math.sin(share * angle) / math.sin(angle) for share in weights]
    first = backdoored.mul_(weights[0]) if in_place else backdoored * weights[0]
    return first.add_(conflict, alpha=weights[1])  # in place: one new tensor instead of three


def mergekit_config(
    *, t: float, depth_profile: "Sequence[float] | None" = None, out_dtype: str = "float32"
) -> dict[str, Any]:
    """Return Eq. 10 as a mergekit configuration; mergekit counts t from its ``base_model``.

    With a profile (:mod:`infoconflict.merging.depth`) t changes with depth.
    """
    check_t(t)
    return {
        "merge_method": "slerp",
        "base_model": BACKDOORED,
        "models": [{"model": BACKDOORED}, {"model": CONFLICT}],
        "parameters": {"t": spread(t, depth_profile)},
        "dtype": "float32",
        "out_dtype": out_dtype,
    }
