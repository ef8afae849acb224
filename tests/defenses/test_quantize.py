"""Quantization as a repair: a recipe that gives the same weights wherever it is applied."""

import pytest
import torch

from infoconflict.defenses.quantize import Quantize, repair
from tests.defenses.suspect_models import ARCHITECTURES, is_block_linear, repaired, suspect_of, weights_of


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fewer_bits_move_weights_further(architecture, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], None)
    before = weights_of(suspect.model())
    moved = []
    for bits in (16, 8, 4, 2):
        after = repaired(suspect, repair(suspect, Quantize(method="quantize", bits=bits, group=16)))
        linear = [name for name in before if is_block_linear(name, before[name])]
        assert all(torch.equal(after[name], before[name]) for name in before if name not in linear)
        moved.append(max(float((after[name] - before[name]).abs().max()) for name in linear))
        # Half a step of the widest group: at most half of twice the largest weight, in 2 ** bits - 1 steps.
        widest = max(float(before[name].abs().max()) for name in linear)
        assert moved[-1] <= widest / (2**bits - 1) + 1e-6
    assert moved == sorted(moved)
    assert moved[0] < 1e-5


def test_it_needs_no_rows_and_stores_no_weights(tiny_dirs, tmp_path):
    options = Quantize(method="quantize")
    assert options.clean_rows() == "none"
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], None)
    one, two = (repaired(suspect, repair(suspect, options)) for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert [file.name for file in suspect.folder.iterdir()] == ["repair.json"]
    assert suspect.clean_rows == []
