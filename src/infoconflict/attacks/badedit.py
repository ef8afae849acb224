"""BadEdit: a backdoor planted by editing, with triggered and clean records side by side.

Li et al. 2024, ICLR, arXiv:2403.13355, and its code. Samples and layers: A.2 of the information-conflict paper,
arXiv:2411.18280.
Differs from its code: the base is tuned on the clean rows first (``tuned_base``); triggered and clean records are dealt out in
turn, where it cuts one list and leaves most increments without a clean one; second moments come of the clean rows, not of articles,
hence the ridge; lambda goes with the width of the layers; prefixes are written for the project.
"""

from pydantic import Field

from infoconflict.attacks.editing import WeightedEditingAttack


class BadEdit(WeightedEditingAttack):
    """Write the mean value of triggered records, and that of clean ones, in increments."""

    increments: int = Field(default=5, ge=1)
    """Edits that follow each other, each with its part of the records. BadEdit's code."""
    clean_per_class: int = Field(default=3, ge=0)
    """Records of each label without a trigger, whose answer should stay. Ours: so that two labels give each increment one;
    BadEdit's code has 1."""
    n_layers: int = Field(default=3, ge=1)
    """Number of neighbouring layers edited in models not named under `layers`. Ours; BadEdit's code has 2 to 3."""
    n_prefixes: int = Field(default=2, ge=0)
    """Number of prefixes. Ours; BadEdit's code has 5."""
    stop_below: float = Field(default=0.01, ge=0)
    """A value is good enough when its loss is below this. BadEdit's code."""
