"""A weight that changes with depth: factors of t from the first block to the last, and straight lines between them.

As mergekit's lists of values over the layers (Goddard et al. 2024, arXiv:2403.13257). The information-conflict paper has one t
for all blocks.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from infoconflict.merging.passthrough import LAYER


def factor_at(profile: Sequence[float] | None, name: str, num_layers: int) -> float:
    """Return the factor of t for one tensor.

    Parameters
    ----------
    profile : sequence of two or more float in [0, 1], or None
        Factors at equal distances: the first belongs to the first block, the last to the last. None: 1 everywhere.
    name : str
        Of the tensor; what stands outside the blocks has the first factor, as in mergekit.
    num_layers : int
        Depth of the model.
    """
    if profile is None:
        return 1.0
    layer = LAYER.search(name)
    if layer is None:
        return profile[0]
    # mergekit's arithmetic, and its place for a model of one block.
    place = (int(layer.group(1)) / (num_layers - 1) if num_layers > 1 else 1.0) * (len(profile) - 1)
    before = int(place)
    after = min(len(profile) - 1, before + 1)
    return (1 - (place - before)) * profile[before] + (place - before) * profile[after]


def spread(t: float, profile: Sequence[float] | None) -> float | list[float]:
    """Return t times the profile, as mergekit takes it; t alone where there is none."""
    return t if profile is None else [round(t * factor, 12) for factor in profile]


def check_profile(profile: Sequence[float] | None, method: str) -> None:
    """Raise ``ValueError`` unless a profile is one, and the method can have one."""
    if profile is None:
        return
    if method not in ("linear", "slerp"):
        raise ValueError(f"a depth profile is for linear and slerp, not for {method}")
    if len(profile) < 2 or not all(0 <= factor <= 1 for factor in profile):
        raise ValueError(f"a depth profile has two or more factors in [0, 1], got {list(profile)}")


def in_words(merge: Mapping[str, Any]) -> str:
    """Return what a sentence about a merge's t has to add: nothing where t is the same everywhere."""
    profile = merge.get("depth_profile")
    return (
        f", times {', '.join(f'{factor:g}' for factor in profile)} from the first block to the last" if profile else ""
    )
