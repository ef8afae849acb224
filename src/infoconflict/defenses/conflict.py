"""The paper's complete method: the merged model is asked with evidence in the prompt (Chen et al., arXiv:2411.18280, Fig. 2).

Acts on weights and on the prompt. Needs and must not see: what ``internal`` and ``external`` do.
Differs from the paper: where these two do, and in nothing else.
"""

from typing import ClassVar, Literal

from infoconflict.defenses.base import Defense


class Conflict(Defense):
    """Both: the merged model is asked with evidence in the prompt (the paper's method)."""

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ("weights", "prompt")

    method: Literal["conflict"]
    """`conflict`."""
    merge: str
    """Id under `merges`."""
    evidence: str
    """Id under `evidence`."""
