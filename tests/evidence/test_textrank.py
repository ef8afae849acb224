import itertools
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infoconflict.evidence.textrank import textrank, word_graph

WORDS = st.lists(st.sampled_from("abcdefghij"), max_size=30)


def dense_solution(words: list[str], *, damping: float, window: int, directed: bool) -> dict[str, float]:
    """Solve (I - d P^T) W = (1 - d) 1, where P[j, i] = 1 / L(j) if j points to i."""
    nodes = list(dict.fromkeys(words))
    index = {word: number for number, word in enumerate(nodes)}
    links = np.zeros((len(nodes), len(nodes)))
    for i, word in enumerate(words):
        for j in range(i + 1, len(words)):
            if j - i < window and words[j] != word:
                links[index[word], index[words[j]]] = 1
                if not directed:
                    links[index[words[j]], index[word]] = 1
    out_degree = links.sum(axis=1, keepdims=True)
    transition = links / np.maximum(out_degree, 1)
    weights = np.linalg.solve(np.eye(len(nodes)) - damping * transition.T, np.full(len(nodes), 1 - damping))
    return dict(zip(nodes, weights, strict=True))


def algorithm_1(words: list[str], d: float, rounds: int, epsilon: float) -> dict[str, float]:
    """Walk through the paper's Algorithm 1 line by line, adjacent words linked."""
    edges = {(a, b) for a, b in itertools.pairwise(words) if a != b}
    out_degree = {v: sum(a == v for a, _ in edges) for v in words}
    weight = {v: 1.0 for v in dict.fromkeys(words)}
    for _ in range(rounds):
        previous = dict(weight)
        for v in weight:
            weight[v] = (1 - d) + d * sum(weight[a] / out_degree[a] for a in weight if (a, v) in edges)
        if sum(abs(weight[v] - previous[v]) for v in weight) < epsilon:
            break
    return weight


def test_worked_example() -> None:
    # a -> b, b -> c, c -> b: a has nothing leading to it, b is fed by a and c, c by b.
    weights = textrank(["a", "b", "c", "b"], damping=0.5, tolerance=1e-12)
    # W(a) = .5; W(b) = .5 + .5 (W(a) + W(c)); W(c) = .5 + .5 W(b)  =>  W(b) = 4/3, W(c) = 7/6
    assert weights == pytest.approx({"a": 0.5, "b": 4 / 3, "c": 7 / 6})


@given(words=WORDS, damping=st.floats(0, 0.95), window=st.integers(2, 6), directed=st.booleans())
@settings(deadline=None)
def test_agrees_with_a_dense_solve(words: list[str], damping: float, window: int, directed: bool) -> None:
    weights = textrank(words, damping=damping, window=window, directed=directed, max_iterations=2000, tolerance=1e-11)
    expected = dense_solution(words, damping=damping, window=window, directed=directed)
    assert list(weights) == list(expected)  # order of first appearance
    assert weights == pytest.approx(expected, abs=1e-8)


@given(words=WORDS, rounds=st.integers(1, 30), epsilon=st.sampled_from([1e-9, 1e-2, 1.0]))
@settings(deadline=None)
def test_agrees_with_algorithm_1_in_every_round(words: list[str], rounds: int, epsilon: float) -> None:
    weights = textrank(words, max_iterations=rounds, tolerance=epsilon)
    assert weights == pytest.approx(algorithm_1(words, 0.85, rounds, epsilon), rel=1e-12)


def test_isolated_word_keeps_the_base_weight() -> None:
    assert textrank(["alone"]) == {"alone": pytest.approx(1 - 0.85)}
    assert textrank(["alone", "alone"]) == {"alone": pytest.approx(1 - 0.85)}  # no link to itself


def test_no_words_no_weights() -> None:
    assert textrank([]) == {}


@given(words=WORDS, seed=st.integers(0, 99))
@settings(deadline=None)
def test_undirected_weights_ignore_order_under_a_wide_window(words: list[str], seed: int) -> None:
    shuffled = words.copy()
    random.Random(seed).shuffle(shuffled)
    options = {"window": max(2, len(words)), "directed": False, "max_iterations": 1000, "tolerance": 1e-10}
    assert textrank(shuffled, **options) == pytest.approx(textrank(words, **options), abs=1e-7)


@given(words=WORDS, window=st.integers(2, 6))
def test_names_do_not_matter(words: list[str], window: int) -> None:
    renamed = [f"{word}{word}" for word in words]
    assert list(textrank(renamed, window=window).values()) == list(textrank(words, window=window).values())


def test_direction_matters() -> None:
    words = ["first", "second", "third"]
    forward = textrank(words)
    assert forward["first"] < forward["second"] < forward["third"]
    both = textrank(words, directed=False)
    assert both["first"] == pytest.approx(both["third"], abs=1e-5)


def test_window_counts_the_words_it_spans() -> None:
    assert word_graph(["a", "b", "c"], window=2) == {"a": ["b"], "b": ["c"], "c": []}
    assert word_graph(["a", "b", "c"], window=3) == {"a": ["b", "c"], "b": ["c"], "c": []}


@pytest.mark.parametrize(
    "options", [{"damping": 1.0}, {"damping": -0.1}, {"window": 1}, {"max_iterations": 0}, {"tolerance": 0.0}]
)
def test_refuses_options_out_of_range(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        textrank(["a", "b"], **options)
