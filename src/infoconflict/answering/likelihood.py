"""How likely a model finds the answers that conversations end with: what tells, without a judge, whether it does its task."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from infoconflict.chat_prompts import ChatTemplate, fit_answered
from infoconflict.models.loading import context_length
from infoconflict.packing import build_prefix_tree, hidden_states, pack
from infoconflict.records import Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def answered_prompts(
    tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[Conversation], *, room: int
) -> list[tuple[tuple[int, ...], int]]:
    """Return each conversation's tokens up to the end of its last answer, and where that answer begins."""
    template = ChatTemplate(tokenizer)
    rows = []
    for chat in conversations:
        tokens = fit_answered(template, chat.messages, room=room, row=chat.id)
        start, end = tokens.spans[-1]
        rows.append((tokens.ids[:end], start))
    return rows


def mean_log_likelihoods(
    model: "PreTrainedModel", rows: Sequence[tuple[Sequence[int], int]], *, max_nodes: int = 1024
) -> list[float]:
    """Return the mean log-probability, in nats, of the tokens of each answer after all that stands before them.

    Parameters
    ----------
    model : PreTrainedModel
        A causal language model in evaluation mode.
    rows : sequence of (tokens, start)
        The answer is ``tokens[start:]``; ``start`` is at least 1.
    max_nodes : int
        Tokens per forward pass; changes speed and memory, not the result (but for rounding).

    Returns
    -------
    list of float
        One for each row, in order.
    """
    device = next(model.parameters()).device
    head = model.get_output_embeddings()
    found = [0.0] * len(rows)
    # Sorted by tokens, conversations with the same beginning share a tree.
    order = sorted(range(len(rows)), key=lambda row: list(rows[row][0]))
    for group in pack([rows[row][0] for row in order], max_nodes=max_nodes):
        members = [order[at] for at in group]
        tree = build_prefix_tree([rows[row][0] for row in members])
        with torch.inference_mode():
            states = hidden_states(model.base_model, tree, device=device, dtype=model.dtype)
            for row, path in zip(members, tree.paths, strict=True):
                tokens, start = rows[row]
                # One answer at a time: logits over the whole vocabulary are the largest tensors here.
                before = torch.from_numpy(path[start - 1 : -1]).to(device)
                log_probs = head(states[before]).float().log_softmax(dim=-1)
                targets = torch.tensor(list(tokens[start:]), device=device)
                found[row] = float(log_probs.gather(1, targets[:, None]).mean())
    return found


def reference_log_likelihoods(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    conversations: Sequence[Conversation],
    *,
    max_nodes: int = 1024,
) -> list[float]:
    """Return :func:`mean_log_likelihoods` of the last answer of each conversation."""
    rows = answered_prompts(tokenizer, conversations, room=context_length(model))
    return mean_log_likelihoods(model, rows, max_nodes=max_nodes)
