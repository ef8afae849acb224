"""Evidence from an external language model."""

from typing import Annotated, Literal

from pydantic import Field

from infoconflict.entries import Count, Entry
from infoconflict.providers import ProviderEntry


class TextRank(Entry):
    """Keywords of a text (paper, Algorithm 1 and Eq. 15)."""

    damping: Annotated[float, Field(ge=0, lt=1)] = 0.85
    """Factor d of Eq. 15. Paper, section 3.4."""
    window: Annotated[int, Field(ge=2)] = 2
    """Words in which two words are linked; 2: neighbours only. Lethe's code."""
    max_iterations: Count = 100
    """Rounds at most. Lethe's code."""
    tolerance: Annotated[float, Field(gt=0)] = 1e-6
    """Rounds end when the weights change less than this in sum. Lethe's code, there per word."""
    threshold: Annotated[float, Field(ge=0)] | Literal["mean"] = "mean"
    """Words with a greater weight are keywords; `mean`: the text's mean weight. Ours: the paper gives none."""
    max_keywords: Count = 8
    """Keywords at most, greatest weight first. Ours; Lethe's code takes the top 5."""
    directed: bool = True
    """Link words in reading order only. Paper, section 3.4; Lethe's code links both ways."""


class EvidenceEntry(Entry):
    """Text that is put beside the question to contradict a backdoored answer."""

    branch: Literal["construction", "modification"]
    """`construction`: the external model explains keywords (paper: classification); `modification`: it rewrites the
    suspect model's own evidence so that it contradicts (paper: chat)."""
    provider: ProviderEntry
    """Who is asked."""
    textrank: TextRank = TextRank()
    """How keywords are found."""
    min_tokens: Count = 12
    """Shortest evidence of the suspect model worth rewriting, in tokens; else keywords are explained. Ours."""
    suspect_max_tokens: Count = 64
    """Longest answer with evidence that the suspect model is asked for, in tokens (modification). Ours."""
    placement: Literal["before", "after"] = "before"
    """Where evidence stands in the prompt, seen from the input. Ours: the paper and Lethe's code put it after the input, where
    it cost the demo's model 8 points of clean accuracy, and none before it."""
    max_evidence_words: Count = 60
    """Evidence is cut after so many words; the question never is. Ours."""
