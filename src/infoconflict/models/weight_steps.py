"""Steps of a repair that need few bytes: a mask, a rounding, and three that move weights back towards the base.

Random choices are recipes, a seed and a share, drawn from numpy's raw Philox stream, which is the same on every machine and in
every version. The base is read tensor by tensor.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.models.changes import Checkpoint, open_safetensors
from infoconflict.models.parts import block_linears, is_transposed

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, kw_only=True)
class Mask:
    """Weights that are set to zero, one bit for each weight of the masked tensors."""

    kind: ClassVar[str] = "mask"

    file: str
    """A safetensors file in the repair's folder: by parameter, what :func:`pack_mask` returns."""

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Set the masked weights to zero."""
        parameters = dict(model.named_parameters())
        with open_safetensors(folder / self.file) as stored, torch.no_grad():
            for name in stored.keys():  # noqa: SIM118 (not a mapping)
                packed = stored.get_tensor(name)
                if name not in parameters or len(packed) != -(-parameters[name].numel() // 8):
                    raise UserError(f"{folder / self.file}: masks '{name}' of another model; repair the model again")
                parameter = parameters[name]
                parameter.masked_fill_(unpack_mask(packed, parameter.shape).to(parameter.device), 0)


@dataclass(frozen=True, kw_only=True)
class Round:
    """All linear layers of the blocks rounded to few bits (:func:`rounded`); embeddings, norms and head stay."""

    kind: ClassVar[str] = "round"

    bits: int
    group: int

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Round the weights."""
        with torch.no_grad():
            for layers in block_linears(model):
                for module in layers.values():
                    weight: torch.Tensor = module.weight.T if is_transposed(module) else module.weight
                    weight.copy_(rounded(weight, bits=self.bits, group=self.group))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The task vector (suspect minus base) times a factor, in all parameters: 0 gives the base, 1 the suspect model."""

    kind: ClassVar[str] = "scale"

    factor: float

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Move all weights on the line between base and suspect model."""
        with torch.no_grad():
            for _, parameter, base in changed_parameters(model, base_dir):
                # Exact at both ends, unlike base + factor * (suspect - base).
                parameter.copy_(torch.lerp(base.float(), parameter.float(), self.factor))


@dataclass(frozen=True, kw_only=True)
class Keep:
    """A random share of the weights stays the suspect model's, the others become the base's."""

    kind: ClassVar[str] = "keep"

    share: float
    seed: int

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Put the weights that are not kept back to the base's."""
        with torch.no_grad():
            for name, parameter, base in changed_parameters(model, base_dir):
                kept = random_entries(parameter.shape, share=self.share, seed=f"{self.seed}/{name}")
                parameter.copy_(torch.where(kept.to(parameter.device), parameter, base))


