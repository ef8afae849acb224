"""The parts of a decoder that the architectures name differently."""

from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    import torch

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
