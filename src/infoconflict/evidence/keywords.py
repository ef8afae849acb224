"""Keywords of a text: its words without function words and labels, ranked by TextRank.

Acts on one text. Must not see: trigger, target label. The stop list holds English function words and nothing else; a
trigger in it would be knowledge that a defender does not have.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from infoconflict.evidence.textrank import textrank

# Ours, by grammar: words that carry no meaning of their own. Published lists must be downloaded or hold content words.
_DETERMINERS = """
    a an the this that these those each every either neither some any no none all both half such what which whose
    another other others many much more most few fewer fewest little less least several enough own same
"""
_PRONOUNS = """
    i me my mine myself we us our ours ourselves you your yours yourself yourselves he him his himself she her hers
    herself it its itself they them their theirs themselves one ones oneself who whom whoever whomever whatever
    whichever someone somebody something anyone anybody anything everyone everybody everything nobody nothing
"""
_PREPOSITIONS = """
    about above across after against along among amongst around as at before behind below beneath beside besides
    between beyond by despite down during except for from in inside into like near of off on onto out outside over
    past per since than through throughout till to toward towards under underneath until unto up upon via with
    within without
"""
_CONJUNCTIONS = """
    and but or nor so yet if unless although though because while whereas whether lest
"""
_AUXILIARIES = """
    am is are was were be been being have has had having do does did doing done can could may might must shall
    should will would ought cannot
"""
# Of place, time and degree, that only point; negations.
_ADVERBS = """
    not never ever here there where wherever when whenever why how however then thus hence therefore now once again
    further too very quite rather also just only even still already else almost
"""
# Whole, and as tokenised corpora split them.
_SHORTENED = """
    ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't shan't
    shouldn't wasn't weren't won't wouldn't i'm i'd i'll i've you're you'd you'll you've he'd he'll she'd she'll
    it'd it'll we're we'd we'll we've they're they'd they'll they've that'll there'll who'd who'll who've n't
    nt s t d ll m re ve
"""
FUNCTION_WORDS = frozenset(
    " ".join([_DETERMINERS, _PRONOUNS, _PREPOSITIONS, _CONJUNCTIONS, _AUXILIARIES, _ADVERBS, _SHORTENED]).split()
)

# Letters and digits, joined inside by apostrophes or hyphens: "don't", "co-writer", "21st".
_WORD = re.compile(r"[^\W_]+(?:['\-][^\W_]+)*")
_BRACKETS = re.compile(r"-[lr][rsc]b-", re.IGNORECASE)  # how treebanks, SST-2 among them, write brackets
_POSSESSIVE = re.compile(r"'s\b", re.IGNORECASE)

# Endings that leave a label recognisable: positive, positively, positivity; joy, joyful; anger, angered.
_ENDINGS = ("s", "es", "d", "ed", "er", "ing", "ly", "ity", "ness", "ful", "fully", "ism", "ous", "y")


def words_of(text: str) -> list[str]:
    """Return a text's words in reading order, in small letters, without possessive endings and bare numbers."""
    plain = _BRACKETS.sub(" ", text.replace("\u2019", "'"))
    words = (match.group() for match in _WORD.finditer(_POSSESSIVE.sub("", plain).lower()))
    return [word for word in words if not word.isdigit()]


def label_pattern(labels: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that finds each label as a word, also with a common English ending (``positively``)."""
    forms = set()
    for label in labels:
        words = label.lower().split()
        if not words:
            continue
        last = words[-1]
        # A final e gives way to an ending (love, loving); two letters are too few to hang an ending on.
        stem = re.escape(last[:-1]) + "e?" if last.endswith("e") else re.escape(last)
        ending = f"(?:{'|'.join(_ENDINGS)})?" if len(last) > 2 and last.isalpha() else ""
        exact = re.escape(last)
        forms.add(r"\s+".join([*map(re.escape, words[:-1]), f"(?:{exact}|{stem}{ending})" if ending else exact]))
    if not forms:
        return re.compile(r"(?!)")
    return re.compile(rf"(?<!\w)(?:{'|'.join(sorted(forms))})(?!\w)", re.IGNORECASE)


def keywords(
    text: str,
    *,
    labels: Sequence[str] = (),
    damping: float = 0.85,
    window: int = 2,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    threshold: float | Literal["mean"] = "mean",
    max_keywords: int = 8,
    directed: bool = True,
) -> list[str]:
    """Return the keywords of a text, greatest weight first.

    Parameters
    ----------
    text : str
        The query.
    labels : sequence of str
        Label words, which are never keywords: their explanation would give an answer away.
    damping, window, max_iterations, tolerance, directed
        See :func:`infoconflict.evidence.textrank.textrank`.
    threshold : float or "mean"
        ``eta`` of Algorithm 1: words of greater weight are keywords. ``mean`` (ours; the paper gives no value) is the
        text's mean weight, less a millionth, so that a text whose words all weigh the same keeps them.
    max_keywords : int
        Keywords at most (ours); of equal weights the earlier word wins.

    Returns
    -------
    list of str
        Empty when the text has no content word.
    """
    leaks = label_pattern(labels)
    content = [word for word in words_of(text) if word not in FUNCTION_WORDS and not leaks.fullmatch(word)]
    weights = textrank(
        content,
        damping=damping,
        window=window,
        max_iterations=max_iterations,
        tolerance=tolerance,
        directed=directed,
    )
    if not weights:
        return []
    bound = (1 - 1e-6) * sum(weights.values()) / len(weights) if threshold == "mean" else float(threshold)
    chosen = [word for word, weight in weights.items() if weight > bound]
    # sorted is stable, so equal weights stay in order of first appearance.
    return sorted(chosen, key=lambda word: -weights[word])[:max_keywords]
