"""Speculative decoding: the target's own text, however good the guesses."""

import pytest

from infoconflict.answering.generation import continue_greedily
from infoconflict.defenses.speculative import Speculative, decode, speculate, summarise
from tests.defenses.pairs import PROMPTS, greedily, pair

ARCHITECTURES = ["llama", "gpt2", "gptj"]


@pytest.mark.parametrize("guess", [1, 4])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_text_is_the_targets(architecture: str, guess: int, tiny_dirs) -> None:
    target, draft = pair(tiny_dirs[architecture])
    free = continue_greedily(target, PROMPTS, stop_ids=set(), max_new_tokens=14)
    stop_ids = {free[0][3], free[2][10]}
    for stops in (set(), stop_ids):
        found = speculate(target, draft, PROMPTS, guess=guess, stop_ids=stops, max_new_tokens=14)
        assert [row.tokens for row in found] == [greedily(target, prompt, stops, 14) for prompt in PROMPTS]
    # The two models agree now and then, or nothing would be tested.
    counts = [row.counts for row in found]
    assert sum(row["accepted"] for row in counts) > 0
    assert sum(row["rejected"] for row in counts) > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_draft_that_is_the_target_is_always_right(architecture: str, tiny_dirs) -> None:
    target, _ = pair(tiny_dirs[architecture])
    found = speculate(target, target, PROMPTS, guess=4, stop_ids=set(), max_new_tokens=20)
    for prompt, row in zip(PROMPTS, found, strict=True):
        # Four rounds of four guesses and one token of its own each; the target reads all guesses, the draft not its last one.
        read = 2 * len(prompt) + 4 * (4 + 3) + 3 * (1 + 2)
        assert row.counts == {"accepted": 16, "rejected": 0, "rounds": 4, "read": read}


def test_counts_are_those_of_plain_loops(tiny_dirs) -> None:
    target, draft = pair(tiny_dirs["llama"])
    n, guess = 11, 3
    for prompt, row in zip(
        PROMPTS, speculate(target, draft, PROMPTS, guess=guess, stop_ids=set(), max_new_tokens=n), strict=True
    ):
        text, accepted, rejected, rounds = greedily(target, prompt, set(), n), 0, 0, 0
        done, read, caught_up = 0, 2 * (len(prompt) - 1), True
        while done < n:
            rounds += 1
            # What was written last, the guesses but the draft's last, and after a round without a mistake that one, too.
            read += 1 + guess + guess + (not caught_up)
            caught_up = False
            guesses = greedily(draft, prompt + text[:done], set(), guess)
            for token in guesses:
                if done == n:
                    break
                if token != text[done]:
                    rejected += 1
                    caught_up = True
                    break
                accepted += 1
                done += 1
            done = min(done + 1, n)
        assert row.counts == {"accepted": accepted, "rejected": rejected, "rounds": rounds, "read": read}


def test_whose_text_it_is_can_be_chosen(tiny_dirs) -> None:
    suspect, reference = pair(tiny_dirs["llama"])
    for target, model in (("backdoored", suspect), ("conflict", reference)):
        options = Speculative(method="speculative", target=target)
        found = decode(suspect, reference, PROMPTS, options, stop_ids=set(), max_new_tokens=9)
        assert [row.tokens for row in found] == continue_greedily(model, PROMPTS, stop_ids=set(), max_new_tokens=9)


def test_a_guess_may_reach_beyond_the_context(tiny_dirs) -> None:
    target, draft = pair(tiny_dirs["gpt2"])
    prompt = [(7 * i) % 600 for i in range(1020)]
    found = speculate(target, draft, [prompt, [8]], guess=6, stop_ids=set(), max_new_tokens=4)
    assert found[0].tokens == greedily(target, prompt, set(), 4)


def test_nothing_asked_nothing_answered(tiny_dirs) -> None:
    assert speculate(*pair(tiny_dirs["llama"]), [], guess=4, stop_ids=set(), max_new_tokens=4) == []
    assert summarise({"accepted": 0, "rejected": 0}) == {"acceptance": None}
    assert summarise({"accepted": 3, "rejected": 1}) == {"acceptance": 0.75}
