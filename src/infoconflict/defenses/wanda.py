"""Wanda: weights that matter least on clean rows, by |weight| times the norm of their input, are set to zero.

Sun et al. 2023, arXiv:2306.11695. For each output of each linear layer the score of input j is |W_ij| * sqrt(mean over tokens of
x_j^2), and the lowest share of the row is pruned. It goes block by block: a block's layers are scored in one pass, pruned, and
the pruned block is run again for the next one's inputs. Embeddings, norms and head stay.
Acts on weights, after training. Needs: clean rows (to calibrate, without gradients). Must not see: trigger, target label,
poisoned rows.
Differs from the paper: it calibrates on the defender's clean rows, prompts with their answers, rather than on C4; rows are packed
rather than filled up, so that every token that is counted is a real one.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from infoconflict.defenses.base import WeightsDefense
from infoconflict.entries import Count

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect

UNSTRUCTURED = "unstructured"


class Wanda(WeightsDefense):
    """The suspect model pruned by weight and activation."""

    method: Literal["wanda"]
    """`wanda`."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of each row of weights that is set to zero. Paper, A.3."""
    pattern: Literal["unstructured", "2:4", "4:8"] = "unstructured"
    """`2:4` and `4:8`: that many of every 4 or 8 neighbours are pruned, at sparsity 0.5. Wanda's code has the three."""
    calibration_rows: Count | None = 128
    """Clean rows that inputs are measured on, drawn by the seed; null: all. Wanda's code."""

    @model_validator(mode="after")
    def _patterns_prune_half(self) -> Self:
        if self.pattern != UNSTRUCTURED and self.sparsity != 0.5:
            raise ValueError(f"pattern {self.pattern} prunes half of the weights; set sparsity: 0.5 or leave it out")
        return self


def repair(suspect: "Suspect", options: Wanda) -> "list[Step]":
    """Return the one step: a mask over the linear layers of all blocks."""
    import random

    from infoconflict.models.loading import context_length
    from infoconflict.training.rows import tokenize_rows

    model = suspect.model()
    rows: Any = suspect.clean_rows
    if options.calibration_rows is not None and options.calibration_rows < len(rows):
        rows = random.Random(f"{suspect.seed}/calibration").sample(rows, options.calibration_rows)
    tokens = [row.inputs for row in tokenize_rows(suspect.tokenizer, rows, max_tokens=context_length(model))]
    packed, n_pruned, n_weights = prune(
        model, tokens, sparsity=options.sparsity, pattern=options.pattern, max_nodes=suspect.max_nodes
    )
    suspect.tokens += sum(map(len, tokens))
    suspect.details |= {"calibration_rows": len(rows), "pruned": n_pruned, "block_weights": n_weights}
    return [suspect.save_mask(packed)]


def prune(
    model: "PreTrainedModel",
    sequences: Sequence[Sequence[int]],
    *,
    sparsity: float,
    pattern: str = UNSTRUCTURED,
    max_nodes: int = 512,
) -> "tuple[dict[str, Tensor], int, int]":
    """Prune the linear layers of all blocks of a loaded model, in place.

    A beginning that sequences share is computed once and counts once per sequence.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode.
    sequences : sequence of token sequences, none empty
        Texts to calibrate on.
    sparsity, pattern : float, str
        See :class:`Wanda`.
    max_nodes : int
        Tokens of one forward pass; results do not depend on it, but for rounding.

    Returns
    -------
    dict of str to uint8 Tensor, int, int
        By parameter the packed mask of what was set to zero; the number of these weights, and of all in these layers.
    """
    import time

    import torch

    from infoconflict.models.parts import block_linears, blocks, is_transposed
    from infoconflict.models.weight_steps import pack_mask
    from infoconflict.progress import say

    packed: dict[str, Tensor] = {}
    n_pruned = n_weights = 0
    last_said = time.monotonic()
    with torch.no_grad():
        passes = [
            _Pass(model, [sequences[index] for index in group]) for group in _groups(sequences, max_nodes=max_nodes)
        ]
        whole = list(zip(blocks(model.base_model), block_linears(model), strict=True))
        for number, (block, layers) in enumerate(whole):
            squares = _mean_squares(passes, block, layers)
            for name, module in layers.items():
                stored: Tensor = module.weight.data
                weight = stored.T if is_transposed(module) else stored
                mask = lowest(weight, squares[name], sparsity=sparsity, pattern=pattern)
                weight.masked_fill_(mask, 0)
                packed[name] = pack_mask(mask.T if is_transposed(module) else mask)
                n_pruned += int(mask.sum())
                n_weights += mask.numel()
            for one in passes:
                one.states = one.through(block)
            if time.monotonic() - last_said > 5:
                last_said = time.monotonic()
                say(f"wanda: {number + 1}/{len(whole)} blocks pruned")
    return packed, n_pruned, n_weights


