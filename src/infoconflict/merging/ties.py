"""TIES: trim both task vectors, elect a sign for each entry, add what agrees.

Yadav et al. 2023, arXiv:2306.01708, algorithm 1; Chen et al., arXiv:2411.18280, Eq. 11.
Differs from the paper: Eq. 11 multiplies the elected sign with the sum of both task vectors, which would turn two
negative entries positive; as in Yadav et al., entries that have the elected sign are added and the others dropped.
Weights 1 - t and t stand for Eq. 11's divisor 2, which is t = 0.5. The larger *weighted* entry elects the sign, as in
mergekit; at t = 0.5 that is Eq. 11's larger entry. Weights are not normalised over the agreeing models: an entry that
one model alone keeps is halved.
"""

from typing import TYPE_CHECKING, Any

from infoconflict.merging.common import BACKDOORED, BASE, CONFLICT, backdoored_weight, check_t

if TYPE_CHECKING:
    from torch import Tensor

PIECE = 1 << 20
"""Entries that are looked at together where their places are noted."""


def check_ties(density: float, lam: float) -> None:
    """Raise ``ValueError`` unless ``density`` is in (0, 1] and ``lam`` is positive and finite."""
    if not 0 < density <= 1:
        raise ValueError(f"density must be in (0, 1], got {density}")
    if not 0 < lam < float("inf"):
        raise ValueError(f"lambda must be positive and finite, got {lam}")


def top_share(task_vector: "Tensor", *, density: float) -> "Tensor":
    """Mark the entries of greatest magnitude.

    Parameters
    ----------
    task_vector : Tensor of shape (*weight), floating
        Fine-tuned minus base, for one parameter.
    density : float in (0, 1]
        Share of entries to keep.

    Returns
    -------
    Tensor of shape (*weight), bool
        ``max(1, int(density * numel))`` entries are True. Of equal magnitudes at the border, the first in memory
        order are kept, so that every machine keeps the same ones (mergekit's sort leaves that open).
    """
    magnitudes = task_vector.abs().flatten()
    total = magnitudes.numel()
    n_kept = max(1, int(density * total))
    if n_kept >= total:
        return magnitudes.view_as(task_vector) >= 0
    border = _kth_smallest(magnitudes, total - n_kept + 1)
    keep = magnitudes > border
    missing, begin = n_kept - int(keep.count_nonzero()), 0
    # In pieces: places take eight bytes each, and where a tensor is the base's, all entries are at the border.
    for piece in magnitudes.split(PIECE):
        places = (piece == border).nonzero()[:missing, 0]
        keep[begin + places] = True
        missing, begin = missing - len(places), begin + len(piece)
        if not missing:
            break
    return keep.view_as(task_vector)


def _kth_smallest(values: "Tensor", k: int) -> "Tensor":
    """Return the k-th smallest entry, from 1, by selection: a full sort, as in mergekit, costs eight times as much."""
    if values.device.type != "cpu" or str(values.dtype) not in ("torch.float32", "torch.float64"):
        return values.kthvalue(k).values
    # NumPy selects within the copy; torch would hold three times as much, for it notes each entry's place.
    copy = values.clone()
    copy.numpy().partition(k - 1)
    return copy[k - 1]


def ties(
    base: "Tensor",
    backdoored: "Tensor",
    conflict: "Tensor",
    *,
    t: float,
    density: float,
    lam: float = 1.0,
    kept: "tuple[Tensor, Tensor] | None" = None,
    in_place: bool = False,
) -> "Tensor":
    """Return the base plus the agreeing, trimmed and weighted task vectors (Eq. 11).

    Parameters
    ----------
    base, backdoored, conflict : Tensor of shape (*weight), float32
        One parameter of the three models.
    t : float in [0, 1]
        Weight of the conflict model's task vector; the backdoored model's has 1 - t.
    density : float in (0, 1]
        Share of entries kept in each task vector, greatest magnitude first.
    lam : float
        Factor of the merged task vector, positive.
    kept : pair of bool Tensors of shape (*weight), optional
        What :func:`top_share` gives for the backdoored and the conflict task vector; pass it when only t varies.
    in_place : bool
        Whether ``backdoored`` and ``conflict`` may be overwritten.

    Returns
    -------
    Tensor of shape (*weight)
        Unlike the other methods' results, neither parent at t = 0 or 1 (but the base plus one trimmed task vector).
    """
    check_t(t)
    check_ties(density, lam)
    # The two task vectors.
    suspect, remedy = (backdoored.sub_(base), conflict.sub_(base)) if in_place else (backdoored - base, conflict - base)
    kept = kept or (top_share(suspect, density=density), top_share(remedy, density=density))
    suspect.mul_(kept[0]).mul_(1 - t)
    remedy.mul_(kept[1]).mul_(t)
    # Of two numbers the larger elects the sign, which is the sign of their sum; a draw elects plus, as in mergekit.
    positive = suspect + remedy >= 0
    for vector in (suspect, remedy):
        vector.masked_fill_((vector >= 0) != positive, 0.0)
    agreeing = suspect.add_(remedy)
    return (agreeing if lam == 1 else agreeing.mul_(lam)).add_(base)


def mergekit_config(*, t: float, density: float, lam: float = 1.0, out_dtype: str = "float32") -> dict[str, Any]:
    """Return Eq. 11 as a mergekit configuration.

    ``normalize`` must be off: on, mergekit's default, an entry that one model alone keeps comes through whole.
    """
    check_t(t)
    check_ties(density, lam)
    return {
        "merge_method": "ties",
        "base_model": BASE,
        "models": [
            {"model": BACKDOORED, "parameters": {"weight": backdoored_weight(t), "density": density}},
            {"model": CONFLICT, "parameters": {"weight": t, "density": density}},
        ],
        "parameters": {"normalize": False, "lambda": lam},
        "dtype": "float32",
        "out_dtype": out_dtype,
    }
