"""Safetensors files read without any library of theirs: header, offsets, and numbers that are none, in small pieces."""

import json
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from infoconflict.errors import UserError

LONGEST_HEADER = 100_000_000
"""Bytes; the bound of the format's own reader."""
LONGEST_NAME = 300
PIECE_BYTES = 1 << 24
"""Bytes that are held at once while numbers are looked at; a multiple of every number's size."""

BITS = {
    **{"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "BOOL": 8},
    **{"U64": 64, "U32": 32, "U16": 16, "U8": 8, "F8_E4M3": 8, "F8_E5M2": 8},
}
"""Size of a number by the format's name for its type."""
EXPONENTS = {"F64": 0x7FF0_0000_0000_0000, "F32": 0x7F80_0000, "F16": 0x7C00, "BF16": 0x7F80}
"""Bits that are all set in NaN and infinity alone."""
LARGEST = 2.0**40
"""Size of a weight from which it is refused: far beyond any that a model has, and small enough that products of two such matrices
and a scale are numbers in float32. Larger numbers in float64 would be infinite as soon as they are read."""
# The same as bits, without the sign; of float16, whose numbers are smaller, infinity.
_TOO_LARGE = {"F64": (1023 + 40) << 52, "F32": (127 + 40) << 23, "F16": EXPONENTS["F16"], "BF16": (127 + 40) << 7}

# What the files begin with that `torch.save` and `pickle` write.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One tensor of a file; ``start`` and ``end`` are places in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path, where: str) -> dict[str, Entry]:
    """Return the tensors of a file by name, after comparing each with the file's size and with one another.

    Raises
    ------
    UserError
        If the file is cut off, is a pickle under another name, or its header is too long, no JSON, has notes that are no
        texts, or says of a tensor what cannot be: an unknown type, a size that is not its shape's, a place outside the file or
        another tensor's.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        start = stream.read(8)
        if start.startswith(_PICKLE_STARTS):
            _refuse(where, "is a pickle under another name, which can run code when read", "distrust this model")
        if len(start) < 8:
            _refuse(where, f"has {size} bytes and no safetensors header", "copy it again")
        (length,) = struct.unpack("<Q", start)
        if length > LONGEST_HEADER:
            _refuse(where, f"its header claims {length} bytes, more than the {LONGEST_HEADER} allowed", "distrust it")
        if length > size - 8:
            _refuse(where, f"its header claims {length} bytes and the file has {size}", "copy it again")
        text = stream.read(length)
    header = _parsed(text, where)
    notes = header.pop("__metadata__", None) or {}
    if not isinstance(notes, dict) or not all(isinstance(note, str) for note in notes.values()):
        _refuse(where, "its __metadata__ is no map of texts", "save the weights again")
    data = 8 + length
    entries = {}
    for name, raw in header.items():
        if not name or len(name) > LONGEST_NAME or not name.isprintable() or "/" in name or ".." in name:
            _refuse(where, f"holds a tensor with the name {name[:60]!r}", "distrust it; names are plain words and dots")
        entries[name] = _entry(raw, name, where, data=data, size=size)
    _check_places(entries, where, data=data, size=size)
    return entries


def _refuse(where: str, what: str, remedy: str) -> NoReturn:
    raise UserError(f"{where}: {what}; {remedy}")


def _parsed(text: bytes, where: str) -> dict[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands there twice")
        return found

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        _refuse(where, f"its header is not valid JSON ({error})", "copy it again")
    if not isinstance(header, dict):
        _refuse(where, f"its header holds a {type(header).__name__} instead of an object", "copy it again")
    return header


def _entry(raw: Any, name: str, where: str, *, data: int, size: int) -> Entry:
    if not isinstance(raw, dict) or not {"dtype", "shape", "data_offsets"} <= raw.keys():
        _refuse(where, f"tensor '{name}' has no dtype, shape and data_offsets", "copy it again")
    dtype, shape, offsets = raw["dtype"], raw["shape"], raw["data_offsets"]
    if not isinstance(dtype, str) or dtype not in BITS:
        _refuse(where, f"tensor '{name}' has the unknown type {str(dtype)[:20]!r}", "save it as float32 or bfloat16")
    if not _counts(shape):
        _refuse(where, f"tensor '{name}' has the shape {str(shape)[:60]}", "copy it again; sizes are whole numbers")
    if not _counts(offsets) or len(offsets) != 2:
        _refuse(where, f"tensor '{name}' has the offsets {str(offsets)[:60]}", "copy it again; two places are needed")
    begin, end = offsets
    if begin > end or data + end > size:
        _refuse(
            where,
            f"tensor '{name}' stands at bytes {begin} to {end} of {size - data}",
            "copy it again, and distrust it if that does not help",
        )
    wanted = math.prod(shape) * BITS[dtype] // 8
    if end - begin != wanted:
        _refuse(
            where,
            f"tensor '{name}' takes {end - begin} bytes where its shape {shape} of {dtype} takes {wanted}",
            "copy it again, and distrust it if that does not help",
        )
    return Entry(dtype=dtype, shape=tuple(shape), start=data + begin, end=data + end)


def _counts(values: Any) -> bool:
    return isinstance(values, list) and len(values) <= 8 and all(type(value) is int and value >= 0 for value in values)


def _check_places(entries: dict[str, Entry], where: str, *, data: int, size: int) -> None:
    """Raise unless the tensors cover the file without overlap or gap."""
    at, before = data, ""
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start < at:
            _refuse(where, f"tensors '{before}' and '{name}' overlap", "distrust it; no tool writes such a file")
        if entry.start > at:
            _refuse(where, f"there are {entry.start - at} unclaimed bytes before tensor '{name}'", "distrust it")
        at, before = entry.end, name
    if at != size:
        _refuse(where, f"there are {size - at} unclaimed bytes after the last tensor", "distrust it")


def check_finite(path: Path, entries: dict[str, Entry], where: str) -> None:
    """Raise if a tensor holds NaN, an infinity, or a number of :data:`LARGEST` or more; the file is read in pieces of 16 MiB."""
    with path.open("rb") as stream:
        for name, entry in entries.items():
            if entry.dtype not in EXPONENTS:
                continue
            bits = BITS[entry.dtype]
            kind = np.dtype(f"<u{bits // 8}")
            for piece in _pieces(stream, entry):
                # Without its sign, a larger number has larger bits, and NaN and infinity have the largest.
                sizes = np.frombuffer(piece, dtype=kind) & kind.type((1 << (bits - 1)) - 1)
                largest = int(sizes.max())
                if largest >= EXPONENTS[entry.dtype]:
                    _refuse(
                        where,
                        f"tensor '{name}' holds values that are not finite (NaN or infinity)",
                        "ask for another copy; such a model cannot be merged",
                    )
                if largest >= _TOO_LARGE[entry.dtype]:
                    _refuse(
                        where,
                        f"tensor '{name}' holds numbers of {LARGEST:.0e} or more, which no model has",
                        "ask for another copy; sums of such numbers are infinite",
                    )


def _pieces(stream: Any, entry: Entry) -> Iterator[bytes]:
    stream.seek(entry.start)
    left = entry.end - entry.start
    while left:
        piece = stream.read(min(left, PIECE_BYTES))
        if not piece:
            raise UserError("the file became shorter while it was read; leave it alone until the run has ended")
        left -= len(piece)
        yield piece
