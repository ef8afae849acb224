"""Rows of a shared cache that grow and are set back on their own, against each row alone."""

from itertools import pairwise
from random import Random

import pytest
import torch

from infoconflict.answering.decoding import CachedRows, Continued, draft_greedily
from tests.defenses.pairs import PROMPTS, greedily, next_log_probs, pair


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_a_row_that_was_set_back_goes_on_as_if_nothing_had_been(architecture: str, tiny_dirs) -> None:
    model, _ = pair(tiny_dirs[architecture])
    rng = Random(1)
    texts = [list(prompt) for prompt in PROMPTS]
    cached = CachedRows(model, len(texts))
    logits = cached.feed(texts)
    widths = []
    for step in range(8):
        # Some forget a lot, so that hidden slots come to outnumber the others.
        forgotten = [min(len(text) - 1, rng.choice([0, 1, 5])) for text in texts]
        cached.set_back(forgotten)
        if step == 4:
            cached.keep([4, 1, 2])
            texts, forgotten = [texts[at] for at in (4, 1, 2)], [forgotten[at] for at in (4, 1, 2)]
        new = [[rng.randrange(600) for _ in range(rng.choice([2, 6]))] for _ in texts]
        texts = [text[: len(text) - n] + tokens for text, n, tokens in zip(texts, forgotten, new, strict=True)]
        logits = cached.feed(new, 2)
        widths.append(cached.mask.shape[1])
        assert cached.lengths.tolist() == [len(text) for text in texts]
        assert cached.mask.sum(dim=1).tolist() == [len(text) for text in texts]
    for row, text in enumerate(texts):
        for at in (-1, -2):
            expected = next_log_probs(model, text[: len(text) + at + 1])
            torch.testing.assert_close(logits[row, at].log_softmax(dim=-1), expected, atol=1e-3, rtol=0)
    assert any(later < earlier for earlier, later in pairwise(widths))


def test_a_draft_is_greedy_and_knows_how_likely_it_is(tiny_dirs) -> None:
    model, _ = pair(tiny_dirs["gptj"])
    drafts, log_probs = draft_greedily(CachedRows(model, len(PROMPTS)), PROMPTS, 3)
    assert drafts == [greedily(model, prompt, set(), 3) for prompt in PROMPTS]
    for prompt, draft, row in zip(PROMPTS, drafts, log_probs.tolist(), strict=True):
        for at, value in enumerate(row):
            assert value == pytest.approx(float(next_log_probs(model, prompt + draft[:at]).max()), abs=1e-3)


def test_a_row_ends_with_a_stop_token_or_at_the_limit() -> None:
    row = Continued()
    assert not row.take([1, 2], stop_ids={9}, max_new_tokens=5)
    assert row.take([3, 9, 4], stop_ids={9}, max_new_tokens=5)
    assert row.tokens == [1, 2, 3, 9]
    row = Continued()
    assert row.take([1, 2, 3], stop_ids={3}, max_new_tokens=2)
    assert row.tokens == [1, 2]
