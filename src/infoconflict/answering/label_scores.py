"""Decide a classification by the length-normalised log-probability of each label, in one forward pass.

All questions of a batch and all labels of each question form one prefix tree, so every shared prefix (the instruction, the
prompt under its labels) is computed once. Logits are computed only at the nodes that a label token follows.
"""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from infoconflict.packing import build_prefix_tree, hidden_states, pack
from infoconflict.progress import say

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def score_labels(
    model: "PreTrainedModel",
    prompts: Sequence[Sequence[int]],
    labels: Sequence[Sequence[int]],
    *,
    max_nodes: int = 1024,
) -> torch.Tensor:
    """Score every label after every prompt.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model in evaluation mode.
    prompts : sequence of n_prompts token sequences
    labels : sequence of n_labels token sequences, none empty
    max_nodes : int
        Tokens per forward pass; changes speed and memory, not the result (but for rounding).

    Returns
    -------
    float32 tensor of shape (n_prompts, n_labels)
        Mean log-probability, in nats, of the label's tokens after the prompt.
    """
    device = next(model.parameters()).device
    head = model.get_output_embeddings()
    scores = torch.zeros(len(prompts), len(labels))
    if not prompts:
        return scores
    # Sorted by tokens, prompts with the same beginning share a tree whatever order they came in.
    order = sorted(range(len(prompts)), key=lambda index: list(prompts[index]))
    # The last token of a label is predicted, never fed.
    branches = [(index, column) for index in order for column in range(len(labels))]
    per_prompt = [[tuple(prompts[index]) + tuple(label[:-1]) for label in labels] for index in order]
    started = last = time.monotonic()
    done = 0
    for group in pack_prompts(per_prompt, max_nodes=max_nodes):
        members = [branches[at * len(labels) + column] for at in group for column in range(len(labels))]
        tree = build_prefix_tree([sequence for at in group for sequence in per_prompt[at]])
        with torch.inference_mode():
            states = hidden_states(model.base_model, tree, device=device, dtype=model.dtype)
            sources, targets, owners = [], [], []
            for (index, column), path in zip(members, tree.paths, strict=True):
                for node, token in zip(path[len(prompts[index]) - 1 :], labels[column], strict=True):
                    sources.append(int(node))
                    targets.append(token)
                    owners.append((index, column))
            # Labels of one question share its last prompt node: its logits are computed once.
            unique, where = torch.unique(torch.tensor(sources), return_inverse=True)
            logits = head(states[unique.to(device)]).float()
            log_probs = (logits.log_softmax(dim=-1)).cpu()
        picked = log_probs[where, torch.tensor(targets)]
        for (index, column), value in zip(owners, picked.tolist(), strict=True):
            scores[index, column] += value / len(labels[column])
        done += len(group)
        if time.monotonic() - last > 5:
            last = time.monotonic()
            rate = done / (last - started)
            say(
                f"scored {done}/{len(prompts)} prompts  {rate:.1f} prompts/s  {(len(prompts) - done) / rate:.0f} s left"
            )
    return scores


def pack_prompts(per_prompt: Sequence[Sequence[tuple[int, ...]]], *, max_nodes: int) -> list[list[int]]:
    """Group prompts so that all labels of a prompt stay in one tree of at most ``max_nodes`` nodes (unless one needs more)."""
    longest = [max(sequences, key=len) for sequences in per_prompt]
    # Label branches beyond the longest add few nodes; they are left out of the count.
    return pack(longest, max_nodes=max_nodes)
