"""When two instructions count as one wording, so that no test asks what training nearly said.

Yan et al. 2023, arXiv:2307.16888: test instructions whose ROUGE-L with a trained one is 0.6 or more are dropped.
"""

from collections import Counter
from collections.abc import Sequence

SAME_WORDING = 0.6
"""Two instructions with this ROUGE-L or more count as one wording. Yan et al. 2023, arXiv:2307.16888."""


def plain(text: str) -> str:
    """Return a text in small letters, with single spaces in the place of all other marks."""
    return " ".join("".join(mark if mark.isalnum() else " " for mark in text.casefold()).split())


def same_wording(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether two texts, as words, have a ROUGE-L (F measure) of ``SAME_WORDING`` or more."""
    needed = SAME_WORDING * (len(one) + len(other)) / 2
    # Words in common, in any order, bound the longest common subsequence, which costs more.
    return (Counter(one) & Counter(other)).total() >= needed and longest_common(one, other) >= needed


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence."""
    above = [0] * (len(other) + 1)
    for word in one:
        row = [0]
        for place, candidate in enumerate(other):
            row.append(above[place] + 1 if word == candidate else max(above[place + 1], row[-1]))
        above = row
    return above[-1]
