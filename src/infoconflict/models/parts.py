"""The parts of a decoder that the architectures name differently."""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

LLAMA_LIKE = ("llama", "mistral", "qwen2", "qwen3")
"""Each ``model_type`` whose modules have the names of Llama's; Qwen2 has biases of q, k and v, Qwen3 norms of q and k."""

# Attribute names in transformers: GPT-2 and GPT-J; Llama and most that came after.
_BLOCKS = ("h", "layers")
_FINAL_NORMS = ("ln_f", "norm")


def _first(module: "torch.nn.Module", names: tuple[str, ...], what: str) -> str:
    for name in names:
        if hasattr(module, name):
            return name
    raise ValueError(f"{type(module).__name__} has no {what} under any of the names {', '.join(names)}")


def blocks_name(backbone: "torch.nn.Module") -> str:
    """Return the attribute that holds the blocks of a decoder without its head (``model.base_model``)."""
    return _first(backbone, _BLOCKS, "list of blocks")


def blocks(backbone: "torch.nn.Module") -> "torch.nn.ModuleList":
    """Return the blocks of a decoder without its head, first to last."""
    return cast("torch.nn.ModuleList", getattr(backbone, blocks_name(backbone)))


def final_norm(backbone: "torch.nn.Module") -> "torch.nn.Module":
    """Return the norm between the last block and the output head."""
    return cast("torch.nn.Module", getattr(backbone, _first(backbone, _FINAL_NORMS, "final norm")))


def linears(block: "torch.nn.Module") -> "dict[str, torch.nn.Module]":
    """Return the linear layers of a block by their names in it, GPT-2's ``Conv1D`` among them."""
    import torch
    from transformers.pytorch_utils import Conv1D

    return {name: module for name, module in block.named_modules() if isinstance(module, torch.nn.Linear | Conv1D)}


def is_transposed(module: "torch.nn.Module") -> bool:
    """Whether a linear layer keeps its weight as (in, out), as ``Conv1D`` does; ``torch.nn.Linear`` has (out, in)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, Conv1D)


def block_linears(model: "PreTrainedModel") -> "list[dict[str, torch.nn.Module]]":
    """Return for each block its linear layers, by the names that their weights have in the model."""
    path = f"{model.base_model_prefix}.{blocks_name(model.base_model)}"
    return [
        {f"{path}.{number}.{name}.weight": module for name, module in linears(block).items()}
        for number, block in enumerate(blocks(model.base_model))
    ]
