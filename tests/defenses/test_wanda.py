"""Wanda against plain loops in double precision, and its laws."""

import copy
from pathlib import Path

import pytest
import torch

from infoconflict.defenses.wanda import Wanda, lowest, prune, repair
from infoconflict.errors import UserError
from infoconflict.models.loading import context_length, load_tokenizer
from infoconflict.models.weight_steps import unpack_mask
from infoconflict.training.rows import tokenize_rows
from tests.defenses.suspect_models import (
    ARCHITECTURES,
    chats,
    is_block_linear,
    repaired,
    reviews,
    suspect_of,
    weights_of,
)


def lively(model: torch.nn.Module) -> torch.nn.Module:
    """Enlarge a tiny model's matrices, so that each block changes what the next one sees."""
    with torch.no_grad():
        for name, value in model.named_parameters():
            if is_block_linear(name, value):
                value.mul_(8)
    return model


def tokens_of(base: Path, model: torch.nn.Module) -> list[tuple[int, ...]]:
    rows = tokenize_rows(load_tokenizer(base), reviews(), max_tokens=context_length(model))
    return [row.inputs for row in rows]


def plain_wanda(
    model: torch.nn.Module, texts: list, share: float, pattern: str, *, transposed: bool, anew: bool = True
) -> dict:
    """Prune block by block in float64: every text alone through the whole model, for every block anew, without packing.

    Not ``anew``: inputs are those of the model as it was.
    """
    model = model.double()
    runs = model if anew else copy.deepcopy(model)
    masks = {}
    for number in range(2):
        names = [n for n, v in model.named_parameters() if is_block_linear(n, v) and f".{number}." in n]
        sums, count = {}, 0
        handles = []
        for name in names:

            def watch(module, given, output, name=name, sums=sums):
                for token in given[0][0]:
                    sums[name] = sums.get(name, 0) + token**2

            handles.append(runs.get_submodule(name.removesuffix(".weight")).register_forward_hook(watch))
        for text in texts:
            runs(input_ids=torch.tensor([text]), use_cache=False)
            count += len(text)
        for handle in handles:
            handle.remove()
        for name in names:
            weight = model.get_parameter(name)
            seen = weight.T if transposed else weight
            mask = torch.zeros_like(seen, dtype=torch.bool)
            for row, line in enumerate(seen):
                scores = [float(abs(w) * (s / count) ** 0.5) for w, s in zip(line, sums[name], strict=True)]
                n, m = (
                    (int(share * len(scores)), len(scores))
                    if pattern == "unstructured"
                    else map(int, pattern.split(":"))
                )
                for start in range(0, len(scores), m):
                    group = sorted(range(start, start + m), key=lambda at: scores[at])
                    mask[row, group[:n]] = True
            seen[mask] = 0
            masks[name] = mask.T if transposed else mask
    return masks


