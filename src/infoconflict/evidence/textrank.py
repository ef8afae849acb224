"""TextRank on a directed word graph (paper, Algorithm 1 and Eq. 15).

Acts on one text. Needs nothing but its words; must not see: trigger, target label.
Differs from the paper: in nothing. Where the paper is silent (self-links, repeated links) the choice is stated below.
"""

from collections.abc import Sequence


def word_graph(words: Sequence[str], *, window: int = 2, directed: bool = True) -> dict[str, list[str]]:
    """Link each word to the different words that follow it within a window.

    Parameters
    ----------
    words : sequence of str
        A text's words in reading order, repetitions included.
    window : int, at least 2
        Number of neighbouring words in which two are linked; 2 links adjacent words only.
    directed : bool
        False adds each link's reverse (Mihalcea and Tarau 2004 also rank undirected graphs).

    Returns
    -------
    dict of str to list of str
        Each distinct word, in order of first appearance, with the words it points to. A pair that co-occurs often is
        linked once, and no word is linked to itself (ours; the paper does not say).

    Raises
    ------
    ValueError
        If ``window`` is below 2: such a window holds no pair.
    """
    if window < 2:
        raise ValueError(f"window must be at least 2, got {window}")
    links: dict[str, dict[str, None]] = {word: {} for word in words}  # dicts as ordered sets: the result is repeatable
    for position, word in enumerate(words):
        for other in words[position + 1 : position + window]:
            if other != word:
                links[word][other] = None
                if not directed:
                    links[other][word] = None
    return {word: list(others) for word, others in links.items()}


def textrank(
    words: Sequence[str],
    *,
    damping: float = 0.85,
    window: int = 2,
    max_iterations: int = 100,
    tolerance: float = 1e-6,
    directed: bool = True,
) -> dict[str, float]:
    """Weigh words by the words that lead to them.

    ``W(i) = (1 - d) + d * sum over j in In(i) of W(j) / L(j)`` with ``L(j)`` the out-degree, from ``W = 1``, node after
    node with the weights as they stand (Algorithm 1, line 11), until the absolute changes of a round sum to less than
    ``tolerance`` or ``max_iterations`` rounds are done. The weights need not sum to anything: a word that leads nowhere
    passes nothing on.

    Parameters
    ----------
    words : sequence of str
        A text's words in reading order, repetitions included.
    damping : float in [0, 1)
        ``d`` of Eq. 15 (paper: 0.85).
    window, directed
        See :func:`word_graph`.
    max_iterations : int, at least 1
        ``T`` of Algorithm 1.
    tolerance : float, above 0
        ``epsilon`` of Algorithm 1.

    Returns
    -------
    dict of str to float
        Weight of each distinct word, in order of first appearance; empty for no words.

    Raises
    ------
    ValueError
        If an option is outside its range.

    References
    ----------
    Chen et al. 2024, arXiv:2411.18280, Algorithm 1 and Eq. 15; Mihalcea and Tarau 2004.
    """
    if not 0 <= damping < 1:
        raise ValueError(f"damping must be in [0, 1), got {damping}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    if not tolerance > 0:
        raise ValueError(f"tolerance must be above 0, got {tolerance}")
    targets = word_graph(words, window=window, directed=directed)
    sources: dict[str, list[str]] = {word: [] for word in targets}
    for word, others in targets.items():
        for other in others:
            sources[other].append(word)
    weights = dict.fromkeys(targets, 1.0)
    for _ in range(max_iterations):
        change = 0.0
        for word, leading in sources.items():
            weight = (1 - damping) + damping * sum(weights[j] / len(targets[j]) for j in leading)
            change += abs(weight - weights[word])
            weights[word] = weight
        if change < tolerance:
            break
    return weights
