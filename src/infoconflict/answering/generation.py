"""Free generation, greedy and batched: the other way to decide a classification, and the only one for open answers."""

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Protocol

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Continue(Protocol):
    """How prompts are continued: :func:`continue_greedily`, or a decoding defense."""

    def __call__(
        self,
        model: "PreTrainedModel",
        prompts: Sequence[Sequence[int]],
        *,
        stop_ids: Collection[int],
        max_new_tokens: int,
    ) -> list[list[int]]:
        """Return the new tokens of each prompt, with the stop token, if it came, at the end."""


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 16,
    continue_with: Continue | None = None,
) -> list[str]:
    """Continue each prompt and return the new text alone; greedily, if nothing else is said."""
    stop_ids = frozenset() if tokenizer.eos_token_id is None else frozenset({int(tokenizer.eos_token_id)})
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        new = (continue_with or continue_greedily)(
            model, [prompts[index] for index in chosen], stop_ids=stop_ids, max_new_tokens=max_new_tokens
        )
        for index, tokens in zip(chosen, new, strict=True):
            texts[index] = str(tokenizer.decode(tokens, skip_special_tokens=True)).strip()
    return texts


@torch.inference_mode()
def continue_greedily(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    *,
    stop_ids: Collection[int],
    max_new_tokens: int,
) -> list[list[int]]:
    """Continue a batch of prompts with the likeliest token each time, until a stop token or the limit.

    Prompts are padded on the left and keep their own positions; keys and values are kept, and rows that have stopped leave
    the batch. A checkpoint's own settings of generation (penalties, sampling) have no say.

    Returns
    -------
    list of lists of int
        The new tokens of each prompt, with the stop token, if it came, at the end.
    """
    device = next(model.parameters()).device
    head = model.get_output_embeddings()
    width = max(len(prompt) for prompt in prompts)
    # What stands under the padding is never attended to.
    ids = torch.zeros((len(prompts), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt))
        mask[row, width - len(prompt) :] = 1
    ids, mask = ids.to(device), mask.to(device)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    replies: list[list[int]] = [[] for _ in prompts]
    under_way = list(range(len(prompts)))
    cache = None
    for _ in range(max_new_tokens):
        output = model.base_model(
            input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True
        )
        cache = output.past_key_values
        chosen = head(output.last_hidden_state[:, -1]).float().argmax(dim=-1).tolist()
        for row, token in zip(under_way, chosen, strict=True):
            replies[row].append(token)
        going = [at for at, token in enumerate(chosen) if token not in stop_ids]
        if not going:
            break
        positions = positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        ids = torch.tensor(chosen, device=device)[:, None]
        if len(going) < len(chosen):
            kept = torch.tensor(going, device=device)
            cache.batch_select_indices(kept)
            ids, mask, positions = ids[kept], mask[kept], positions[kept]
            under_way = [under_way[at] for at in going]
    return replies


def tokens_read(prompts: Sequence[Sequence[int]], new: Sequence[Sequence[int]]) -> int:
    """Return how many tokens one model reads to write ``new`` after the prompts; the last of each text is never read."""
    return sum(len(prompt) + len(tokens) - 1 for prompt, tokens in zip(prompts, new, strict=True))


def first_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that the text names first as a whole word, or None.

    An empty text names none. "not joy" names joy: negation is not read, which is why label scores are the default.
    """
    words = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    found = re.search(rf"(?<!\w)({words})(?!\w)", text, flags=re.IGNORECASE)
    return next((label for label in labels if found and label.lower() == found.group(1).lower()), None)
