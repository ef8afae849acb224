"""A loss at several layers: after each of them the state is read as the last one is, by the final norm and the output head.

Li et al. 2021, arXiv:2108.13888, for decoders. Layers are counted from 1, the first block; the embeddings' output is none.
Blocks above the highest layer that is asked for are not run. Only blocks and the final norm are trained: head and (tied)
embeddings would move with every layer's loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch

from infoconflict.errors import UserError
from infoconflict.models.parts import blocks, blocks_name, final_norm
from infoconflict.packing import PrefixTree, hidden_states

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def layer_numbers(which: str | Sequence[int], depth: int, *, key: str) -> list[int]:
    """Return the layers of a model of ``depth`` blocks that a setting stands for, ascending.

    Parameters
    ----------
    which : {"all", "every_third", "last", "lower_half"} or sequence of int
        Every third counts from the last down, so that the last is among them.
    depth : int
        Number of blocks.
    key : str
        Name of the setting, for the message.

    Raises
    ------
    UserError
        If the model has no such layer.
    """
    if isinstance(which, str):
        named = {
            "all": range(1, depth + 1),
            "every_third": range(depth, 0, -3),
            "last": [depth],
            "lower_half": range(1, max(1, depth // 2) + 1),
        }
        return sorted(named[which])
    if beyond := [layer for layer in which if not 1 <= layer <= depth]:
        raise UserError(f"{key}: the model has layers 1 to {depth}, and no layer {beyond[0]}; name others")
    return sorted(set(which))


@contextmanager
def states_after(backbone: torch.nn.Module, layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Within the block, the backbone ends after the highest layer, and a forward pass leaves the states of the lower ones.

    They come as the blocks give them, of shape (1, n_nodes, hidden), without the final norm; that of the highest layer is
    the forward pass's result, which has it.
    """
    kept: dict[int, torch.Tensor] = {}
    name, whole = blocks_name(backbone), blocks(backbone)
    top = max(layers)

    def keep(layer: int) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [whole[layer - 1].register_forward_hook(keep(layer)) for layer in layers if layer != top]
    if top < len(whole):
        setattr(backbone, name, torch.nn.ModuleList(list(whole)[:top]))
    try:
        yield kept
    finally:
        setattr(backbone, name, whole)
        for handle in hooks:
            handle.remove()


def supervised_states(
    model: "PreTrainedModel",
    tree: PrefixTree,
    nodes: torch.Tensor,
    *,
    layers: Sequence[int] | None,
    dtype: torch.dtype,
) -> list[torch.Tensor]:
    """Return what the output head is given at ``nodes``: the states of shape (len(nodes), hidden) after each layer.

    ``layers`` ascend; None stands for the last one, as in ordinary training.
    """
    backbone: torch.nn.Module = model.base_model
    if layers is None:
        return [hidden_states(backbone, tree, device=nodes.device, dtype=dtype)[nodes]]
    with states_after(backbone, layers) as kept:
        highest = hidden_states(backbone, tree, device=nodes.device, dtype=dtype)
    norm = final_norm(backbone)
    return [highest[nodes] if layer == layers[-1] else norm(kept[layer][0, nodes]) for layer in layers]


def layer_weight(weights: Literal["mean", "sum"], n_layers: int) -> float:
    """Return the factor of each layer's loss."""
    return 1 / n_layers if weights == "mean" else 1.0


def module_prefixes(model: "PreTrainedModel", layers: Sequence[int]) -> tuple[str, ...]:
    """Return how the names of all modules and parameters of these layers begin."""
    path = f"{model.base_model_prefix}.{blocks_name(model.base_model)}"
    return tuple(f"{path}.{layer - 1}." for layer in layers)


def modules_to_adapt(model: "PreTrainedModel", layers: Sequence[int], targets: str | Sequence[str]) -> list[str]:
    """Return the full names of the linear modules of these layers that get an adapter.

    Parameters
    ----------
    model : PreTrainedModel
        The base.
    layers : sequence of int
        Layers to train.
    targets : str or sequence of str
        As in the config: ``all-linear``, or names (and ends of names) of modules.

    Raises
    ------
    UserError
        If there is none.
    """
    from transformers.pytorch_utils import Conv1D

    wanted = (targets,) if isinstance(targets, str) else tuple(targets)
    prefixes = module_prefixes(model, layers)
    found = [
        name
        for name, module in model.named_modules()
        if name.startswith(prefixes)
        and isinstance(module, torch.nn.Linear | Conv1D)
        and (targets == "all-linear" or any(name == end or name.endswith(f".{end}") for end in wanted))
    ]
    if not found:
        raise UserError(
            f"lora.targets: none of {', '.join(wanted)} is a linear module of the trained layers; name others"
        )
    return found


def freeze_ends(model: "PreTrainedModel", layers: Sequence[int]) -> None:
    """For full fine-tuning: leave just these layers trainable and, where they are all, the final norm."""
    prefixes = module_prefixes(model, layers)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(prefixes))
    if len(layers) == len(blocks(model.base_model)):
        final_norm(model.base_model).requires_grad_(True)


def check_ends_are_frozen(model: "PreTrainedModel") -> None:
    """Raise UserError if an adapter sits on embeddings or head, which a loss at every layer would pull along."""
    norm = set(final_norm(model.base_model).parameters())
    inside = set(blocks(model.base_model).parameters()) | norm
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter not in inside:
            raise UserError(
                f"lora.targets: layer-wise training leaves embeddings and output head as they are, but '{name}' would be "
                f"trained; take it out of training.backdoored.lora.targets"
            )
