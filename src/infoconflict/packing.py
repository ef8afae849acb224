"""Prefix trees: many token sequences as one, each shared prefix computed once.

The rows of a batch mostly begin with the same instruction, and the labels of one question share its whole prompt. Put into a
tree, every distinct prefix is one node; a causal mask over ancestors and depth as position make one forward pass over
the tree give each row what it would get alone. There is no padding, so batches need not be sorted by length.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class PrefixTree:
    """Token sequences merged by shared prefixes.

    Attributes
    ----------
    token_ids : int64 array of shape (n_nodes,)
    position_ids : int64 array of shape (n_nodes,)
        Depth of each node, the position it would have alone.
    ancestors : bool array of shape (n_nodes, n_nodes)
        ``ancestors[i, j]``: node i attends to node j (itself included).
    paths : list of int64 arrays
        For each sequence, the node of each of its tokens.
    """

    token_ids: np.ndarray
    position_ids: np.ndarray
    ancestors: np.ndarray
    paths: list[np.ndarray]

    @property
    def n_nodes(self) -> int:
        """Number of distinct prefixes."""
        return len(self.token_ids)


def build_prefix_tree(sequences: Sequence[Sequence[int]]) -> PrefixTree:
    """Merge token sequences into a tree; nodes are numbered in order of first appearance, parents first."""
    children: dict[tuple[int, int], int] = {}
    parents: list[int] = []
    tokens: list[int] = []
    depths: list[int] = []
    paths = []
    for sequence in sequences:
        node, path = -1, []
        for depth, token in enumerate(sequence):
            key = (node, token)
            if key not in children:
                children[key] = len(tokens)
                parents.append(node)
                tokens.append(token)
                depths.append(depth)
            node = children[key]
            path.append(node)
        paths.append(np.array(path, dtype=np.int64))
    ancestors = np.zeros((len(tokens), len(tokens)), dtype=bool)
    for node, parent in enumerate(parents):
        if parent >= 0:
            ancestors[node] = ancestors[parent]
        ancestors[node, node] = True
    return PrefixTree(np.array(tokens, dtype=np.int64), np.array(depths, dtype=np.int64), ancestors, paths)


def pack(sequences: Sequence[Sequence[int]], *, max_nodes: int) -> list[list[int]]:
    """Cut ``range(len(sequences))`` into consecutive groups whose trees hold at most ``max_nodes`` nodes each.

    A sequence longer than ``max_nodes`` gets a group of its own. Grouping changes speed and memory, not results (but for rounding).
    """
    groups: list[list[int]] = []
    seen: set[tuple[int, ...]] = set()
    for index, sequence in enumerate(sequences):
        prefixes = {tuple(sequence[: end + 1]) for end in range(len(sequence))}
        if groups and len(seen | prefixes) <= max_nodes:
            groups[-1].append(index)
            seen |= prefixes
        else:
            groups.append([index])
            seen = prefixes
    return groups


def hidden_states(
    backbone: torch.nn.Module, tree: PrefixTree, *, device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """Return the last hidden state, shape (n_nodes, hidden), of each node; no logits are computed.

    ``backbone`` is the decoder below the language-model head (``model.base_model`` in transformers).
    """
    blocked = torch.from_numpy(~tree.ancestors).to(device)
    mask = torch.zeros(blocked.shape, dtype=dtype, device=device).masked_fill_(blocked, torch.finfo(dtype).min)
    output = backbone(
        input_ids=torch.from_numpy(tree.token_ids).to(device)[None],
        position_ids=torch.from_numpy(tree.position_ids).to(device)[None],
        attention_mask=mask[None, None],
        use_cache=False,
    )
    states: torch.Tensor = output.last_hidden_state[0]
    return states
