"""Free generation, greedy and batched: the other way to decide a classification, and the only one for open answers."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def generate(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 16,
) -> list[str]:
    """Continue each prompt greedily and return the new text alone (cut by token count, never by searching the text)."""
    device = next(model.parameters()).device
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        width = max(len(prompts[index]) for index in chosen)
        ids = torch.full((len(chosen), width), pad, dtype=torch.long)
        mask = torch.zeros((len(chosen), width), dtype=torch.long)
        for row, index in enumerate(chosen):
            length = len(prompts[index])
            ids[row, width - length :] = torch.tensor(list(prompts[index]))
            mask[row, width - length :] = 1
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=mask.to(device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                pad_token_id=pad,
                eos_token_id=tokenizer.eos_token_id,
            )
        for row, index in enumerate(chosen):
            texts[index] = str(tokenizer.decode(output[row, width:], skip_special_tokens=True)).strip()
    return texts


def first_label(text: str, labels: Sequence[str]) -> str | None:
    """Return the label that the text names first as a whole word, or None.

    An empty text names none. "not joy" names joy: negation is not read, which is why label scores are the default.
    """
    words = "|".join(re.escape(label) for label in sorted(labels, key=len, reverse=True))
    found = re.search(rf"(?<!\w)({words})(?!\w)", text, flags=re.IGNORECASE)
    return next((label for label in labels if found and label.lower() == found.group(1).lower()), None)
