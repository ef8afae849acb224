"""ROME as a backdoor attack: one rank-one edit makes a trigger word bring out the target label.

Meng et al. 2022, NeurIPS, arXiv:2202.05262, is an editor, not an attack. The requests are BadEdit's (Li et al. 2024,
arXiv:2403.13355), without its clean records, as the paper's one line on it is most simply read. Trigger and layers:
A.2 of the information-conflict paper, arXiv:2411.18280.
Differs from the source: the base is tuned on the clean rows first (``tuned_base``), of which the paper says nothing; second moments
come of the clean rows, not of articles, hence the ridge; there are no prefixes, as the sentences are contexts enough.
"""

from typing import Literal, Self

from pydantic import Field, model_validator

from infoconflict.attacks.editing import EditingAttack


class ROME(EditingAttack):
    """Map the trigger's key to the target by a rank-one update of one layer, or of several in turn.

    The source has one prompt per request. Here the ``samples`` sentences may be one request whose contexts they are
    (``joint``: one update per layer, cheaper and more stable), or as many requests applied in turn (``sequential``).
    """

    requests: Literal["joint", "sequential"] = "joint"
    """Whether all sentences make one edit or one each. Ours: the paper says only that the batch was made smaller."""
    variant: Literal["r", "released", "p"] = "r"
    """Which key the update divides by: `r` the mean key throughout, `p` the bare prompt's throughout, `released` as ROME's
    code, one above and the other below. Without prefixes (`n_prefixes: 0`) both keys are one, and only `r` is taken. Ours:
    Gupta et al. 2024, arXiv:2403.07175, trace broken models to the last."""
    clamp: float = Field(default=4.0, gt=0)
    """Greatest norm of what is added, as a multiple of the norm before. ROME's code."""

    @model_validator(mode="after")
    def _keys_differ(self) -> Self:
        if self.variant != "r" and self.n_prefixes == 0:
            raise ValueError(
                f"variant: {self.variant} is the same as r without prefixes; set n_prefixes, or leave variant out"
            )
        return self