@dataclass(frozen=True, kw_only=True)
class ResetRows:
    """Rows of the input embeddings that become the base's; where the output head is tied to them, it follows."""

    kind: ClassVar[str] = "reset_rows"

    rows: list[int]

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Overwrite the rows."""
        name, embeddings = input_embeddings(model)
        with torch.no_grad():
            base = base_tensor(base_dir, name, embeddings)
            where = torch.tensor(self.rows, dtype=torch.int64, device=embeddings.device)
            embeddings[where] = base[where]


# --- masks ------------------------------------------------------------------------------------------------------------


def pack_mask(mask: torch.Tensor) -> torch.Tensor:
    """Return a boolean tensor as bytes, eight entries each, in the order of its memory; the last byte is filled with zeros."""
    return torch.from_numpy(np.packbits(mask.detach().cpu().contiguous().numpy().reshape(-1)))


def unpack_mask(packed: torch.Tensor, shape: torch.Size | tuple[int, ...]) -> torch.Tensor:
    """Return the boolean tensor that :func:`pack_mask` packed."""
    bits = np.unpackbits(packed.numpy(), count=int(np.prod(shape)))
    return torch.from_numpy(bits.astype(bool)).reshape(shape)


# --- rounding ---------------------------------------------------------------------------------------------------------


def rounded(weight: torch.Tensor, *, bits: int, group: int) -> torch.Tensor:
    """Round a weight to the nearest of ``2 ** bits`` evenly spaced values, group by group along its inputs.

    The values of a group span its smallest and largest weight and zero, and zero is one of them, so that pruned weights stay
    pruned. No weight moves by more than half a step.

    Parameters
    ----------
    weight : Tensor of shape (n_out, n_in)
    bits : int >= 2
    group : int >= 1
        Weights of one output that share a step; where it does not divide ``n_in``, an output's last group is smaller.

    Returns
    -------
    float32 Tensor of shape (n_out, n_in)
    """
    if bits < 2 or group < 1:
        raise ValueError(f"bits must be at least 2 and group at least 1, got {bits} and {group}")
    n_in = weight.shape[1]
    # Zeros fill up the last group: they are in its span anyway.
    padded = torch.nn.functional.pad(weight.detach().float(), (0, -n_in % group))
    groups = padded.reshape(len(weight), -1, group)  # (n_out, n_groups, group)
    low = groups.amin(dim=2, keepdim=True).clamp(max=0)
    high = groups.amax(dim=2, keepdim=True).clamp(min=0)
    step = (high - low) / (2**bits - 1)
    step = torch.where(step > 0, step, torch.ones_like(step))  # a group of zeros
    zero = torch.round(-low / step)
    levels = torch.clamp(torch.round(groups / step) + zero, 0, 2**bits - 1)
    return ((levels - zero) * step).reshape(len(weight), -1)[:, :n_in]


# --- the base ---------------------------------------------------------------------------------------------------------


def random_entries(shape: torch.Size | tuple[int, ...], *, share: float, seed: str) -> torch.Tensor:
    """Return a boolean tensor whose entries are true with the probability ``share``, each on its own.

    Parameters
    ----------
    shape : tuple of int
    share : float in [0, 1]
        0 gives no true entry, 1 no false one.
    seed : str
        The same text gives the same entries everywhere.

    Returns
    -------
    bool Tensor of shape ``shape``
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be in [0, 1], got {share}")
    size = int(np.prod(shape))
    key = int.from_bytes(sha256(seed.encode()).digest()[:16], "little")
    raw = np.random.Philox(key=key).random_raw(-(-size // 2))  # 64 bits: two entries of 32
    numbers = raw.astype("<u8", copy=False).view("<u4")[:size]
    return torch.from_numpy(numbers < np.uint64(round(share * 2**32))).reshape(shape)


def base_tensor(base_dir: PathLike, name: str, parameter: torch.Tensor) -> torch.Tensor:
    """Read one parameter of the base, with the type and on the device of the suspect's.

    Raises
    ------
    UserError
        If the base lacks it, or has another shape of it.
    """
    with Checkpoint(base_dir) as base:
        return _base_tensor(base, name, parameter)


def changed_parameters(
    model: "PreTrainedModel", base_dir: PathLike
) -> Iterator[tuple[str, torch.nn.Parameter, torch.Tensor]]:
    """Yield name, suspect's and base's value of each parameter in which the two differ.

    Raises
    ------
    UserError
        If the base lacks a parameter, or has another shape of it.
    """
    with Checkpoint(base_dir) as base:
        for name, parameter in model.named_parameters():
            before = _base_tensor(base, name, parameter)
            if not torch.equal(before, parameter):
                yield name, parameter, before


def _base_tensor(base: Checkpoint, name: str, parameter: torch.Tensor) -> torch.Tensor:
    if name not in base or base.shape(name) != tuple(parameter.shape):
        raise UserError(
            f"{base.directory}: lacks '{name}' of the shape {tuple(parameter.shape)}, which the suspect model has; "
            f"give the base that the model was tuned from"
        )
    return base.tensor(name).to(parameter.device, parameter.dtype)


def input_embeddings(model: "PreTrainedModel") -> tuple[str, torch.nn.Parameter]:
    """Return name and parameter of the input embeddings."""
    weight = model.get_input_embeddings().weight
    return next((name, value) for name, value in model.named_parameters() if value is weight)
