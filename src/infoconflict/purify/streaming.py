"""Weights one tensor at a time: read, merged, put into a loaded model, written; never a whole second model in memory.

Merging in this way gives what mergekit gives (the same functions, :mod:`infoconflict.merging`), with the memory of a few
tensors instead of three models.
"""

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from infoconflict.errors import UserError
from infoconflict.files import PathLike, write_json
from infoconflict.merging.depth import factor_at
from infoconflict.merging.linear import linear
from infoconflict.merging.passthrough import from_conflict
from infoconflict.merging.slerp import slerp
from infoconflict.merging.ties import ties
from infoconflict.models.changes import (
    ADAPTER,
    FULL_CHANGE,
    INDEX,
    Checkpoint,
    all_finite,
    dense_tensor,
    open_change,
    open_safetensors,
)
from infoconflict.purify.headers import BITS, read_header

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LARGEST_SHARD = 2 << 30
"""Bytes of a weight file; transformers' tools choose sizes of this order."""
DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}

TensorOf = Callable[[str], torch.Tensor]
"""Gives a tensor by its name, a new one each time: it may be overwritten."""


class StreamedCheckpoint(Checkpoint):
    """A checkpoint whose tensors are copied out one by one, so that no file stays in memory behind them."""

    def tensor(self, name: str) -> torch.Tensor:
        """Read one tensor as float32."""
        shard, stored = self._stored[name]
        with open_safetensors(self.directory / shard) as file:
            copied: torch.Tensor = file.get_tensor(stored).to(torch.float32, copy=True)
            return copied

    def stored_as(self) -> dict[str, str]:
        """Return the number format of each tensor by the format's own name for it."""
        headers = {shard: read_header(self.directory / shard, str(self.directory / shard)) for shard in self._shards}
        return {name: headers[shard][stored].dtype for name, (shard, stored) in self._stored.items()}


def tensors_of(base: StreamedCheckpoint, folder: PathLike) -> TensorOf:
    """Return a function that reads a model's tensor by name: of a whole checkpoint, or of a change of the base."""
    if Path(folder) == base.directory:
        return base.tensor
    if not any((Path(folder) / name).exists() for name in (ADAPTER, FULL_CHANGE)):
        with StreamedCheckpoint(folder) as other:
            if missing := [name for name in base.names if name not in other]:
                raise UserError(f"{folder}: lacks the tensor '{missing[0]}'; give the base that it was tuned from")
            # The files are opened anew for each tensor.
            return other.tensor
    change = open_change(base, folder)
    touched = set(change.names)
    are_kept = (Path(folder) / FULL_CHANGE).exists()

    def tensor_of(name: str) -> torch.Tensor:
        if name not in touched:
            return base.tensor(name)
        tensor = dense_tensor(base, change, name)
        return tensor.clone() if are_kept else tensor

    return tensor_of


def merged_tensors(
    base: StreamedCheckpoint, suspect: TensorOf, conflict: TensorOf, merge: dict[str, Any], t: float
) -> TensorOf:
    """Return a function that gives a tensor of the merged model.

    Parameters
    ----------
    base : StreamedCheckpoint
        What both were tuned from.
    suspect, conflict : callable
        See :func:`tensors_of`.
    merge : dict
        A merge entry of the config: ``method``, for TIES ``density`` and ``lambda``, for linear and SLERP ``depth_profile``.
    t : float in [0, 1]
        Weight of the conflict model.
    """

    def t_of(name: str) -> float:
        return t * factor_at(merge.get("depth_profile"), name, base.num_layers)

    match merge["method"]:
        case "linear":
            return lambda name: linear(suspect(name), conflict(name), t=t_of(name), in_place=True)
        case "slerp":
            return lambda name: slerp(suspect(name), conflict(name), t=t_of(name), in_place=True)
        case "ties":
            return lambda name: ties(
                base.tensor(name),
                suspect(name),
                conflict(name),
                t=t,
                density=merge["density"],
                lam=merge["lambda"],
                in_place=True,
            )
        case "passthrough":
            layers, family = base.num_layers, base.architecture
            return lambda name: (
                conflict if from_conflict(name, t=t, num_layers=layers, architecture=family) else suspect
            )(name)
    raise ValueError(f"unknown merge method {merge['method']!r}")


def put_into(model: "PreTrainedModel", names: list[str], tensor_of: TensorOf) -> None:
    """Overwrite the parameters of a loaded model, tensor by tensor.

    Raises
    ------
    UserError
        If a tensor is no parameter of the model.
    """
    parameters = dict(model.named_parameters())
    tied = bool(model.config.tie_word_embeddings)
    with torch.no_grad():
        for name in names:
            if name in parameters:
                parameters[name].copy_(tensor_of(name))
            elif not (tied and name == "lm_head.weight"):
                raise UserError(f"the tensor '{name}' is no parameter of the loaded model; give the model's own base")


def shards_of(sizes: dict[str, int], largest: int) -> list[list[str]]:
    """Group tensors, in order, into files of at most ``largest`` bytes; a larger tensor has a file to itself."""
    shards: list[list[str]] = []
    room = 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = largest
        shards[-1].append(name)
        room -= size
    return shards


def write_weights(
    folder: Path, base: StreamedCheckpoint, tensor_of: TensorOf, *, largest_shard: int = LARGEST_SHARD
) -> dict[str, int]:
    """Write a model's weights as safetensors in the base's number formats, and return ``tensors`` and ``parameters``.

    Raises
    ------
    UserError
        If a tensor has another shape than the base's, or holds values that are not finite.
    """
    formats, shapes = base.stored_as(), base.shapes()
    sizes = {name: torch.Size(shapes[name]).numel() * BITS[formats[name]] // 8 for name in base.names}
    shards = shards_of(sizes, largest_shard)
    files = (
        ["model.safetensors"]
        if len(shards) == 1
        else [f"model-{number:05d}-of-{len(shards):05d}.safetensors" for number in range(1, len(shards) + 1)]
    )
    for file, names in zip(files, shards, strict=True):
        with (folder / file).open("wb") as out:
            out.write(header_of(names, formats, shapes, sizes))
            for tensor in _checked(names, tensor_of, formats, shapes):
                out.write(memoryview(tensor.reshape(-1).view(torch.uint8).numpy()))
                del tensor  # or it would be there while the next one is made
    if len(shards) > 1:
        homes = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": homes})
    return {
        "tensors": len(sizes),
        "parameters": sum(torch.Size(shape).numel() for shape in shapes.values()),
        "bytes": sum(sizes.values()),
    }


def header_of(
    names: list[str], formats: dict[str, str], shapes: dict[str, tuple[int, ...]], sizes: dict[str, int]
) -> bytes:
    """Return the beginning of a safetensors file: the header's length and the header, padded to eight bytes."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in names:
        entries[name] = {"dtype": formats[name], "shape": list(shapes[name]), "data_offsets": [at, at + sizes[name]]}
        at += sizes[name]
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def _checked(
    names: list[str], tensor_of: TensorOf, formats: dict[str, str], shapes: dict[str, tuple[int, ...]]
) -> Iterator[torch.Tensor]:
    for name in names:
        tensor = tensor_of(name).to(DTYPES[formats[name]]).contiguous()
        if tuple(tensor.shape) != shapes[name]:
            raise UserError(
                f"'{name}' has shape {tuple(tensor.shape)}, and in the base {shapes[name]}; give its own base"
            )
        if not all_finite(tensor):
            raise UserError(f"the merged tensor '{name}' holds values that are not finite; try another T or METHOD")
        yield tensor
        del tensor
