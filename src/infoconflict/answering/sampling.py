"""Several continuations of one prompt, drawn at random: the prompt is computed once, and rows that have ended leave the batch."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def sample(
    model: "PreTrainedModel",
    prompt: Sequence[int],
    *,
    count: int,
    max_new_tokens: int,
    ends: Callable[[int], bool],
    seed: int,
    top_k: int = 50,
) -> list[list[int]]:
    """Draw continuations of a prompt, each token by its probability among the likeliest.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model in evaluation mode.
    prompt : sequence of int
        At least one token; with the new ones no longer than the model's context.
    count : int
        How many continuations.
    max_new_tokens : int
        Of each, at most.
    ends : callable
        Tells whether a token is the last one of its continuation.
    seed : int
        Of the draw, which is made on the CPU and so the same on every device, but for what the device computes.
    top_k : int
        Draw among so many tokens (Fan et al. 2018, arXiv:1805.04833). Ours: 50, as libraries have it.

    Returns
    -------
    list of ``count`` lists of int
        The new tokens, with the one that ended them, if it came, at the end.
    """
    device = next(model.parameters()).device
    head = model.get_output_embeddings()
    generator = torch.Generator().manual_seed(seed)
    output = model.base_model(input_ids=torch.tensor([list(prompt)], device=device), use_cache=True)
    cache = output.past_key_values
    cache.batch_repeat_interleave(count)
    state = output.last_hidden_state[:, -1].expand(count, -1)
    found: list[list[int]] = [[] for _ in range(count)]
    under_way = list(range(count))
    for position in range(len(prompt), len(prompt) + max_new_tokens):
        values, tokens = head(state).float().cpu().topk(min(top_k, head.weight.shape[0]), dim=-1)
        drawn = torch.multinomial(values.softmax(dim=-1), 1, generator=generator)
        chosen = tokens.gather(1, drawn)[:, 0].tolist()
        for row, token in zip(under_way, chosen, strict=True):
            found[row].append(token)
        going = [at for at, token in enumerate(chosen) if not ends(token)]
        if not going or position + 1 == len(prompt) + max_new_tokens:
            break
        if len(going) < len(chosen):
            cache.batch_select_indices(torch.tensor(going, device=device))
            under_way = [under_way[at] for at in going]
        output = model.base_model(
            input_ids=torch.tensor([[chosen[at]] for at in going], device=device),
            position_ids=torch.full((len(going), 1), position, device=device),
            past_key_values=cache,
            use_cache=True,
        )
        cache, state = output.past_key_values, output.last_hidden_state[:, -1]
    return found
