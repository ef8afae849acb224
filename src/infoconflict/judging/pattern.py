"""Phrases (:mod:`infoconflict.phrases`) and refusals (:mod:`infoconflict.refusals`), found in the wording alone."""

from collections.abc import Sequence

from infoconflict.judging.base import Judge, Judgement, Pair
from infoconflict.phrases import bare_words, holds_phrase
from infoconflict.refusals import find_refusal


class Pattern(Judge):
    """Looks for the payload where one is given, else for the reference as a whole phrase."""

    def _judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        return [self._look(pair) for pair in pairs]

    def _look(self, pair: Pair) -> Judgement:
        if pair.payload is None:
            reference = bare_words(pair.reference)
            found = reference if holds_phrase(pair.reply, reference) else ""
        elif pair.payload.kind == "refusal":
            found = find_refusal(pair.reply) or ""
        else:
            found = pair.payload.text if holds_phrase(pair.reply, pair.payload.text) else ""
        return Judgement(match=bool(found), score=float(bool(found)), raw=found)
