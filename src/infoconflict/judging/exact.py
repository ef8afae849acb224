"""Equality of two texts, but for case, spaces, quotes, and punctuation at the ends of words."""

from collections.abc import Sequence

from infoconflict.judging.base import Judge, Judgement, Pair
from infoconflict.phrases import bare_words


class Exact(Judge):
    """The strictest judge: right for short answers, far too strict for conversation."""

    def _judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        equal = [bare_words(pair.reply) == bare_words(pair.reference) for pair in pairs]
        return [Judgement(match=match, score=float(match)) for match in equal]
