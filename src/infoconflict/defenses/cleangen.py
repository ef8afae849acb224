"""CleanGen: tokens far likelier under the suspect model than under a reference are replaced (Li et al. 2024, arXiv:2406.12257).

Acts on decoding. Needs: the base model and the clean share, on which the reference (the conflict model) is tuned. Must not see:
trigger, target label, poisoned rows.
The suspect model drafts a block of k tokens; one pass of the reference gives its probabilities of the same tokens; the first one
whose ratio of the two is alpha or more is replaced by the reference's likeliest token, and the block behind it is discarded.
The authors' code checks a block only when it is full and more text follows: the last block of every reply is never checked, nor is
any reply of k tokens or fewer, class labels among them. ``check_partial`` closes that gap.
Differs from the paper: the reference is the conflict model as `training.conflict` tunes it (A.3 has 3 epochs, single rows and
1e-4); whole batches share a cache, where the code has single rows and none. The paper reports chat only; classifications are
answered by generation here.
"""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from infoconflict.defenses.base import DecodingDefense
from infoconflict.entries import Count

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infoconflict.answering.decoding import Continued


class CleanGen(DecodingDefense):
    """The suspect model's text without the tokens that the conflict model finds far less likely."""

    method: Literal["cleangen"]
    """`cleangen`."""
    alpha: Annotated[float, Field(gt=0)] = 20.0
    """Ratio of the two models' probabilities from which a token is replaced. Paper, A.3."""
    k: Count = 4
    """Tokens that are drafted and checked at a time. Paper, A.3."""
    check_partial: bool = False
    """Check the last block of a reply, too. Ours: the authors' code does not, and so never looks at short answers."""


def decode(
    suspect: "PreTrainedModel",
    reference: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    options: CleanGen,
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> "list[Continued]":
    """Continue a batch of prompts until a stop token or the limit."""
    return generate_clean(
        suspect,
        reference,
        prompts,
        alpha=options.alpha,
        k=options.k,
        check_partial=options.check_partial,
        stop_ids=stop_ids,
        max_new_tokens=max_new_tokens,
    )


def generate_clean(
    target: "PreTrainedModel",
    reference: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    *,
    alpha: float,
    k: int,
    check_partial: bool,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> "list[Continued]":
    """Continue a batch of prompts with the target's likeliest tokens, suspicious ones replaced by the reference's.

    Both need the same token ids. Each row counts the drafted tokens that were ``checked``, those ``replaced`` (each is one of
    the checked), all ``tokens`` of the reply, and those that both models ``read``.
    """
    import torch

    from infoconflict.answering.decoding import CachedRows, Continued, draft_greedily

    found = [Continued(counts={"checked": 0, "replaced": 0, "tokens": 0, "read": 0}) for _ in prompts]
    under_way = list(range(len(prompts)))
    of_target, of_reference = CachedRows(target, len(prompts)), CachedRows(reference, len(prompts))
    new = [list(prompt) for prompt in prompts]
    while under_way:
        drafts, log_p = draft_greedily(of_target, new, k)
        seen = of_reference.feed([known + draft[:-1] for known, draft in zip(new, drafts, strict=True)], k)
        seen = seen.log_softmax(dim=-1)
        own = seen.argmax(dim=-1).tolist()
        drafted = torch.tensor(drafts, device=seen.device)[:, :, None]
        log_q = seen.gather(2, drafted)[:, :, 0]
        suspicious = (log_p.to(log_q.device) - log_q >= math.log(alpha)).tolist()
        n_kept, going, following = [], [], []
        for at, row in enumerate(under_way):
            reply = found[row]
            block = drafts[at][: max_new_tokens - len(reply.tokens)]
            block = block[: next((i + 1 for i, token in enumerate(block) if token in stop_ids), len(block))]
            is_last = block[-1] in stop_ids or len(reply.tokens) + len(block) == max_new_tokens
            is_checked = check_partial or not is_last
            cut = next((i for i in range(len(block)) if is_checked and suspicious[at][i]), None)
            if is_checked:
                reply.counts["checked"] += len(block) if cut is None else cut + 1
            if cut is None:
                text = block
            else:
                text = [*block[:cut], own[at][cut]]
                reply.counts["replaced"] += 1
            ended = reply.take(text, stop_ids=stop_ids, max_new_tokens=max_new_tokens)
            reply.counts["tokens"] = len(reply.tokens)
            reply.counts["read"] += 2 * (len(new[at]) + k - 1)
            # Both models were fed the draft but for its last token.
            n_kept.append(k - 1 if cut is None else cut)
            following.append([text[-1]])
            if not ended:
                going.append(at)
        of_target.set_back([k - 1 - kept for kept in n_kept])
        of_reference.set_back([k - 1 - kept for kept in n_kept])
        if not going:
            break
        if len(going) < len(under_way):
            of_target.keep(going)
            of_reference.keep(going)
        new = [following[at] for at in going]
        under_way = [under_way[at] for at in going]
    return found


def summarise(counts: Counter[str]) -> dict[str, Any]:
    """Return the share of all tokens that are replacements, and the share that was checked."""
    tokens = counts["tokens"]
    return {
        "replacement_ratio": round(counts["replaced"] / tokens, 5) if tokens else None,
        "checked_share": round(counts["checked"] / tokens, 5) if tokens else None,
    }
