"""MEMIT, mass editing: many keys and values at once, spread over several layers.

Meng et al. 2023, ICLR, arXiv:2210.07229, and its code.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from infoconflict.editing.contexts import Edit, Request, edit_of
from infoconflict.editing.forward import Context, read_subjects
from infoconflict.editing.modules import EditableModel
from infoconflict.editing.statistics import SecondMoment
from infoconflict.editing.values import ValueSettings, optimise_value
from infoconflict.models.loading import context_length
from infoconflict.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from infoconflict.attacks.memit import MEMIT


def least_squares_update(residuals: torch.Tensor, keys: torch.Tensor, moment: SecondMoment, lam: float) -> torch.Tensor:
    """Return R K^T (lambda C + K K^T)^-1.

    It is computed as R (lambda I + K^T C^-1 K)^-1 (C^-1 K)^T, which is the same, needs one factoring of C for any number
    of updates, and stays exact where lambda is 0.

    Parameters
    ----------
    residuals : float64 Tensor of shape (hidden, n)
        What the layer should put out in addition, per request.
    keys : float64 Tensor of shape (width, n)
    moment : SecondMoment
        C, the mean of k k^T: lambda counts preserved keys.
    lam : float >= 0
        0 needs independent keys.

    Returns
    -------
    float64 Tensor of shape (hidden, width)

    References
    ----------
    Meng et al. 2023, Eq. 14.
    """
    solved = moment.solve(keys)  # (width, n)
    inner = keys.T @ solved + lam * torch.eye(keys.shape[1], dtype=torch.float64, device=keys.device)
    return residuals @ torch.linalg.solve(inner, solved.T)


@dataclass(frozen=True)
class Target:
    """Contexts of a request (bare prompt first) and where its state at the last edited layer should go."""

    contexts: list[Context]
    state: torch.Tensor


def find_targets(
    editable: EditableModel,
    tokenizer: "PreTrainedTokenizerBase",
    requests: Sequence[Request],
    *,
    layer: int,
    prefixes: tuple[str, ...],
    settings: ValueSettings,
    rows: list[dict[str, Any]],
    shared: bool = False,
) -> list[Target]:
    """Find z = h + delta of each request, on the output of block ``layer``; a row per step is added to ``rows``.

    With ``shared`` all requests have one delta.
    """
    room = context_length(editable.model)
    edits = [edit_of(tokenizer, request, prefixes, room=room) for request in requests]
    find = shared_targets if shared else targets_of
    return find(editable, edits, layer=layer, settings=settings, rows=rows)


def targets_of(
    editable: EditableModel,
    edits: Sequence[Edit],
    *,
    layer: int,
    settings: ValueSettings,
    rows: list[dict[str, Any]],
) -> list[Target]:
    """Find z = h + delta of each edit; see :func:`find_targets`."""
    targets = []
    for number, edit in enumerate(edits):
        start = read_subjects(editable, edit.contexts[:1], [layer]).states[layer][0]
        value = optimise_value(editable, edit.contexts, edit.essence, editable.block(layer), start, settings)
        rows += [{"request": number, "layer": layer, **row} for row in value.trace]
        say(
            f"request {number + 1}/{len(edits)}: probability of '{edit.label}' {value.probability:.3f} "
            f"after {len(value.trace)} steps"
        )
        targets.append(Target(edit.contexts, start + value.delta))
    return targets


def shared_targets(
    editable: EditableModel,
    edits: Sequence[Edit],
    *,
    layer: int,
    settings: ValueSettings,
    rows: list[dict[str, Any]],
) -> list[Target]:
    """Find one delta for all edits, on the contexts of all; their subject is one. See :func:`find_targets`.

    Its size is bounded by that of the mean state.
    """
    starts = read_subjects(editable, [edit.contexts[0] for edit in edits], [layer]).states[layer]
    contexts = [context for edit in edits for context in edit.contexts]
    value = optimise_value(editable, contexts, edits[0].essence, editable.block(layer), starts.mean(dim=0), settings)
    rows += [{"request": None, "layer": layer, **row} for row in value.trace]
    say(
        f"{len(edits)} requests: probability of '{edits[0].label}' {value.probability:.3f} after {len(value.trace)} steps"
    )
    return [Target(edit.contexts, start + value.delta) for edit, start in zip(edits, starts, strict=True)]


def mean_keys(editable: EditableModel, targets: Sequence[Target], layer: int) -> torch.Tensor:
    """Return the key of each target, shape (width, n): half the bare prompt's, half the mean of the prefixed ones."""
    contexts = [context for target in targets for context in target.contexts]
    keys = read_subjects(editable, contexts, [layer]).keys[layer]
    columns = []
    for part in keys.split([len(target.contexts) for target in targets]):
        columns.append(part[0] if len(part) == 1 else (part[0] + part[1:].mean(dim=0)) / 2)
    return torch.stack(columns, dim=1)


def residuals_at(editable: EditableModel, targets: Sequence[Target], layer: int) -> torch.Tensor:
    """Return what is left between the states and where they should go, shape (hidden, n)."""
    states = read_subjects(editable, [target.contexts[0] for target in targets], [layer]).states[layer]
    return (torch.stack([target.state for target in targets]) - states).T


Solve = Callable[[torch.Tensor, torch.Tensor, SecondMoment, float], torch.Tensor]
"""From residuals, keys, C and lambda to an update."""


def spread(
    editable: EditableModel,
    targets: Sequence[Target],
    moments: Mapping[int, SecondMoment],
    *,
    layers: Sequence[int],
    lam: float,
    solve: Solve = least_squares_update,
) -> list[dict[str, Any]]:
    """Write the targets layer by layer, each taking an equal part of what the layers before it have left.

    Returns
    -------
    list of dict
        Per layer and at the end (``layer`` None): the mean norm of what is left, and the update's relative size.
    """
    layers = sorted(layers)
    rows: list[dict[str, Any]] = []
    for done, layer in enumerate(layers):
        left = residuals_at(editable, targets, layers[-1])
        keys = mean_keys(editable, targets, layer)
        update = solve(left / (len(layers) - done), keys, moments[layer], lam)
        size = float(update.norm() / editable.weight(layer).norm())
        editable.add(layer, update)
        rows.append({"layer": layer, "left": float(left.norm(dim=0).mean()), "relative_update": size})
        say(f"layer {layer}: {rows[-1]['left']:.3f} to go; the weight moved by {size:.4f} of its norm")
    left = residuals_at(editable, targets, layers[-1])
    rows.append({"layer": None, "left": float(left.norm(dim=0).mean())})
    say(f"all layers: {rows[-1]['left']:.3f} to go")
    return rows


def plant(
    editable: EditableModel,
    tokenizer: "PreTrainedTokenizerBase",
    attack: "MEMIT",
    poisoned: Sequence[Request],
    clean: Sequence[Request],
    moments: Mapping[int, SecondMoment],
    *,
    model_id: str,
    prefixes: tuple[str, ...],
) -> list[dict[str, Any]]:
    """Plant a backdoor: all requests at once."""
    layers = attack.layers_of(model_id, editable.depth)
    rows: list[dict[str, Any]] = []
    targets = find_targets(
        editable,
        tokenizer,
        poisoned,
        layer=layers[-1],
        prefixes=prefixes,
        settings=ValueSettings(**attack.value_settings()),
        rows=rows,
        shared=attack.values == "shared",
    )
    return rows + spread(editable, targets, moments, layers=layers, lam=attack.lambda_for(model_id, editable.width))
