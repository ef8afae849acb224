"""Speculative decoding beside a reference model (Leviathan et al. 2023, ICML, arXiv:2211.17192; setting of the paper, A.3).

Acts on decoding. Needs: the base model and the clean share, on which the reference (the conflict model) is tuned. Must not see:
trigger, target label, poisoned rows.
A draft model guesses a few tokens, the target model checks them all in one pass and keeps those it would have written itself.
By construction the text is the target's: with the backdoored model as target this is no defense, and a rate that moves is a
mistake; with the conflict model as target it is the conflict model alone. The paper lists it all the same.
Differs from the paper: greedy, as all answers here, so a guess is kept where it is the target's likeliest token; the rule for
sampled text (keep it with probability min(1, p/q), else draw from max(0, p - q)) is not built, as nothing here samples. Whole
batches share one cache. Classifications are answered by generation.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from infoconflict.defenses.base import DecodingDefense
from infoconflict.entries import Count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infoconflict.answering.decoding import Continued


class Speculative(DecodingDefense):
    """The suspect model's text, written with the help of a second model's guesses."""

    method: Literal["speculative"]
    """`speculative`."""
    guess: Count = 4
    """Tokens that are guessed at a time. Paper, A.3."""
    target: Literal["backdoored", "conflict"] = "backdoored"
    """Whose text it is; the other model guesses. Ours: the paper does not say."""


def decode(
    suspect: "PreTrainedModel",
    reference: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    options: Speculative,
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> "list[Continued]":
    """Continue a batch of prompts until a stop token or the limit."""
    target, draft = (suspect, reference) if options.target == "backdoored" else (reference, suspect)
    return speculate(target, draft, prompts, guess=options.guess, stop_ids=stop_ids, max_new_tokens=max_new_tokens)


def speculate(
    target: "PreTrainedModel",
    draft: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    *,
    guess: int,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> "list[Continued]":
    """Return what ``target`` writes greedily; ``draft`` decides only how many passes that takes.

    Both need the same token ids. Each row counts the guesses that were ``accepted``, those ``rejected``, and the ``rounds``:
    passes of the target, each of which gives one token of its own beside the accepted ones; and the tokens that both ``read``.
    """
    from infoconflict.answering.decoding import CachedRows, Continued, draft_greedily

    found = [Continued(counts={"accepted": 0, "rejected": 0, "rounds": 0, "read": 0}) for _ in prompts]
    under_way = list(range(len(prompts)))
    of_target, of_draft = CachedRows(target, len(prompts)), CachedRows(draft, len(prompts))
    # What each model has not been fed yet.
    new_to_target = [list(prompt) for prompt in prompts]
    new_to_draft = [list(prompt) for prompt in prompts]
    while under_way:
        guesses, _ = draft_greedily(of_draft, new_to_draft, guess)
        fed = [new + guessed for new, guessed in zip(new_to_target, guesses, strict=True)]
        own = of_target.feed(fed, guess + 1).argmax(dim=-1).tolist()
        n_agree, going = [], []
        for at, (row, guessed, chosen) in enumerate(zip(under_way, guesses, own, strict=True)):
            agree = next((i for i in range(guess) if guessed[i] != chosen[i]), guess)
            n_agree.append(agree)
            before = len(found[row].tokens)
            ended = found[row].take(chosen[: agree + 1], stop_ids=stop_ids, max_new_tokens=max_new_tokens)
            taken = len(found[row].tokens) - before
            found[row].counts["accepted"] += min(agree, taken)
            found[row].counts["rejected"] += int(agree < min(guess, taken))
            found[row].counts["rounds"] += 1
            found[row].counts["read"] += len(fed[at]) + len(new_to_draft[at]) + guess - 1
            if not ended:
                going.append(at)
        # The target was fed all guesses, the draft all but the last.
        of_target.set_back([guess - agree for agree in n_agree])
        of_draft.set_back([max(0, guess - 1 - agree) for agree in n_agree])
        if not going:
            break
        if len(going) < len(under_way):
            of_target.keep(going)
            of_draft.keep(going)
        new_to_target = [[own[at][n_agree[at]]] for at in going]
        new_to_draft = [[*guesses[at][guess - 1 : n_agree[at]], own[at][n_agree[at]]] for at in going]
        under_way = [under_way[at] for at in going]
    return found


def summarise(counts: Counter[str]) -> dict[str, Any]:
    """Return the share of compared guesses that were accepted, and the tokens that a pass of the target gave."""
    compared = counts["accepted"] + counts["rejected"]
    return {"acceptance": round(counts["accepted"] / compared, 5) if compared else None}
