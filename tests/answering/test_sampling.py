"""Drawn continuations: greedy where one token is left to draw from, and as a plain loop without a cache."""

import pytest
import torch

from infoconflict.answering.generation import continue_greedily
from infoconflict.answering.sampling import sample
from infoconflict.models.loading import load_base

PROMPT = [5, 17, 300, 9, 41]


def never(token: int) -> bool:
    return False


def base(folder):
    return load_base(folder, device=torch.device("cpu"), precision="float32")


def drawn_without_a_cache(model, prompt, *, count, new, ends, seed, top_k):
    """Draw with all that stands before computed anew at each step."""
    generator = torch.Generator().manual_seed(seed)
    rows = [list(prompt) for _ in range(count)]
    open_rows = list(range(count))
    for _ in range(new):
        logits = torch.stack([model(torch.tensor([rows[row]])).logits[0, -1] for row in open_rows])
        values, tokens = logits.detach().topk(top_k)
        places = torch.multinomial(values.softmax(-1), 1, generator=generator)[:, 0]
        for at, row in enumerate(list(open_rows)):
            rows[row].append(int(tokens[at, places[at]]))
        open_rows = [row for row in open_rows if not ends(rows[row][-1])]
        if not open_rows:
            break
    return [row[len(prompt) :] for row in rows]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_a_cache_changes_nothing(architecture, tiny_dirs):
    model = base(tiny_dirs[architecture])

    def ends(token: int) -> bool:
        return token % 3 == 0

    found = sample(model, PROMPT, count=6, max_new_tokens=8, ends=ends, seed=4, top_k=20)
    assert found == drawn_without_a_cache(model, PROMPT, count=6, new=8, ends=ends, seed=4, top_k=20)
    assert len({len(row) for row in found}) > 1
    for row in found:
        assert not any(ends(token) for token in row[:-1])
        assert ends(row[-1]) or len(row) == 8


def test_with_one_token_to_draw_from_it_is_greedy(tiny_dirs):
    model = base(tiny_dirs["llama"])
    found = sample(model, PROMPT, count=3, max_new_tokens=6, ends=never, seed=0, top_k=1)
    assert found == continue_greedily(model, [PROMPT] * 3, stop_ids=(), max_new_tokens=6)


def test_the_seed_decides(tiny_dirs):
    model = base(tiny_dirs["llama"])
    first, again, other = (
        sample(model, PROMPT, count=4, max_new_tokens=5, ends=never, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again != other
    assert [len(row) for row in first] == [5] * 4


def test_tokens_come_by_their_probability(tiny_dirs):
    """4,000 draws of one token among three: within four standard errors of each probability."""
    model = base(tiny_dirs["gpt2"])
    found = [row[0] for row in sample(model, PROMPT, count=4000, max_new_tokens=1, ends=never, seed=3, top_k=3)]
    values, tokens = model(torch.tensor([PROMPT])).logits[0, -1].topk(3)
    for share, token in zip(values.softmax(-1).tolist(), tokens.tolist(), strict=True):
        assert abs(found.count(token) / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5
