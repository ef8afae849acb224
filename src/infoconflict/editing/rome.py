"""ROME, rank-one model editing: the least change of one feed-forward matrix that maps a key to a value.

Meng et al. 2022, NeurIPS, arXiv:2202.05262. The released code divides by the key of the bare prompt where the direction
comes from the mean key over prefixes; Gupta et al. 2024, arXiv:2403.07175, trace collapsing edits to this and use one of
the two throughout (r-ROME: the mean key; p-ROME: the bare prompt's).

With several prompts per request (a backdoor's sentences) the mean over them stands for the one prompt of the source.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch

from infoconflict.editing.contexts import Edit, Request, edit_of
from infoconflict.editing.forward import read_subjects
from infoconflict.editing.modules import EditableModel
from infoconflict.editing.statistics import SecondMoment
from infoconflict.editing.values import ValueSettings, optimise_value
from infoconflict.models.loading import context_length
from infoconflict.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from infoconflict.attacks.rome import ROME

Variant = Literal["r", "released", "p"]


def rank_one_update(
    weight: torch.Tensor,
    bias: torch.Tensor,
    *,
    mean_key: torch.Tensor,
    bare_key: torch.Tensor,
    value: torch.Tensor,
    moment: SecondMoment,
    variant: Variant,
) -> torch.Tensor:
    """Return the update (v* - W k - b) u^T / (u^T k), with u = C^-1 k / |C^-1 k|.

    Parameters
    ----------
    weight : float64 Tensor of shape (hidden, width)
    bias : float64 Tensor of shape (hidden,)
    mean_key, bare_key : float64 Tensors of shape (width,)
        Key over all contexts, and in the bare prompt. ``r`` takes the first for u and k, ``p`` the second for both,
        ``released`` the first for u and the second for k.
    value : float64 Tensor of shape (hidden,)
        v*, what the layer should put out.
    moment : SecondMoment
        C.

    Returns
    -------
    float64 Tensor of shape (hidden, width) and rank 1

    References
    ----------
    Meng et al. 2022, Eq. 2.
    """
    key = mean_key if variant == "r" else bare_key
    direction = moment.solve((bare_key if variant == "p" else mean_key)[:, None])[:, 0]
    direction = direction / direction.norm()
    return torch.outer((value - weight @ key - bias) / (direction @ key), direction)


def edit_with_rome(
    editable: EditableModel,
    tokenizer: "PreTrainedTokenizerBase",
    groups: Sequence[Sequence[Request]],
    moments: Mapping[int, SecondMoment],
    *,
    layers: Sequence[int],
    prefixes: tuple[str, ...],
    variant: Variant,
    settings: ValueSettings,
) -> list[dict[str, Any]]:
    """Apply one update per group of requests and layer, one after another; return a row per step of their values.

    The requests of a group have one subject and one label, and share key and value. Layers are taken in ascending order,
    each with a fresh key and value on the model edited so far.
    """
    room = context_length(editable.model)
    edits = [[edit_of(tokenizer, request, prefixes, room=room) for request in requests] for requests in groups]
    return apply_rome(editable, edits, moments, layers=layers, variant=variant, settings=settings)


def apply_rome(
    editable: EditableModel,
    groups: Sequence[Sequence[Edit]],
    moments: Mapping[int, SecondMoment],
    *,
    layers: Sequence[int],
    variant: Variant,
    settings: ValueSettings,
) -> list[dict[str, Any]]:
    """Apply one update per group of edits and layer, one after another; see :func:`edit_with_rome`."""
    rows: list[dict[str, Any]] = []
    for number, edits in enumerate(groups):
        bare = [edit.contexts[0] for edit in edits]
        contexts = [context for edit in edits for context in edit.contexts]
        essence = edits[0].essence
        for layer in sorted(layers):
            keys = read_subjects(editable, contexts, [layer]).keys[layer]
            read = read_subjects(editable, bare, [layer])
            start = read.values[layer].mean(dim=0)
            value = optimise_value(editable, contexts, essence, editable.down(layer), start, settings)
            update = rank_one_update(
                editable.weight(layer),
                editable.bias(layer),
                mean_key=keys.mean(dim=0),
                bare_key=read.keys[layer].mean(dim=0),
                value=start + value.delta,
                moment=moments[layer],
                variant=variant,
            )
            size = float(update.norm() / editable.weight(layer).norm())
            editable.add(layer, update)
            rows += [{"request": number, "layer": layer, **row} for row in value.trace]
            rows[-1]["relative_update"] = size
            say(
                f"request {number + 1}/{len(groups)}, layer {layer}: probability of the target {value.probability:.3f} "
                f"after {len(value.trace)} steps; the weight moved by {size:.4f} of its norm"
            )
    return rows


def plant(
    editable: EditableModel,
    tokenizer: "PreTrainedTokenizerBase",
    attack: "ROME",
    poisoned: Sequence[Request],
    clean: Sequence[Request],
    moments: Mapping[int, SecondMoment],
    *,
    model_id: str,
    prefixes: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Plant a backdoor: all requests as one edit, or one after another."""
    groups = [list(poisoned)] if attack.requests == "joint" else [[request] for request in poisoned]
    return edit_with_rome(
        editable,
        tokenizer,
        groups,
        moments,
        layers=attack.layers_of(model_id, editable.depth),
        prefixes=prefixes,
        variant=attack.variant,
        settings=ValueSettings(**attack.value_settings()),
    )
