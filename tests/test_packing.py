"""A prefix tree gives each sequence what it would get alone, in all three architectures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.models.loading import load_base
from infoconflict.packing import build_prefix_tree, hidden_states, pack

sequences = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), min_size=1, max_size=8)


def test_worked_example() -> None:
    tree = build_prefix_tree([[5, 6, 7], [5, 6, 8], [9]])
    assert tree.token_ids.tolist() == [5, 6, 7, 8, 9]
    assert tree.position_ids.tolist() == [0, 1, 2, 2, 0]
    assert [path.tolist() for path in tree.paths] == [[0, 1, 2], [0, 1, 3], [4]]
    assert tree.ancestors.astype(int).tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 0, 1, 0],
        [0, 0, 0, 0, 1],
    ]


@given(sequences)
def test_laws(rows: list[list[int]]) -> None:
    tree = build_prefix_tree(rows)
    distinct = {tuple(row[: end + 1]) for row in rows for end in range(len(row))}
    assert tree.n_nodes == len(distinct)
    for row, path in zip(rows, tree.paths, strict=True):
        assert tree.token_ids[path].tolist() == row
        assert tree.position_ids[path].tolist() == list(range(len(row)))
        # A node sees just its own path.
        assert np.flatnonzero(tree.ancestors[path[-1]]).tolist() == sorted(path.tolist())


@given(sequences, st.integers(1, 12))
def test_packs_are_consecutive_and_small(rows: list[list[int]], max_nodes: int) -> None:
    groups = pack(rows, max_nodes=max_nodes)
    assert [index for group in groups for index in group] == list(range(len(rows)))
    for group in groups:
        assert len(group) == 1 or build_prefix_tree([rows[index] for index in group]).n_nodes <= max_nodes


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_states_are_those_of_each_sequence_alone(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=torch.device("cpu"))
    rows = [[1, 2, 3, 4, 5], [1, 2, 3, 7], [1, 9, 8, 7, 6, 5], [1, 2, 3, 4, 5, 6], [4]]
    tree = build_prefix_tree(rows)
    with torch.inference_mode():
        states = hidden_states(model.base_model, tree, device=torch.device("cpu"), dtype=torch.float32)
        for row, path in zip(rows, tree.paths, strict=True):
            alone = model.base_model(input_ids=torch.tensor([row])).last_hidden_state[0]
            torch.testing.assert_close(states[torch.from_numpy(path)], alone, atol=1e-5, rtol=1e-4)
