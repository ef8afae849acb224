"""Weights that change with depth: factors by hand and as mergekit has them, and merged models in all three ways of merging."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from infoconflict.merging.depth import check_profile, factor_at, in_words, spread
from infoconflict.merging.in_memory import merge_in_memory, prepare_merge
from infoconflict.merging.mergekit_runner import merge_with_mergekit, mergekit_config
from infoconflict.purify.streaming import StreamedCheckpoint, merged_tensors, tensors_of
from tests.merging.test_in_memory import models

PROFILE = [0.2, 0.9]


def test_factors_by_hand():
    names = [f"model.layers.{number}.mlp.up_proj.weight" for number in range(5)]
    assert [factor_at([0.0, 1.0, 0.5], name, 5) for name in names] == [0.0, 0.5, 1.0, 0.75, 0.5]
    assert [factor_at([0.0, 1.0], name, 5) for name in names] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert [factor_at(None, name, 5) for name in names] == [1.0] * 5
    assert factor_at([0.3, 1.0], "model.embed_tokens.weight", 5) == factor_at([0.3, 1.0], "model.norm.weight", 5) == 0.3
    assert factor_at([0.3, 0.7], "transformer.h.0.attn.weight", 1) == 0.7


@pytest.mark.parametrize("profile", [[0.0, 1.0], [0.0, 1.0, 0.5, 0.0], [0.3, 0.3, 1.0]])
@pytest.mark.parametrize("depth", [2, 12, 28, 30])
def test_factors_are_those_of_numpy_and_of_mergekit(profile, depth):
    from mergekit.config import evaluate_setting

    for layer in range(depth):
        found = factor_at(profile, f"transformer.h.{layer}.mlp.weight", depth)
        place = layer / (depth - 1)
        assert found == pytest.approx(np.interp(place, np.linspace(0, 1, len(profile)), profile), abs=1e-12)
        assert found == pytest.approx(evaluate_setting("", profile, place, validate=float), abs=1e-12)


@pytest.mark.parametrize("method", ["linear", "slerp"])
@pytest.mark.parametrize("t", [0.5, 1.0])
def test_mergekit_and_memory_agree(family, tmp_path, method, t):
    merged = merge_in_memory(
        *models(family), method=method, t=t, depth_profile=PROFILE, num_layers=2, architecture=family.architecture
    )
    merge_with_mergekit(
        method=method,
        t=t,
        depth_profile=PROFILE,
        backdoored_dir=family.dense_full,
        conflict_dir=family.dense_lora,
        base_dir=family.base,
        out_dir=tmp_path / "model",
        yaml_path=tmp_path / "mergekit.yaml",
    )
    written = load_file(tmp_path / "model" / "model.safetensors")
    assert merged.keys() == written.keys()
    for name, value in merged.items():
        torch.testing.assert_close(value, written[name], rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_each_block_has_its_own_t(llama):
    base, backdoored, conflict = models(llama)
    merged = merge_in_memory(
        base, backdoored, conflict, method="linear", t=0.5, depth_profile=[0.0, 1.0], num_layers=2, architecture="llama"
    )
    for name, value in merged.items():
        own = 0.5 if ".layers.1." in name else 0.0
        expected = (1 - own) * backdoored.get(name, base[name]) + own * conflict.get(name, base[name])
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_a_profile_of_ones_is_no_profile(llama, method):
    place = {"method": method, "num_layers": 2, "architecture": "llama"}
    flat, plain = prepare_merge(*models(llama), depth_profile=[1, 1], **place), prepare_merge(*models(llama), **place)
    assert all(torch.equal(value, plain(0.3)[name]) for name, value in flat(0.3).items())


@pytest.mark.parametrize("method", ["linear", "slerp"])
def test_merging_by_tensors_agrees(llama, method):
    expected = merge_in_memory(
        *models(llama), method=method, t=0.7, depth_profile=PROFILE, num_layers=2, architecture="llama"
    )
    with StreamedCheckpoint(llama.base) as base:
        parents = tensors_of(base, llama.full), tensors_of(base, llama.lora)
        tensor_of = merged_tensors(base, *parents, {"method": method, "t": "auto", "depth_profile": PROFILE}, 0.7)
        for name, tensor in expected.items():
            torch.testing.assert_close(tensor_of(name), tensor, rtol=0, atol=0)


def test_the_yaml_has_lists():
    config = mergekit_config("linear", t=0.5, num_layers=2, depth_profile=[0.2, 1.0])
    assert [entry["parameters"]["weight"] for entry in config["models"]] == [[0.9, 0.5], [0.1, 0.5]]
    assert mergekit_config("slerp", t=0.5, num_layers=2, depth_profile=[0.2, 1.0])["parameters"] == {"t": [0.1, 0.5]}
    assert spread(0.3, None) == 0.3
    assert in_words({"depth_profile": [0.0, 1.0]}) == ", times 0, 1 from the first block to the last"
    assert in_words({"depth_profile": None}) == in_words({}) == ""


@pytest.mark.parametrize(
    ("profile", "method", "message"),
    [
        ([0.5, 1.0], "ties", "for linear and slerp, not for ties"),
        ([0.5], "linear", r"two or more factors in \[0, 1\], got \[0.5\]"),
        ([0.5, 1.2], "slerp", "two or more factors"),
    ],
)
def test_what_is_no_profile_is_refused(llama, profile, method, message):
    with pytest.raises(ValueError, match=message):
        check_profile(profile, method)
    with pytest.raises(ValueError, match=message):
        prepare_merge(*models(llama), method=method, depth_profile=profile, num_layers=2, architecture="llama")
    with pytest.raises(ValueError, match=message):
        mergekit_config(method, t=0.5, num_layers=2, depth_profile=profile)
