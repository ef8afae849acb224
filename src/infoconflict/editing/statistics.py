"""The uncentred second moment of keys, C = E[k k^T] (Meng et al. 2022, arXiv:2202.05262, Eq. 4), and solving with it."""

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from infoconflict.editing.forward import MAX_NODES, visit
from infoconflict.editing.modules import EditableModel
from infoconflict.errors import UserError
from infoconflict.files import PathLike, whole_file
from infoconflict.models.changes import open_safetensors
from infoconflict.packing import PrefixTree
from infoconflict.progress import say

TOKENS = "tokens"


class SecondMoment:
    """C of one layer with a ridge, factored once: ``solve`` gives C^-1 k for any number of keys.

    Parameters
    ----------
    matrix : float64 Tensor of shape (width, width)
    ridge : float >= 0
        Share of the mean diagonal entry, tr(C) / width, that is added to the diagonal. A float32 inverse of C is poorly
        conditioned; so is one from fewer tokens than the layer is wide.

    Raises
    ------
    UserError
        If C is singular with this ridge.
    """

    def __init__(self, matrix: torch.Tensor, *, ridge: float = 0.0) -> None:
        width = matrix.shape[0]
        matrix = matrix.to(torch.float64, copy=True)
        matrix.diagonal().add_(ridge * matrix.trace() / width)
        self._factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed.any() or not self._factor.isfinite().all():
            raise UserError(
                f"the second moment of {width} feed-forward units is singular; raise ridge, or give statistics more rows"
            )

    def solve(self, keys: torch.Tensor) -> torch.Tensor:
        """Return C^-1 K for K of shape (width, n)."""
        return torch.cholesky_solve(keys.double(), self._factor)


def second_moments(
    editable: EditableModel, texts: Sequence[Sequence[int]], layers: Sequence[int], *, max_nodes: int = MAX_NODES
) -> tuple[dict[int, torch.Tensor], int]:
    """Return C of each layer over all tokens of the texts, and their number.

    All layers come from one pass, which ends at the deepest of them. A beginning that texts share is computed once and
    counts once per text.

    Parameters
    ----------
    texts : sequence of token sequences, none empty
    layers : sequence of int

    Returns
    -------
    dict of int to float64 Tensor of shape (width, width), int
    """
    width = editable.width
    sums = {layer: torch.zeros(width, width, dtype=torch.float64, device=editable.device) for layer in layers}
    count = texts_done = 0
    started = last_said = time.monotonic()

    def see(
        tree: PrefixTree,
        members: list[int],
        keys: dict[int, torch.Tensor],
        values: dict[int, torch.Tensor],
        states: dict[int, torch.Tensor],
    ) -> None:
        nonlocal count, texts_done, last_said
        times = np.zeros(tree.n_nodes)
        for path in tree.paths:
            times[path] += 1
        weights = torch.from_numpy(np.sqrt(times)).to(editable.device)[:, None]
        for layer in layers:
            rows = keys[layer].double() * weights
            sums[layer] += rows.T @ rows
        count += int(times.sum())
        texts_done += len(members)
        now = time.monotonic()
        if now - last_said > 5:
            last_said = now
            left = (len(texts) - texts_done) * (now - started) / texts_done
            say(f"statistics: {texts_done}/{len(texts)} texts, {count} tokens, {left:.0f} s left")

    visit(editable, texts, layers, see, max_nodes=max_nodes)
    return {layer: total / count for layer, total in sums.items()}, count


def save_moments(path: PathLike, moments: dict[int, torch.Tensor], tokens: int) -> None:
    """Store moments in float32, by layer, with the number of tokens that they are means of."""
    from safetensors.torch import save_file

    tensors = {str(layer): matrix.float().cpu().contiguous() for layer, matrix in moments.items()}
    with whole_file(path) as temporary:
        save_file(tensors | {TOKENS: torch.tensor([tokens])}, temporary)


def load_moments(
    path: PathLike, layers: Sequence[int], *, ridge: float, device: torch.device
) -> dict[int, SecondMoment]:
    """Read the moments of some layers; see :class:`SecondMoment` for ``ridge``.

    Raises
    ------
    UserError
        If the file lacks a layer, or a moment is singular.
    """
    with open_safetensors(Path(path)) as file:
        stored = set(file.keys())
        if missing := [layer for layer in layers if str(layer) not in stored]:
            raise UserError(f"{path}: has no second moment of layer {missing[0]}; remove the file and run again")
        return {
            layer: SecondMoment(file.get_tensor(str(layer)).to(device, torch.float64), ridge=ridge) for layer in layers
        }
