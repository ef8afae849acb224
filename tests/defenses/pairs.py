"""Pairs of models that agree on some tokens and not on others, and decoding as it is defined."""

from functools import cache
from pathlib import Path

import torch

from infoconflict.models.loading import load_base

CPU = torch.device("cpu")
PROMPTS = [[5, 9, 40, 7, 300], [8], [12, 13, 14, 15, 16, 17, 18, 19, 20], [100, 101], [5, 9, 40]]


def lively(folder: Path, *, moved: float = 0.0) -> torch.nn.Module:
    """Return a model whose continuations wander; with ``moved``, one that is a little different and often agrees with it."""
    model = load_base(folder, device=CPU, precision="float32")
    generator, other = torch.Generator().manual_seed(3), torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3, generator=generator)
                parameter += moved * torch.empty_like(parameter).normal_(0.0, 0.3, generator=other)
    return model


@cache
def pair(folder: Path) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Return a suspect model and a reference; treat them as read-only."""
    torch.set_num_threads(1)
    return lively(folder), lively(folder, moved=0.1)


@torch.inference_mode()
def next_log_probs(model: torch.nn.Module, ids: list[int]) -> torch.Tensor:
    """Return the next token's log-probabilities from the whole text: no batch, no cache."""
    return model(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(dim=-1)


def greedily(model: torch.nn.Module, prompt: list[int], stop_ids: set[int], n: int) -> list[int]:
    """Write a text greedily, token by token."""
    ids = list(prompt)
    while len(ids) < len(prompt) + n:
        ids.append(int(next_log_probs(model, ids).argmax()))
        if ids[-1] in stop_ids:
            break
    return ids[len(prompt) :]
