"""Arithmetic on task vectors (tuned minus base): sums of changes as one change, and the angle between two.

Adapters stay adapters: their ranks are put side by side, which is exact (PEFT's ``cat``; its ``linear`` is not). Ilharco et
al. 2023, arXiv:2212.04089, for the idea.
"""

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from infoconflict.files import PathLike, whole_directory, write_json
from infoconflict.models.changes import (
    ADAPTER,
    ADAPTER_CONFIG,
    FULL_CHANGE,
    Change,
    Checkpoint,
    LoraChange,
    dense_tensor,
    open_change,
)

if TYPE_CHECKING:
    from torch import Tensor

    Factor = float | Callable[[str], float]
    Term = tuple[LoraChange, Factor]


def combine_changes(
    base_dir: PathLike, terms: "Sequence[tuple[PathLike, Factor]]", out_dir: PathLike
) -> dict[str, Any]:
    """Write base + sum of factor * (tuned - base) as one change of the base.

    Parameters
    ----------
    base_dir : path
        What all changes belong to.
    terms : sequence of (path, float or callable)
        Changes and their factors, one for all tensors or a function of a tensor's name; a term with factor 0 leaves no trace.
    out_dir : path
        Directory to write: an adapter if all changes are adapters, else the changed tensors whole.

    Returns
    -------
    dict
        ``kind`` (``adapter`` or ``tensors``) and ``tensors``, how many are touched.

    Raises
    ------
    UserError
        If a change is damaged or was made for another base.
    """
    from safetensors.torch import save_file

    with Checkpoint(base_dir) as base, whole_directory(out_dir) as folder:
        used = [(open_change(base, path), factor) for path, factor in terms if factor] or [
            (open_change(base, terms[0][0]), 0.0)
        ]
        names = sorted({name for change, _ in used for name in change.names})
        if all(isinstance(change, LoraChange) for change, _ in used):
            adapters = cast("list[Term]", used)
            for change, _ in adapters:
                for name in change.names:
                    dense_tensor(base, change, name)  # refuses shapes of another base and what is not finite
            tensors, config = side_by_side(adapters, names)
            save_file(tensors, folder / ADAPTER)
            write_json(folder / ADAPTER_CONFIG, config)
            return {"kind": "adapter", "tensors": len(names)}
        save_file({name: _sum(base, used, name) for name in names}, folder / FULL_CHANGE)
        return {"kind": "tensors", "tensors": len(names)}


def side_by_side(terms: "Sequence[Term]", names: Sequence[str]) -> "tuple[dict[str, Tensor], dict[str, Any]]":
    """Return one adapter's tensors and config: sum of f s B A = [f1 s1 B1, f2 s2 B2] [A1; A2], with scale 1."""
    import torch

    tensors, ranks = {}, {}
    for name in names:
        parts = [(*change.factors(name), _at(factor, name)) for change, factor in terms if name in change.names]
        module = name.removesuffix(".weight")
        key = f"base_model.model.{module}"
        tensors[f"{key}.lora_A.weight"] = torch.cat([a for _, a, _, _ in parts]).contiguous()
        tensors[f"{key}.lora_B.weight"] = torch.cat([f * s * b for b, _, s, f in parts], dim=1).contiguous()
        ranks[module] = sum(a.shape[0] for _, a, _, _ in parts)
    rank = max(ranks.values())
    # Alpha is the rank everywhere, so that PEFT's scale is 1.
    fewer = {re.escape(module): own for module, own in ranks.items() if own != rank}
    config = terms[0][0].config | {
        "r": rank,
        "lora_alpha": rank,
        "rank_pattern": fewer,
        "alpha_pattern": fewer,
        "target_modules": sorted(ranks),
        "use_rslora": False,
        "layers_to_transform": None,
        "layers_pattern": None,
        "exclude_modules": None,
        "inference_mode": True,
    }
    return tensors, config


def _at(factor: "Factor", name: str) -> float:
    return factor(name) if callable(factor) else factor


def _sum(base: Checkpoint, terms: "Sequence[tuple[Change, Factor]]", name: str) -> "Tensor":
    """Return one tensor of the sum in float32, added up in float64."""
    before = base.tensor(name).double()
    after = before.clone()
    for change, factor in terms:
        if name in change.names:
            after += _at(factor, name) * (dense_tensor(base, change, name).double() - before)
    return after.float().contiguous()


def angle(base_dir: PathLike, first_dir: PathLike, second_dir: PathLike) -> dict[str, Any]:
    """Compare two task vectors of one base.

    Two adapters are compared by their factors, without their products; else it is done tensor by tensor. All in float64.

    Parameters
    ----------
    base_dir, first_dir, second_dir : path
        The base and two changes of it.

    Returns
    -------
    dict
        ``cosine`` over all tensors together (None where a vector is zero), ``first_norm``, ``second_norm`` (Frobenius).
    """
    inner = first_square = second_square = 0.0
    with Checkpoint(base_dir) as base:
        first, second = open_change(base, first_dir), open_change(base, second_dir)
        for name in sorted({*first.names, *second.names}):
            one = first if name in first.names else None
            two = second if name in second.names else None
            inner += _inner(base, one, two, name) if one and two else 0.0
            first_square += _inner(base, one, one, name) if one else 0.0
            second_square += _inner(base, two, two, name) if two else 0.0
    norms = math.sqrt(max(first_square, 0.0)), math.sqrt(max(second_square, 0.0))
    return {
        "cosine": inner / (norms[0] * norms[1]) if all(norms) else None,
        "first_norm": norms[0],
        "second_norm": norms[1],
    }


def _inner(base: Checkpoint, one: Change, two: Change, name: str) -> float:
    """Return the inner product of two task vectors in one tensor."""
    if isinstance(one, LoraChange) and isinstance(two, LoraChange):
        (b1, a1, s1), (b2, a2, s2) = one.factors(name), two.factors(name)
        # <B1 A1, B2 A2> = sum of (B1' B2) * (A1 A2'): ranks squared, not the whole matrix.
        return s1 * s2 * float(((b1.double().T @ b2.double()) * (a1.double() @ a2.double().T)).sum())
    before = base.tensor(name).double()
    vectors = [dense_tensor(base, change, name).double() - before for change in (one, two)]
    return float((vectors[0] * vectors[1]).sum())


def stored_kind(change_dir: PathLike) -> str:
    """Return ``adapter`` or ``tensors``, as a change is stored."""
    return "tensors" if (Path(change_dir) / FULL_CHANGE).exists() else "adapter"
