"""Merges, and how t is chosen and swept."""

from typing import Annotated, Literal

from pydantic import Field

from infoconflict.config.values import Ids, Share, Weight, Weights
from infoconflict.entries import Count, Entry


class Merge(Entry):
    """What all merge methods have in common."""

    t: Weight | Literal["auto"] = "auto"
    """Weight of the conflict model in [0, 1] (0: the backdoored model), or `auto`: chosen on the clean share
    (`choose_t`). Ours: the paper gives none, Lethe's code has 0.5."""


class MergeByDepth(Merge):
    """What linear and SLERP merges have in common."""

    depth_profile: Annotated[list[Weight], Field(min_length=2)] | None = None
    """Factors of t in [0, 1], at equal distances from the first block to the last with straight lines between them, as mergekit
    takes lists (outside the blocks the first); null: the same t everywhere, as in the paper. Ours."""


class LinearMerge(MergeByDepth):
    """Weighted mean of the weights (paper, Eq. 9)."""

    method: Literal["linear"]


class SlerpMerge(MergeByDepth):
    """Spherical interpolation of each tensor (paper, Eq. 10)."""

    method: Literal["slerp"]


class TiesMerge(Merge):
    """Trimmed task vectors that agree in sign (paper, Eq. 11; Yadav et al. 2023, arXiv:2306.01708)."""

    method: Literal["ties"]
    density: Share = 0.5
    """Share of each task vector's entries that is kept, greatest first. Lethe's code."""
    lambda_: Annotated[float, Field(gt=0, alias="lambda")] = 1.0
    """Factor of the merged task vector. Lethe's code (mergekit's default)."""


class PassthroughMerge(Merge):
    """Layers of both models, depth kept (paper, Eq. 12); the first t of the layers are the conflict model's."""

    method: Literal["passthrough"]


MergeEntry = Annotated[LinearMerge | SlerpMerge | TiesMerge | PassthroughMerge, Field(discriminator="method")]


class ChooseT(Entry):
    """How `t: auto` is decided, without knowledge of a trigger."""

    candidates: Weights = [0.5, 0.6, 0.7, 0.8, 0.9]
    """Values to try. Ours."""
    rule: Literal["one_standard_error", "paired_test"] = "one_standard_error"
    """Take the greatest t whose accuracy on the held-out clean rows is within one standard error of the best
    (Breiman et al. 1984), or that is not worse than the best by McNemar's test on these rows at 5 % (`paired_test`, ours). On the
    chat task, ours: the greatest whose mean log-likelihood of the reference answers is, row by row, no more than one standard
    error (`paired_test`: 1.96) below the best."""


class Sweep(Entry):
    """The ASR-CDA curve over t, for each model, data set and attack that a merging defense is tried on."""

    merges: Ids = []
    """Ids under `merges`; none: no sweep. Cells of an attack that no defense with a merge is run against have none."""
    t: Weights = [0.1, 0.3, 0.5, 0.7, 0.9]
    """Values of t. Ours."""
    rows: Count | None = None
    """Clean and triggered test rows each, drawn by the seed; null: all. Ours."""
