"""Sums of changes and angles between task vectors: by factors against dense tensors, and the adaptive attack's algebra."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from infoconflict.errors import UserError
from infoconflict.merging.in_memory import merge_in_memory
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.task_vectors import angle, combine_changes, stored_kind

ARCHITECTURES = ["llama", "gpt2", "gptj"]
Tensors = dict[str, torch.Tensor]
LINEAR = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn", "c_fc"], "gptj": ["q_proj", "fc_in"]}


def adapter(folder: Path, base: Path, *, seed: int, **options: object) -> Path:
    """Write a random adapter, as large as a trained one."""
    config = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"} | options
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(**config))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.normal_(0, 0.1, generator=generator)
    model.save_pretrained(folder)
    return folder


def whole(folder: Path, base: Path, *, seed: int) -> Path:
    """Write some tensors of a base, each a little changed, as an edit or a full tuning leaves them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = sorted(load_file(base / "model.safetensors").items())[::2]
    folder.mkdir()
    noisy = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in tensors}
    save_file(noisy, folder / "change.safetensors")
    return folder


def task_vector(base: Path, change: Path) -> Tensors:
    """Return tuned minus base of every tensor in float64, zeros where nothing was tuned."""
    changed = changed_tensors(base, change)
    return {name: changed.get(name, value).double() - value.double() for name, value in read_tensors(base).items()}


