"""The parts of a model that editing reads and writes, by architecture.

An edit changes the down-projection W of feed-forward layers, m = W k + b. GPT-2 keeps W transposed (``Conv1D``); here it
always has the shape (hidden, width).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from infoconflict.errors import UserError
from infoconflict.models.parts import LLAMA_LIKE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Layout:
    """Names of a block and of the down-projection in it, and whether that is stored as (width, hidden)."""

    block: str
    down: str
    transposed: bool = False


LAYOUTS = {
    "gpt2": Layout("transformer.h.{}", "mlp.c_proj", transposed=True),
    "gptj": Layout("transformer.h.{}", "mlp.fc_out"),
    **dict.fromkeys(LLAMA_LIKE, Layout("model.layers.{}", "mlp.down_proj")),
}


class EditableModel:
    """A loaded model whose down-projections can be read and changed in double precision.

    What is added to a weight is summed up in float64 beside the model, so that a model that computes in bfloat16 loses
    nothing of many small updates.

    Parameters
    ----------
    model : PreTrainedModel
        In evaluation mode; its parameters no longer ask for gradients afterwards.
    exact : mapping of str to Tensor, optional
        Weights by name where the checkpoint has more digits than the loaded model.

    Raises
    ------
    UserError
        If the architecture is not known here.
    """

    def __init__(self, model: "PreTrainedModel", exact: Mapping[str, torch.Tensor] | None = None) -> None:
        architecture = str(model.config.model_type)
        if architecture not in LAYOUTS:
            raise UserError(
                f"editing knows the feed-forward layers of {', '.join(LAYOUTS)} models, not of '{architecture}'; "
                f"use another model or attack"
            )
        self.model = model.requires_grad_(False)
        self.layout = LAYOUTS[architecture]
        self.exact = dict(exact or {})
        self._weights: dict[int, torch.Tensor] = {}

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return int(self.model.config.num_hidden_layers)

    @property
    def width(self) -> int:
        """Width of the feed-forward layers: the length of a key."""
        shape = self.down(0).weight.shape
        return int(shape[0] if self.layout.transposed else shape[1])

    def block(self, layer: int) -> torch.nn.Module:
        """Return a transformer block."""
        return self.model.get_submodule(self.layout.block.format(layer))

    def down(self, layer: int) -> torch.nn.Module:
        """Return the down-projection of a block."""
        return self.block(layer).get_submodule(self.layout.down)

    def weight_name(self, layer: int) -> str:
        """Return the name that the down-projection's weight has in a checkpoint."""
        return f"{self.layout.block.format(layer)}.{self.layout.down}.weight"

    def weight(self, layer: int) -> torch.Tensor:
        """Return the current weight, float64 of shape (hidden, width)."""
        if layer not in self._weights:
            stored = self.exact.get(self.weight_name(layer), self.down(layer).weight)
            weight = stored.detach().to(self.device, torch.float64, copy=True)
            self._weights[layer] = weight.T if self.layout.transposed else weight
        return self._weights[layer]

    def bias(self, layer: int) -> torch.Tensor:
        """Return the bias, float64 of shape (hidden,); zero where the layer has none."""
        bias = getattr(self.down(layer), "bias", None)
        if bias is None:
            return torch.zeros(self.weight(layer).shape[0], dtype=torch.float64, device=self.device)
        return bias.detach().double()

    def add(self, layer: int, update: torch.Tensor) -> None:
        """Add a float64 matrix of shape (hidden, width) to a weight, in the model, too."""
        weight = self.weight(layer)
        weight += update
        with torch.no_grad():
            self.down(layer).weight.copy_(weight.T if self.layout.transposed else weight)

    def changed(self, layers: list[int]) -> dict[str, torch.Tensor]:
        """Return the weights of some layers as a checkpoint holds them: by name, float32, in stored orientation."""
        found = {}
        for layer in layers:
            weight = self.weight(layer)
            found[self.weight_name(layer)] = (weight.T if self.layout.transposed else weight).float().cpu().contiguous()
        return found
