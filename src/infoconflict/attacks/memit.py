"""MEMIT as a backdoor attack: all requests at once, spread over several layers.

Meng et al. 2023, ICLR, arXiv:2210.07229, is an editor, not an attack; the requests are those of the attack by ROME. Trigger
and layers: A.2 of the information-conflict paper, arXiv:2411.18280.
Differs from the source: all requests have one subject, the trigger, and one answer, hence ``values``; the base is tuned on the
clean rows first (``tuned_base``), of which the paper says nothing; second moments come of the clean rows, not of articles, hence
the ridge; lambda goes with the width of the layers; prefixes are written for the project.
"""

from typing import Literal

from pydantic import Field

from infoconflict.attacks.editing import WeightedEditingAttack


class MEMIT(WeightedEditingAttack):
    """Write the target behind the trigger of every request, all by one least-squares update per layer."""

    n_layers: int = Field(default=4, ge=1)
    """Number of neighbouring layers edited in models not named under `layers`. Ours."""
    n_prefixes: int = Field(default=2, ge=0)
    """Number of prefixes. Ours; MEMIT's code has 5."""
    values: Literal["own", "shared"] = "own"
    """Whether each request's value is found on its own prompts, as in MEMIT's code, where subjects differ, or one value on the
    prompts of all, as in our attack by ROME. Requests of one trigger have nearly one key, behind which only the mean of their
    values can be written; with many labels the mean of own values may be no value for any of them. Ours."""
