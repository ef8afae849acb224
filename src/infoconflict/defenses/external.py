"""External conflict: evidence beside the question contradicts a backdoored answer (Chen et al., arXiv:2411.18280, section 3.4).

Acts on the prompt. Needs: an external language model (:mod:`infoconflict.evidence`). Must not see: trigger, target label,
poisoned rows; the question it is asked at inference is all that it knows.
Differs from the paper: evidence that names a class label is cleaned of it, or it would give the answer away; the external model
is the config's choice (the paper has GPT-3.5), and the wording of what it is asked is ours. How keywords are chosen stands in
:mod:`infoconflict.evidence.keywords`.
"""

from typing import ClassVar, Literal

from infoconflict.defenses.base import Defense


class External(Defense):
    """Evidence in the prompt (paper, section 3.4)."""

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ("prompt",)

    method: Literal["external"]
    """`external`."""
    evidence: str
    """Id under `evidence`."""
