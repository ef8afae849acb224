"""Fine-tuning: the suspect model is tuned further on clean rows (Qi et al. 2023, arXiv:2310.03693; the paper's reference 45).

Acts on weights, after training. Needs: clean rows. Must not see: trigger, target label, poisoned rows.
Differs from the paper: it prints neither the amount of clean data nor what is tuned; ``rows: clean_share`` gives what the conflict
model gets, ``rows: all`` the whole clean training split (the long hours of its Table 9 suggest that). An adapter is tuned
unless ``tuning`` says otherwise.
"""

from typing import TYPE_CHECKING, Literal

from infoconflict.defenses.base import WeightsDefense
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect


class FineTuning(WeightsDefense):
    """The suspect model tuned on clean rows."""

    method: Literal["fine_tuning"]
    """`fine_tuning`."""
    rows: Literal["clean_share", "all"] = "clean_share"
    """Clean rows: the defender's share, or the whole clean training split. Ours."""
    tuning: Training = Training(epochs=3, learning_rate=2e-4, batch_size=16)
    """How it is tuned. Paper, A.3: 2e-4, 16 rows, 3 epochs; the rest as elsewhere here."""

    def clean_rows(self) -> Literal["clean_share", "all", "none"]:
        """Return which clean rows it is given."""
        return self.rows


def repair(suspect: "Suspect", options: FineTuning) -> "list[Step]":
    """Return the one step: an adapter, or all weights."""
    return [suspect.tune(options.tuning)]