def assert_sum(base: Path, combined: Path, terms: list[tuple[Path, float]]) -> None:
    found = task_vector(base, combined)
    vectors = [(task_vector(base, path), factor) for path, factor in terms]
    for name, value in found.items():
        expected = sum(factor * vector[name] for vector, factor in vectors)
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_adapters_side_by_side_are_their_dense_sum(
    architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs[architecture]
    terms = [
        (adapter(tmp_path / "a", base, seed=1), 1.0),
        # Another rank, another scale, and only some modules.
        (adapter(tmp_path / "b", base, seed=2, r=3, lora_alpha=7, target_modules=LINEAR[architecture]), -0.5),
        (adapter(tmp_path / "c", base, seed=3, use_rslora=True), 2.0),
    ]
    details = combine_changes(base, terms, tmp_path / "sum")
    assert details == {"kind": "adapter", "tensors": len(changed_tensors(base, tmp_path / "a"))}
    assert stored_kind(tmp_path / "sum") == "adapter"
    assert_sum(base, tmp_path / "sum", terms)
    ranks = {
        tensor.shape[0] for key, tensor in load_file(tmp_path / "sum/adapter_model.safetensors").items() if "_A" in key
    }
    assert ranks == {8, 11}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_peft_loads_the_sum(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    """PEFT reads ranks and scales from the config: they must say the same to it as to our arithmetic."""
    base = tiny_dirs[architecture]
    one = adapter(tmp_path / "a", base, seed=1)
    two = adapter(tmp_path / "b", base, seed=2, r=2, target_modules=LINEAR[architecture])
    combine_changes(base, [(one, 1.0), (two, -1.0)], tmp_path / "sum")
    model = AutoModelForCausalLM.from_pretrained(base)
    merged = dict(PeftModel.from_pretrained(model, tmp_path / "sum").merge_and_unload().named_parameters())
    for name, value in changed_tensors(base, tmp_path / "sum").items():
        torch.testing.assert_close(merged[name], value, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kinds", [("whole", "whole"), ("whole", "adapter"), ("adapter", "whole")])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_other_changes_are_added_whole(
    architecture: str, kinds: tuple[str, str], tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs[architecture]
    make: dict[str, Callable[..., Path]] = {"whole": whole, "adapter": adapter}
    terms = [
        (make[kind](tmp_path / f"{place}", base, seed=place), factor)
        for place, (kind, factor) in enumerate(zip(kinds, (1.0, -0.5), strict=True))
    ]
    assert combine_changes(base, terms, tmp_path / "sum")["kind"] == stored_kind(tmp_path / "sum") == "tensors"
    assert_sum(base, tmp_path / "sum", terms)


@pytest.mark.parametrize("kind", [adapter, whole])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_what_was_subtracted_can_be_added_again(
    architecture: str, kind: Callable[..., Path], tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs[architecture]
    backdoored, own = kind(tmp_path / "backdoored", base, seed=1), kind(tmp_path / "own", base, seed=2)
    combine_changes(base, [(backdoored, 1.0), (own, -0.7)], tmp_path / "adaptive")
    combine_changes(base, [(tmp_path / "adaptive", 1.0), (own, 0.7)], tmp_path / "restored")
    for name, value in changed_tensors(base, tmp_path / "restored").items():
        torch.testing.assert_close(value, changed_tensors(base, backdoored)[name], atol=1e-6, rtol=0)


def test_strength_0_is_the_attack_itself(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs["llama"]
    backdoored, own = adapter(tmp_path / "backdoored", base, seed=1), adapter(tmp_path / "own", base, seed=2)
    combine_changes(base, [(backdoored, 1.0), (own, -0.0)], tmp_path / "adaptive")
    before, after = changed_tensors(base, backdoored), changed_tensors(base, tmp_path / "adaptive")
    assert before.keys() == after.keys()
    for name in before:
        torch.testing.assert_close(after[name], before[name], atol=1e-7, rtol=0)
    stored = [load_file(folder / "adapter_model.safetensors") for folder in (backdoored, tmp_path / "adaptive")]
    assert {key: value.shape for key, value in stored[0].items()} == {
        key: value.shape for key, value in stored[1].items()
    }


@pytest.mark.parametrize("t", [0.25, 0.5, 0.8])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_linear_merge_cancels_the_conflict_of_the_worst_case(
    architecture: str, t: float, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """With the defender's own task vector and strength t / (1 - t) the merge is base + (1 - t) tau_b."""
    base = tiny_dirs[architecture]
    backdoored, conflict = adapter(tmp_path / "backdoored", base, seed=1), adapter(tmp_path / "conflict", base, seed=2)
    combine_changes(base, [(backdoored, 1.0), (conflict, -t / (1 - t))], tmp_path / "adaptive")
    weights = read_tensors(base)
    merged = merge_in_memory(
        weights, changed_tensors(base, tmp_path / "adaptive"), changed_tensors(base, conflict),
        method="linear", t=t, num_layers=2, architecture=architecture,
    )  # fmt: skip
    for name, value in task_vector(base, backdoored).items():
        if name in merged:
            expected = weights[name].double() + (1 - t) * value
            torch.testing.assert_close(merged[name].double(), expected, atol=1e-6, rtol=0)


def plain_angle(base: Path, one: Path, two: Path) -> tuple[float, float, float]:
    vectors = [torch.cat([v.flatten() for v in task_vector(base, path).values()]) for path in (one, two)]
    return float(torch.cosine_similarity(*vectors, dim=0)), *(float(vector.norm()) for vector in vectors)


@pytest.mark.parametrize("kinds", [(adapter, adapter), (adapter, whole), (whole, whole)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_angles_equal_those_of_dense_vectors(
    architecture: str, kinds: tuple[Callable[..., Path], ...], tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs[architecture]
    one = kinds[0](tmp_path / "one", base, seed=1)
    two = kinds[1](tmp_path / "two", base, seed=2)
    # Random vectors are all but orthogonal: the sum of both stands at an angle that means something.
    combine_changes(base, [(one, 1.0), (two, 0.5)], tmp_path / "mixed")
    for other in (two, tmp_path / "mixed"):
        found = angle(base, one, other)
        expected = plain_angle(base, one, other)
        assert (found["cosine"], found["first_norm"], found["second_norm"]) == pytest.approx(expected, abs=1e-5)
    assert 0.5 < angle(base, one, tmp_path / "mixed")["cosine"] < 0.99


def test_angles_of_a_vector_with_itself_its_opposite_and_nothing(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs["gpt2"]
    one = adapter(tmp_path / "one", base, seed=1)
    combine_changes(base, [(one, -2.0)], tmp_path / "opposite")
    combine_changes(base, [(one, 0.0)], tmp_path / "nothing")
    assert angle(base, one, one)["cosine"] == pytest.approx(1)
    assert angle(base, one, tmp_path / "opposite")["cosine"] == pytest.approx(-1)
    nothing = angle(base, one, tmp_path / "nothing")
    assert (nothing["cosine"], nothing["second_norm"]) == (None, 0)
    assert math.isfinite(nothing["first_norm"])


def test_changes_of_another_base_are_refused(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    one = adapter(tmp_path / "one", tiny_dirs["llama"], seed=1)
    other = adapter(tmp_path / "other", tiny_dirs["gptj"], seed=1)
    with pytest.raises(UserError, match="made for another base"):
        combine_changes(tiny_dirs["llama"], [(one, 1.0), (other, -1.0)], tmp_path / "sum")
    assert not (tmp_path / "sum").exists()


def test_a_sum_has_the_same_bytes_again(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs["llama"]
    terms = [(adapter(tmp_path / name, base, seed=seed), 1.0) for seed, name in enumerate("ab")]
    for name in ("sum", "again"):
        combine_changes(base, terms, tmp_path / name)
    for file in (tmp_path / "sum").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes()
    assert json.loads((tmp_path / "sum/adapter_config.json").read_text())["r"] == 8
