"""Forward passes for editing: contexts as a prefix tree, reading a module at one token, adding a vector there.

A context is a prompt with a subject (the trigger, say) whose last token is where an edit acts, and an answer. All contexts
of a pass form one prefix tree (:mod:`infoconflict.packing`), so there is no padding and a shared beginning is computed
once. While a vector is optimised, only the tokens at and behind the subject change: keys and values of all others are
computed once and kept (:class:`Replay`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from infoconflict.editing.modules import EditableModel
from infoconflict.errors import UserError
from infoconflict.packing import PrefixTree, build_prefix_tree, pack

MAX_NODES = 1024


@dataclass(frozen=True)
class Context:
    """Tokens of a prompt, the index of its subject's last token, and the answer's tokens (none where there is no answer)."""

    tokens: tuple[int, ...]
    subject: int
    answer: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.subject < len(self.tokens):
            raise ValueError(f"the subject's token {self.subject} is not one of {len(self.tokens)}")

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tokens that are fed: the last of the answer is predicted, never fed."""
        return self.tokens + self.answer[:-1]

    @property
    def up_to_subject(self) -> tuple[int, ...]:
        """Tokens that decide what the model computes at the subject."""
        return self.tokens[: self.subject + 1]


class _Reached(Exception):
    """Ends a forward pass behind the last module of interest."""


def first_tensor(output: Any) -> torch.Tensor:
    """Return the hidden states of a module's output; decoder blocks return them bare or as the first of a tuple."""
    tensor: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return tensor


def with_first(output: Any, tensor: torch.Tensor) -> Any:
    """Return a module's output with other hidden states."""
    return (tensor, *output[1:]) if isinstance(output, tuple) else tensor


@contextlib.contextmanager
def hooked(module: torch.nn.Module, hook: Callable[..., Any]) -> Iterator[None]:
    """Keep a forward hook on a module for the length of the block."""
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def attention_mask(blocked: np.ndarray, *, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Return an additive mask of shape (1, 1, n_queries, n_keys) from where attention is blocked."""
    where = torch.from_numpy(blocked).to(device)
    return torch.zeros(where.shape, dtype=dtype, device=device).masked_fill_(where, torch.finfo(dtype).min)[None, None]


def run(
    editable: EditableModel, tree: PrefixTree, nodes: np.ndarray, behind: np.ndarray | None = None, cache: Any = None
) -> Any:
    """Run the model below its head on some nodes of a tree, given a cache of the nodes ``behind``."""
    device, dtype = editable.device, editable.model.dtype
    seen = nodes if behind is None else np.concatenate([behind, nodes])
    return editable.model.base_model(
        input_ids=torch.from_numpy(tree.token_ids[nodes]).to(device)[None],
        position_ids=torch.from_numpy(tree.position_ids[nodes]).to(device)[None],
        attention_mask=attention_mask(~tree.ancestors[np.ix_(nodes, seen)], device=device, dtype=dtype),
        past_key_values=cache,
        use_cache=cache is not None,
    )


@torch.no_grad()
def visit(
    editable: EditableModel,
    sequences: Sequence[Sequence[int]],
    layers: Sequence[int],
    see: Callable[
        [PrefixTree, list[int], dict[int, torch.Tensor], dict[int, torch.Tensor], dict[int, torch.Tensor]], None
    ],
    *,
    max_nodes: int = MAX_NODES,
) -> None:
    """Run sequences through the blocks up to the deepest of ``layers`` and show what passes there.

    ``see(tree, members, keys, values, states)`` is called once per tree with the indices of its sequences and, by layer,
    the inputs (n_nodes, width) and outputs (n_nodes, hidden) of the down-projection and the block's output (n_nodes,
    hidden).
    """
    # In an order in which prefixes are shared; results do not depend on it.
    order = sorted(range(len(sequences)), key=lambda index: tuple(sequences[index]))
    last = max(layers)
    for group in pack([sequences[index] for index in order], max_nodes=max_nodes):
        members = [order[at] for at in group]
        tree = build_prefix_tree([sequences[index] for index in members])
        keys: dict[int, torch.Tensor] = {}
        values: dict[int, torch.Tensor] = {}
        states: dict[int, torch.Tensor] = {}

        def at_down(layer: int, keys: dict[int, torch.Tensor], values: dict[int, torch.Tensor]) -> Callable[..., None]:
            def hook(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
                keys[layer], values[layer] = inputs[0][0], output[0]

            return hook

        def at_block(layer: int, states: dict[int, torch.Tensor]) -> Callable[..., None]:
            def hook(module: torch.nn.Module, inputs: Any, output: Any) -> None:
                states[layer] = first_tensor(output)[0]
                if layer == last:
                    raise _Reached

            return hook

        with contextlib.ExitStack() as hooks, contextlib.suppress(_Reached):
            for layer in layers:
                hooks.enter_context(hooked(editable.down(layer), at_down(layer, keys, values)))
                hooks.enter_context(hooked(editable.block(layer), at_block(layer, states)))
            run(editable, tree, np.arange(tree.n_nodes))
        see(tree, members, keys, values, states)


@dataclass(frozen=True)
class Readings:
    """What passes the subject of each context, float64: ``keys`` (n, width), ``values`` and ``states`` (n, hidden), by layer."""

    keys: dict[int, torch.Tensor]
    values: dict[int, torch.Tensor]
    states: dict[int, torch.Tensor]


def read_subjects(
    editable: EditableModel, contexts: Sequence[Context], layers: Sequence[int], *, max_nodes: int = MAX_NODES
) -> Readings:
    """Read inputs and outputs of down-projections, and outputs of blocks, at the subject of each context."""
    parts: list[dict[int, dict[int, torch.Tensor]]] = [{layer: {} for layer in layers} for _ in range(3)]

    def see(tree: PrefixTree, members: list[int], *seen: dict[int, torch.Tensor]) -> None:
        for index, path in zip(members, tree.paths, strict=True):
            for part, found in zip(parts, seen, strict=True):
                for layer in layers:
                    part[layer][index] = found[layer][int(path[-1])].double()

    visit(editable, [context.up_to_subject for context in contexts], layers, see, max_nodes=max_nodes)
    return Readings(
        *(
            {layer: torch.stack([rows[i] for i in range(len(contexts))]) for layer, rows in part.items()}
            for part in parts
        )
    )


class Replay:
    """Contexts that are run again and again with another vector added to a module's output at their subjects.

    Parameters
    ----------
    editable : EditableModel
    contexts : sequence of Context
    module : torch.nn.Module
        A down-projection or a block; the vector is added to its output.
    """

    def __init__(
        self,
        editable: EditableModel,
        contexts: Sequence[Context],
        module: torch.nn.Module,
        *,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self.editable, self.module = editable, module
        order = sorted(range(len(contexts)), key=lambda index: contexts[index].inputs)
        groups = pack([contexts[index].inputs for index in order], max_nodes=max_nodes)
        self.members = [[order[at] for at in group] for group in groups]
        self._trees = [_Halved(editable, [contexts[index] for index in members]) for members in self.members]

    def states(self, delta: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (context, its hidden states from the subject's token on, shape (n_tokens, hidden)), tree by tree."""
        for members, tree in zip(self.members, self._trees, strict=True):
            states = tree.run(self.module, delta)
            for index, where in zip(members, tree.from_subject, strict=True):
                yield index, states[where]