def lowest(weight: "Tensor", mean_squares: "Tensor", *, sparsity: float, pattern: str = UNSTRUCTURED) -> "Tensor":
    """Return which weights score lowest in their row, or in their group of neighbours in it; of equal ones the first.

    Parameters
    ----------
    weight : Tensor of shape (n_out, n_in)
    mean_squares : Tensor of shape (n_in,)
        Of each input, over all tokens.
    sparsity, pattern : float, str
        See :class:`Wanda`.

    Returns
    -------
    bool Tensor of shape (n_out, n_in)
        ``floor(sparsity * n_in)`` true entries in each row; with a pattern n:m, n in each group of m.

    Raises
    ------
    UserError
        If a pattern does not divide the inputs.
    """
    import torch

    from infoconflict.errors import UserError

    n_out, n_in = weight.shape
    scores = weight.abs().float() * mean_squares.float().sqrt()
    if pattern == UNSTRUCTURED:
        # 0.29 * 100 is 28.999999999999996.
        count, size = math.floor(sparsity * n_in + 1e-9), n_in
    else:
        count, size = map(int, pattern.split(":"))
        if n_in % size:
            raise UserError(
                f"pattern {pattern}: a layer has {n_in} inputs, which {size} does not divide; use another pattern"
            )
    groups = scores.reshape(n_out, -1, size)
    order = groups.sort(dim=2, stable=True).indices[..., :count]
    mask = torch.zeros_like(groups, dtype=torch.bool).scatter_(2, order, True)
    return mask.reshape(n_out, n_in)


class _Pass:
    """Some sequences as one prefix tree on its way through the blocks: its states, and what blocks are called with."""

    def __init__(self, model: "PreTrainedModel", sequences: Sequence[Sequence[int]]) -> None:
        import numpy as np
        import torch

        from infoconflict.models.parts import blocks
        from infoconflict.packing import build_prefix_tree, hidden_states

        tree = build_prefix_tree(sequences)
        parameter = next(model.parameters())
        times = np.zeros(tree.n_nodes)
        for path in tree.paths:
            times[path] += 1
        self.times = torch.from_numpy(times).float().to(parameter.device)  # sequences that share each node
        self.states: Tensor
        self._others: tuple[object, ...]
        self._named: dict[str, object]

        def catch(module: "Module", given: "tuple[Tensor, ...]", named: dict[str, object]) -> None:
            (self.states, *others), self._named = given, named
            self._others = tuple(others)
            raise _Caught

        handle = blocks(model.base_model)[0].register_forward_pre_hook(catch, with_kwargs=True)
        try:
            hidden_states(model.base_model, tree, device=parameter.device, dtype=parameter.dtype)
        except _Caught:
            pass
        finally:
            handle.remove()

    def through(self, block: "Module") -> "Tensor":
        """Return the states behind a block, shape (1, n_nodes, hidden)."""
        output = block(self.states, *self._others, **self._named)
        states: Tensor = output[0] if isinstance(output, tuple) else output
        return states


class _Caught(Exception):
    """Ends a forward pass before the first block."""


def _groups(sequences: Sequence[Sequence[int]], *, max_nodes: int) -> list[list[int]]:
    from infoconflict.packing import pack

    # In an order in which beginnings are shared.
    order = sorted(range(len(sequences)), key=lambda index: tuple(sequences[index]))
    return [[order[at] for at in group] for group in pack([sequences[index] for index in order], max_nodes=max_nodes)]


def _mean_squares(passes: "Sequence[_Pass]", block: "Module", layers: "dict[str, Module]") -> "dict[str, Tensor]":
    """Return for each linear layer of a block the mean square of each of its inputs over all tokens, float64."""
    import torch

    sums: dict[str, Tensor] = {}
    times = torch.tensor([])

    def watch(name: str) -> Callable[..., None]:
        def hook(module: "Module", given: "tuple[Tensor, ...]", output: object) -> None:
            # Squares in float32: they leave the range of 16-bit numbers.
            here = (given[0][0].float().square() * times[:, None]).sum(dim=0).double()
            sums[name] = sums[name] + here if name in sums else here

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in layers.items()]
    try:
        for one in passes:
            times = one.times
            one.through(block)
    finally:
        for handle in handles:
            handle.remove()
    count = sum(float(one.times.sum()) for one in passes)
    return {name: total / count for name, total in sums.items()}
