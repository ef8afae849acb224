"""CleanGen: its limits, its blind spot, and the batched form against plain loops."""

import math

import pytest

from infoconflict.answering.generation import continue_greedily
from infoconflict.defenses.cleangen import CleanGen, decode, generate_clean, summarise
from tests.defenses.pairs import PROMPTS, greedily, next_log_probs, pair

ARCHITECTURES = ["llama", "gpt2", "gptj"]
N = 14


def plain_loop(target, reference, prompt, *, alpha, k, check_partial, stop_ids, n):
    """CleanGen as its authors write it: one row, no cache, a block at a time."""
    ids, replaced = list(prompt), 0
    while True:
        start, ratios = len(ids), []
        while len(ids) < start + k and len(ids) < len(prompt) + n:
            log_p = next_log_probs(target, ids)
            token = int(log_p.argmax())
            ratios.append(float(log_p[token] - next_log_probs(reference, ids)[token]))
            ids.append(token)
            if token in stop_ids:
                break
        ended = ids[-1] in stop_ids or len(ids) == len(prompt) + n
        flagged = [i for i, ratio in enumerate(ratios) if ratio >= math.log(alpha)]
        if flagged and (check_partial or not ended):
            del ids[start + flagged[0] :]
            ids.append(int(next_log_probs(reference, ids).argmax()))
            replaced += 1
            ended = ids[-1] in stop_ids or len(ids) == len(prompt) + n
        if ended:
            return ids[len(prompt) :], replaced


@pytest.mark.parametrize("check_partial", [False, True])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_gives_what_plain_loops_give(architecture: str, check_partial: bool, tiny_dirs) -> None:
    target, reference = pair(tiny_dirs[architecture])
    options = {"alpha": 1.3, "k": 4, "check_partial": check_partial}
    free = generate_clean(target, reference, PROMPTS, **options, stop_ids=set(), max_new_tokens=N)
    options["stop_ids"] = {free[0].tokens[6], free[2].tokens[9]}
    expected = [plain_loop(target, reference, prompt, **options, n=N) for prompt in PROMPTS]
    found = generate_clean(target, reference, PROMPTS, **options, max_new_tokens=N)
    assert [(row.tokens, row.counts["replaced"]) for row in found] == expected
    assert len({len(row.tokens) for row in found}) > 1
    ratio = summarise(sum_of(found))["replacement_ratio"]
    assert 0 < ratio < 1


def sum_of(found):
    return {name: sum(row.counts[name] for row in found) for name in found[0].counts}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_an_endless_alpha_replaces_nothing(architecture: str, tiny_dirs) -> None:
    target, reference = pair(tiny_dirs[architecture])
    found = generate_clean(
        target, reference, PROMPTS, alpha=math.inf, k=4, check_partial=True, stop_ids=set(), max_new_tokens=N
    )
    assert [row.tokens for row in found] == continue_greedily(target, PROMPTS, stop_ids=set(), max_new_tokens=N)
    # Both models read prompt and blocks, but for the last token of the last block.
    read = sum(2 * (len(prompt) + 4 * math.ceil(N / 4) - 1) for prompt in PROMPTS)
    assert sum_of(found) == {"checked": N * len(PROMPTS), "replaced": 0, "tokens": N * len(PROMPTS), "read": read}


def test_a_reference_that_is_the_target_replaces_nothing(tiny_dirs) -> None:
    target, _ = pair(tiny_dirs["llama"])
    found = generate_clean(
        target, target, PROMPTS, alpha=1.001, k=4, check_partial=True, stop_ids=set(), max_new_tokens=N
    )
    assert sum_of(found)["replaced"] == 0


def test_a_tiny_alpha_leaves_the_references_text(tiny_dirs) -> None:
    target, reference = pair(tiny_dirs["llama"])
    options = {"alpha": 1e-30, "k": 4, "stop_ids": set(), "max_new_tokens": N}
    found = generate_clean(target, reference, PROMPTS, check_partial=True, **options)
    assert [row.tokens for row in found] == [greedily(reference, prompt, set(), N) for prompt in PROMPTS]
    # Unless the last block goes unchecked: there the text is the target's.
    for prompt, row in zip(
        PROMPTS, generate_clean(target, reference, PROMPTS, check_partial=False, **options), strict=True
    ):
        text = greedily(reference, prompt, set(), N - 4)
        assert row.tokens == text + greedily(target, prompt + text, set(), 4)


def test_short_replies_are_never_looked_at_in_the_authors_form(tiny_dirs) -> None:
    target, reference = pair(tiny_dirs["llama"])
    for check_partial in (False, True):
        options = CleanGen(method="cleangen", alpha=1e-30, check_partial=check_partial)
        found = decode(target, reference, PROMPTS, options, stop_ids=set(), max_new_tokens=4)
        model = reference if check_partial else target
        assert [row.tokens for row in found] == continue_greedily(model, PROMPTS, stop_ids=set(), max_new_tokens=4)
        assert sum_of(found)["checked"] == (4 * len(PROMPTS) if check_partial else 0)


def test_nothing_asked_nothing_answered(tiny_dirs) -> None:
    options = {"alpha": 20.0, "k": 4, "check_partial": False, "stop_ids": set(), "max_new_tokens": 4}
    assert generate_clean(*pair(tiny_dirs["llama"]), [], **options) == []
    assert summarise({"checked": 0, "replaced": 0, "tokens": 0}) == {"replacement_ratio": None, "checked_share": None}