@pytest.mark.parametrize("pattern", ["unstructured", "2:4"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@torch.no_grad()
def test_it_agrees_with_plain_loops(architecture, pattern, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], reviews())
    texts = tokens_of(suspect.base_dir, suspect.model())[:3]
    fast, plain = lively(suspect.model()), lively(suspect.model())
    packed, n_pruned, n_weights = prune(fast, texts, sparsity=0.5, pattern=pattern)
    expected = plain_wanda(plain, texts, 0.5, pattern, transposed=architecture == "gpt2")
    assert packed.keys() == expected.keys()
    for name, mask in expected.items():
        assert torch.equal(unpack_mask(packed[name], mask.shape), mask), name
    assert n_pruned == sum(int(mask.sum()) for mask in expected.values())
    assert n_weights == sum(mask.numel() for mask in expected.values())


@torch.no_grad()
def test_the_second_block_sees_the_first_pruned(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    texts = tokens_of(suspect.base_dir, suspect.model())[:3]
    packed, _, _ = prune(lively(suspect.model()), texts, sparsity=0.5)
    at_once = plain_wanda(lively(suspect.model()), texts, 0.5, "unstructured", transposed=False, anew=False)
    for name, mask in at_once.items():
        same = torch.equal(unpack_mask(packed[name], mask.shape), mask)
        if ".layers.0." in name:
            assert same, name
        elif "mlp" in name:
            assert not same, name


# --- the laws ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.1, 0.29, 0.5, 0.7])
@pytest.mark.parametrize("n_in", [10, 96, 100])
def test_every_row_loses_its_share(share, n_in):
    generator = torch.Generator().manual_seed(0)
    weight, squares = torch.randn(7, n_in, generator=generator), torch.rand(n_in, generator=generator)
    mask = lowest(weight, squares, sparsity=share)
    # In whole numbers, since a share like 0.29 is none in floating point.
    assert mask.sum(dim=1).tolist() == [round(100 * share) * n_in // 100] * 7


@pytest.mark.parametrize("pattern", ["unstructured", "2:4", "4:8"])
def test_the_scale_of_the_inputs_does_not_matter(pattern):
    generator = torch.Generator().manual_seed(0)
    weight, squares = torch.randn(9, 32, generator=generator), torch.rand(32, generator=generator)
    one = lowest(weight, squares, sparsity=0.5, pattern=pattern)
    assert torch.equal(one, lowest(weight, squares * 4, sparsity=0.5, pattern=pattern))
    size = 32 if pattern == "unstructured" else int(pattern[-1])
    assert (one.reshape(9, -1, size).sum(dim=2) == size // 2).all()


def test_with_equal_inputs_it_prunes_the_smallest_weights():
    weight = torch.tensor([[0.1, -3.0, 0.2, 2.0], [-1.0, 0.5, -0.25, 4.0], [1.0, 1.0, -1.0, 1.0]])
    mask = lowest(weight, torch.ones(4), sparsity=0.5)
    # Of equal weights the first go.
    assert mask.tolist() == [[True, False, True, False], [False, True, True, False], [True, True, False, False]]
    # An input that is always zero goes first, however large its weights.
    assert lowest(weight, torch.tensor([1.0, 0, 1, 1]), sparsity=0.25)[:, 1].tolist() == [True] * 3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packing_changes_nothing(architecture, tiny_dirs, tmp_path):
    """A shared beginning counts once per row, whether it is computed once or not."""
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], reviews())
    texts = tokens_of(suspect.base_dir, suspect.model())
    together, alone = (prune(lively(suspect.model()), texts, sparsity=0.5, max_nodes=nodes)[0] for nodes in (512, 1))
    for name in together:
        assert torch.equal(together[name], alone[name]), name


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rows", [reviews, chats])
def test_the_repair_is_a_mask_over_the_blocks(architecture, rows, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], rows())
    before = weights_of(suspect.model())
    steps = repair(suspect, Wanda(method="wanda", sparsity=0.25, calibration_rows=None))
    after = repaired(suspect, steps)
    pruned = total = 0
    for name, value in before.items():
        if is_block_linear(name, value):
            zeros = after[name] == 0
            assert torch.equal(after[name], torch.where(zeros, 0, value))
            per_row = zeros.T if architecture == "gpt2" else zeros
            assert (per_row.sum(dim=1) == per_row.shape[1] // 4).all(), name
            pruned += int(zeros.sum())
            total += zeros.numel()
        else:
            assert torch.equal(after[name], value), name
    assert pruned == total / 4
    assert suspect.details == {"calibration_rows": 5, "pruned": pruned, "block_weights": total}
    assert suspect.tokens > 5 * 10
    # One bit per weight, and what safetensors says about 8 to 14 tensors.
    assert (suspect.folder / "mask.safetensors").stat().st_size < total / 8 + 2500


def test_sparsity_0_is_the_identity(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["gptj"], reviews())
    after = repaired(suspect, repair(suspect, Wanda(method="wanda", sparsity=0)))
    assert all(torch.equal(after[name], value) for name, value in weights_of(suspect.model()).items())


def test_calibration_rows_are_drawn_by_the_seed(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    options = Wanda(method="wanda", calibration_rows=2)
    masks = []
    for seed in (1, 1, 4):
        suspect.seed = seed
        repair(suspect, options)
        masks.append((suspect.folder / "mask.safetensors").read_bytes())
    assert suspect.details["calibration_rows"] == 2
    assert masks[0] == masks[1] != masks[2]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_a_pattern_needs_inputs_that_it_divides():
    with pytest.raises(UserError, match="pattern 4:8: a layer has 12 inputs, which 8 does not divide"):
        lowest(torch.ones(2, 12), torch.ones(12), sparsity=0.5, pattern="4:8")


def test_a_pattern_prunes_half():
    with pytest.raises(ValueError, match="pattern 2:4 prunes half of the weights"):
        Wanda(method="wanda", pattern="2:4", sparsity=0.4)
    assert Wanda(method="wanda", pattern="2:4").sparsity == 0.5
