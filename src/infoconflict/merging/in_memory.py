"""Merged weights without files, for sweeps over t: only the tensors that a change touches are computed.

All other tensors are the base's in both models, and so in the merged one. The same weights come out of mergekit; tests
compare the two for all methods and architectures. TIES alone leaves a choice: where the border of its trimming falls on
equal magnitudes, mergekit may keep others of them (15 of 106 million entries, SmolLM2-135M with two random adapters).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from infoconflict.errors import did_you_mean
from infoconflict.merging import METHODS
from infoconflict.merging.common import check_t
from infoconflict.merging.depth import check_profile, factor_at
from infoconflict.merging.linear import linear
from infoconflict.merging.passthrough import passthrough
from infoconflict.merging.slerp import cosine, slerp
from infoconflict.merging.ties import check_ties, ties, top_share
from infoconflict.models.changes import changed_tensors as changed_tensors

if TYPE_CHECKING:
    from torch import Tensor

    Tensors = Mapping[str, Tensor]
    AtT = Callable[[float], dict[str, Tensor]]


def prepare_merge(
    base: "Tensors",
    backdoored: "Tensors",
    conflict: "Tensors",
    *,
    method: str,
    density: float = 0.5,
    lam: float = 1.0,
    depth_profile: "Sequence[float] | None" = None,
    num_layers: int,
    architecture: str,
) -> "AtT":
    """Do once what does not depend on t, and return the function from t to the merged tensors.

    For SLERP that is each tensor's angle, for TIES the trimming, which is nine tenths of its work.

    Parameters
    ----------
    base : mapping of str to Tensor
        The base's tensors; at least the touched ones.
    backdoored, conflict : mapping of str to Tensor
        The tensors that the one and the other change touches (:func:`changed_tensors`); one that is touched in one
        model alone has the base's value in the other.
    method : {"linear", "slerp", "ties", "passthrough"}
        How to merge.
    density, lam : float
        Settings of TIES; the other methods do without them.
    depth_profile : sequence of float, optional
        How t changes with depth (:mod:`infoconflict.merging.depth`), for linear and SLERP.
    num_layers, architecture : int, str
        Depth and ``model_type`` of the models.

    Returns
    -------
    callable
        Maps t in [0, 1] to the merged float32 values of all touched tensors. They may be the given tensors themselves:
        copy them into a model, and do not change them in place.

    Raises
    ------
    ValueError
        If the method is unknown, a setting is out of range, or shapes differ.
    """
    if method not in METHODS:
        raise ValueError(
            f"unknown merge method '{method}'{did_you_mean(method, METHODS)}; available: {', '.join(METHODS)}"
        )
    check_ties(density, lam)
    check_profile(depth_profile, method)
    names = sorted({*backdoored, *conflict})
    if missing := [name for name in names if name not in base]:
        raise ValueError(f"the base lacks the changed tensor '{missing[0]}'")
    roots = {name: base[name].float() for name in names}
    suspects = {name: backdoored[name].float() if name in backdoored else roots[name] for name in names}
    remedies = {name: conflict[name].float() if name in conflict else roots[name] for name in names}
    for name in names:
        if not roots[name].shape == suspects[name].shape == remedies[name].shape:
            raise ValueError(f"the shapes of '{name}' differ between base, backdoored and conflict model")

    factors = {name: factor_at(depth_profile, name, num_layers) for name in names}
    if method == "linear":
        return lambda t: {name: linear(suspects[name], remedies[name], t=t * factors[name]) for name in names}
    if method == "slerp":
        cosines = {name: cosine(suspects[name], remedies[name]) for name in names}
        return lambda t: {
            name: slerp(suspects[name], remedies[name], t=t * factors[name], cos=cosines[name]) for name in names
        }
    if method == "passthrough":
        return lambda t: passthrough(suspects, remedies, t=t, num_layers=num_layers, architecture=architecture)
    kept = {
        name: (
            top_share(suspects[name] - roots[name], density=density),
            top_share(remedies[name] - roots[name], density=density),
        )
        for name in names
    }
    return lambda t: {
        name: ties(roots[name], suspects[name], remedies[name], t=t, density=density, lam=lam, kept=kept[name])
        for name in names
    }


def merge_in_memory(
    base: "Tensors",
    backdoored: "Tensors",
    conflict: "Tensors",
    *,
    method: str,
    t: float,
    density: float = 0.5,
    lam: float = 1.0,
    depth_profile: "Sequence[float] | None" = None,
    num_layers: int,
    architecture: str,
) -> "dict[str, Tensor]":
    """Return the merged values of the touched tensors at one t; see :func:`prepare_merge`."""
    check_t(t)
    at = prepare_merge(
        base,
        backdoored,
        conflict,
        method=method,
        density=density,
        lam=lam,
        depth_profile=depth_profile,
        num_layers=num_layers,
        architecture=architecture,
    )
    return at(t)
