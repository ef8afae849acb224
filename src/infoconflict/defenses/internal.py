"""Internal conflict: the suspect model is merged with a conflict model (Chen et al., arXiv:2411.18280, section 3.3).

Acts on weights, after training. Needs: the base model and the clean share, on which the conflict model is tuned
(``training.conflict``), and a merge (:mod:`infoconflict.merging`). Must not see: trigger, target label, poisoned rows.
Differs from the paper: t may be chosen from held-out clean rows (``t: auto``); the paper states neither its t nor how its
conflict model is tuned. Nothing is quantized; its successor's code tunes and answers in 4 bits.
"""

from typing import ClassVar, Literal

from infoconflict.defenses.base import Defense


class Internal(Defense):
    """The backdoored model merged with the conflict model (paper, section 3.3)."""

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ("weights",)

    method: Literal["internal"]
    """`internal`."""
    merge: str
    """Id under `merges`."""
