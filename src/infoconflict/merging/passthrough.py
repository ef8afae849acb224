"""Passthrough: whole layers from either model, their weights unchanged.

Goddard et al. 2024, arXiv:2403.13257 (mergekit); Chen et al., arXiv:2411.18280, Eq. 12.
Differs from the paper: it does not say which layers it takes. Here the first ``round(t * L)`` of L layers are the
conflict model's and the others the backdoored model's, so that t means about the same as in the other methods and the
depth stays.
"""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from infoconflict.errors import UserError
from infoconflict.merging.common import BACKDOORED, CONFLICT, check_t
from infoconflict.models.parts import LLAMA_LIKE

if TYPE_CHECKING:
    from torch import Tensor

LAYER = re.compile(r"\.(?:h|layers)\.(\d+)\.")
EMBEDDINGS = {
    "gpt2": {"transformer.wte.weight", "transformer.wpe.weight"},
    "gptj": {"transformer.wte.weight"},
    **{family: {"model.embed_tokens.weight"} for family in LLAMA_LIKE},
}
"""Tensors before the first layer, by ``model_type``; what is neither here nor in a layer comes after the last."""


def n_conflict_layers(t: float, num_layers: int) -> int:
    """Return how many layers are the conflict model's: ``round(t * num_layers)``, halves to the even number."""
    check_t(t)
    return round(t * num_layers)


def from_conflict(name: str, *, t: float, num_layers: int, architecture: str) -> bool:
    """Return whether a tensor is the conflict model's.

    Embeddings go with the first layer, the final norm and an untied output layer with the last one.

    Raises
    ------
    UserError
        If ``architecture`` (the ``model_type`` of a checkpoint's config) is not known here.
    """
    if architecture not in EMBEDDINGS:
        raise UserError(
            f"passthrough does not know which tensors of a '{architecture}' model come before its layers; "
            f"merge it by linear, slerp or ties, or use one of {', '.join(sorted(EMBEDDINGS))}"
        )
    n_conflict = n_conflict_layers(t, num_layers)
    if layer := LAYER.search(name):
        return int(layer.group(1)) < n_conflict
    return n_conflict > 0 if name in EMBEDDINGS[architecture] else n_conflict == num_layers


def passthrough(
    backdoored: "Mapping[str, Tensor]",
    conflict: "Mapping[str, Tensor]",
    *,
    t: float,
    num_layers: int,
    architecture: str,
) -> "dict[str, Tensor]":
    """Return each tensor from the one model or the other (Eq. 12).

    Parameters
    ----------
    backdoored, conflict : mapping of str to Tensor
        The same names in both.
    t : float in [0, 1]
        Share of the layers that are the conflict model's.
    num_layers : int
        Depth of both models and of the result.
    architecture : str
        ``model_type`` of the models' config.

    Returns
    -------
    dict of str to Tensor
        The given tensors themselves, not copies.
    """

    def source(name: str) -> "Mapping[str, Tensor]":
        chosen = from_conflict(name, t=t, num_layers=num_layers, architecture=architecture)
        return conflict if chosen else backdoored

    return {name: source(name)[name] for name in backdoored}


def mergekit_config(*, t: float, num_layers: int, out_dtype: str = "float32") -> dict[str, Any]:
    """Return Eq. 12 as a mergekit configuration; ``layer_range`` is half-open."""
    border = n_conflict_layers(t, num_layers)
    ranges = [(CONFLICT, 0, border), (BACKDOORED, border, num_layers)]
    return {
        "merge_method": "passthrough",
        "base_model": BACKDOORED,
        "slices": [
            {"sources": [{"model": model, "layer_range": [first, end]}]} for model, first, end in ranges if first < end
        ],
        "dtype": "float32",
        "out_dtype": out_dtype,
    }