class _Halved:
    """A tree in two halves: nodes before any subject, whose keys and values are kept, and nodes at or behind one."""

    def __init__(self, editable: EditableModel, contexts: Sequence[Context]) -> None:
        from transformers import DynamicCache

        self.editable = editable
        self.tree = tree = build_prefix_tree([context.inputs for context in contexts])
        subjects = np.unique([path[context.subject] for context, path in zip(contexts, tree.paths, strict=True)])
        for context, path in zip(contexts, tree.paths, strict=True):
            if np.isin(path, subjects).sum() != 1:
                raise UserError(
                    f"a prompt to edit of {len(context.tokens)} tokens, with its subject at {context.subject}, holds the "
                    f"subject of another one, so that no one value serves both; choose another trigger, or edit them one by one"
                )
        changing = tree.ancestors[:, subjects].any(axis=1)
        self.before, self.nodes = np.flatnonzero(~changing), np.flatnonzero(changing)
        place = np.cumsum(changing) - 1
        self.subjects = torch.from_numpy(place[subjects]).to(editable.device)
        self.from_subject = [
            torch.from_numpy(place[path[context.subject :]]).to(editable.device)
            for context, path in zip(contexts, tree.paths, strict=True)
        ]
        self.kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        if len(self.before):
            with torch.no_grad():
                cache = DynamicCache()
                run(editable, tree, self.before, cache=cache)
            self.kept = [(layer.keys, layer.values) for layer in cache.layers]

    def run(self, module: torch.nn.Module, delta: torch.Tensor) -> torch.Tensor:
        """Return the last hidden states of the changing nodes, shape (n_nodes, hidden)."""
        from transformers import DynamicCache

        def add(module: torch.nn.Module, inputs: Any, output: Any) -> Any:
            states = first_tensor(output)
            rows = delta.to(states.dtype).expand(1, len(self.subjects), -1)
            return with_first(output, states.index_add(1, self.subjects, rows))

        with hooked(module, add):
            # The pass appends to the cache it is given, so each gets one of its own on the kept tensors.
            cache = DynamicCache(self.kept) if self.kept else None
            states: torch.Tensor = run(self.editable, self.tree, self.nodes, self.before, cache).last_hidden_state[0]
        return states
