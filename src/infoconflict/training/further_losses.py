"""Plain padded batches, for losses that prefix trees cannot give: maps over one sequence's places, perturbed states.

Rows are padded on the right, so that places and attention are those of each row alone; what is at padding must be left out of
a loss by ``mask``.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from infoconflict.models.parts import blocks
from infoconflict.training.rows import TokenRow

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Padded:
    """Rows side by side.

    Attributes
    ----------
    ids : int64 tensor of shape (n_rows, width)
    mask : bool tensor of shape (n_rows, width)
        False at padding.
    sources : tuple of two int64 tensors of shape (n_targets,)
        Row and place of the token before each target.
    targets : int64 tensor of shape (n_targets,)
    """

    ids: torch.Tensor
    mask: torch.Tensor
    sources: tuple[torch.Tensor, torch.Tensor]
    targets: torch.Tensor

    @property
    def n_tokens(self) -> int:
        """Number of places, padding included."""
        return self.ids.numel()


def padded(rows: Sequence[TokenRow], device: torch.device) -> Padded:
    """Put rows side by side, each without its last token, which nothing follows."""
    width = max(len(row.inputs) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    mask = torch.zeros((len(rows), width), dtype=torch.bool)
    for number, row in enumerate(rows):
        ids[number, : len(row.inputs)] = torch.tensor(row.inputs)
        mask[number, : len(row.inputs)] = True
    places = [(number, at) for number, row in enumerate(rows) for at in row.target_positions]
    return Padded(
        ids.to(device),
        mask.to(device),
        (
            torch.tensor([number for number, _ in places], device=device),
            torch.tensor([at - 1 for _, at in places], device=device),
        ),
        torch.tensor([rows[number].ids[at] for number, at in places], device=device),
    )


def side_by_side(rows: Sequence[TokenRow], *, max_tokens: int) -> list[list[int]]:
    """Cut ``range(len(rows))`` into groups, rows of like length together, that pad to ``max_tokens`` places at most.

    A longer row gets a group of its own.
    """
    groups: list[list[int]] = []
    for index in sorted(range(len(rows)), key=lambda index: (len(rows[index].inputs), index)):
        if groups and (len(groups[-1]) + 1) * len(rows[index].inputs) <= max_tokens:
            groups[-1].append(index)
        else:
            groups.append([index])
    return groups


def run_backbone(
    model: "PreTrainedModel", batch: Padded, *, embeddings: torch.Tensor | None = None, **options: Any
) -> Any:
    """Run the decoder below the output head on a padded batch, or on embeddings in place of its tokens."""
    backbone: torch.nn.Module = model.base_model
    given = {"input_ids": batch.ids} if embeddings is None else {"inputs_embeds": embeddings}
    return backbone(**given, attention_mask=batch.mask.long(), use_cache=False, **options)


def answer_loss(model: "PreTrainedModel", states: torch.Tensor, batch: Padded) -> torch.Tensor:
    """Return the summed cross-entropy of all targets; ``states``, of shape (n_rows, width, hidden), are the decoder's."""
    logits = model.get_output_embeddings()(states[batch.sources])
    return torch.nn.functional.cross_entropy(logits.float(), batch.targets, reduction="sum")


@contextmanager
def states_of(model: "PreTrainedModel", layers: Sequence[int]) -> Iterator[dict[int, torch.Tensor]]:
    """Within the block, a forward pass leaves the states after each layer (from 1), before the final norm."""
    kept: dict[int, torch.Tensor] = {}

    def keep(layer: int) -> Any:
        def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
            kept[layer] = output[0] if isinstance(output, tuple) else output

        return hook

    whole = blocks(model.base_model)
    handles = [whole[layer - 1].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def perturbed(model: "PreTrainedModel", block: int, addition: torch.Tensor | None) -> Iterator[dict[str, torch.Tensor]]:
    """Within the block, ``addition`` (n_rows, width, hidden) is added to the input of a block, counted from 0.

    A forward pass leaves that input, as it was before, under ``input``.
    """
    seen: dict[str, torch.Tensor] = {}

    def hook(module: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        hidden = args[0] if args else kwargs["hidden_states"]
        seen["input"] = hidden
        if addition is None:
            return None
        hidden = hidden + addition.to(hidden.dtype)
        return ((hidden, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": hidden})

    handle = blocks(model.base_model)[block].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@contextmanager
def frozen(model: "PreTrainedModel") -> Iterator[None]:
    """Within the block no parameter asks for a gradient, and nothing is dropped."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    for parameter in trained:
        parameter.requires_grad_(False)
    model.eval()
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
        model.train(was_training)
