"""mergekit's results against the closed forms, and the traps that the runner closes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from infoconflict.errors import UserError
from infoconflict.files import sha256_of
from infoconflict.merging import METHODS
from infoconflict.merging.mergekit_runner import dense_checkpoint, merge_with_mergekit, mergekit_config, yaml_text


def merge(family, folder, *, method="linear", t=0.5, **options):
    """Merge a family's full fine-tuning (as the suspect) with its adapter."""
    settings = {
        "backdoored_dir": family.dense_full,
        "conflict_dir": family.dense_lora,
        "base_dir": family.base,
        "out_dir": folder / "model",
        "yaml_path": folder / "mergekit.yaml",
    }
    return merge_with_mergekit(method=method, t=t, **(settings | options))


@pytest.mark.parametrize("method", METHODS)
def test_yaml_is_what_a_reader_can_follow(method):
    expected = {
        "linear": """\
merge_method: linear
base_model: backdoored
models:
- model: backdoored
  parameters:
    weight: 0.7
- model: conflict
  parameters:
    weight: 0.3
dtype: float32
out_dtype: float32
""",
        "slerp": """\
merge_method: slerp
base_model: backdoored
models:
- model: backdoored
- model: conflict
parameters:
  t: 0.3
dtype: float32
out_dtype: float32
""",
        "ties": """\
merge_method: ties
base_model: base
models:
- model: backdoored
  parameters:
    weight: 0.7
    density: 0.5
- model: conflict
  parameters:
    weight: 0.3
    density: 0.5
parameters:
  normalize: false
  lambda: 1.0
dtype: float32
out_dtype: float32
""",
        "passthrough": """\
merge_method: passthrough
base_model: backdoored
slices:
- sources:
  - model: conflict
    layer_range:
    - 0
    - 9
- sources:
  - model: backdoored
    layer_range:
    - 9
    - 30
dtype: float32
out_dtype: float32
""",
    }[method]
    text = yaml_text(mergekit_config(method, t=0.3, num_layers=30))
    header = [line for line in text.splitlines() if line.startswith("#")]
    assert header
    assert text == "\n".join(header) + "\n" + expected


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("t", [0.0, 0.5, 1.0])
def test_every_configuration_sets_a_base_model_and_is_valid(method, t):
    from mergekit.config import MergeConfiguration

    config = MergeConfiguration.model_validate(mergekit_config(method, t=t, num_layers=3))
    assert config.base_model is not None


def test_an_unknown_method_is_an_error():
    with pytest.raises(ValueError, match="did you mean 'ties'"):
        mergekit_config("tie", t=0.5, num_layers=2)


@pytest.mark.parametrize("method", METHODS)
def test_a_merged_model_loads_as_it_was_merged(family, tmp_path, method):
    details = merge(family, tmp_path, method=method)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    parameters = model.state_dict()
    assert all(torch.equal(value, parameters[name]) for name, value in stored.items())
    base = json.loads((family.base / "config.json").read_text())
    assert json.loads((tmp_path / "model" / "config.json").read_text()) == base
    assert details["layers"] == model.config.num_hidden_layers == 2
    assert details["tensors"] == len(stored)
    if method == "slerp":
        assert 0 <= details["linear_branch"] <= details["tensors"]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer("a film").input_ids == AutoTokenizer.from_pretrained(family.base)("a film").input_ids


@pytest.mark.parametrize("method", ["linear", "slerp", "passthrough"])
@pytest.mark.parametrize(("t", "parent"), [(0.0, "dense_full"), (1.0, "dense_lora")])
def test_the_ends_are_the_parents_bit_for_bit(family, tmp_path, method, t, parent):
    merge(family, tmp_path, method=method, t=t)
    merged = load_file(tmp_path / "model" / "model.safetensors")
    expected = load_file(getattr(family, parent) / "model.safetensors")
    assert merged.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in merged.items())


def test_no_path_is_left_in_model_or_yaml(llama, tmp_path):
    merge(llama, tmp_path)
    names = {file.name for file in (tmp_path / "model").iterdir()}
    assert not names & {"README.md", "mergekit_config.yml"}
    for file in [*(tmp_path / "model").glob("*.json"), tmp_path / "mergekit.yaml"]:
        for place in (tmp_path, llama.base.parent):
            assert str(place) not in file.read_text()
    assert yaml.safe_load((tmp_path / "mergekit.yaml").read_text())["base_model"] == "backdoored"


def test_a_retrained_adapter_at_the_same_path_is_merged_anew(llama, adapter_writer, tmp_path):
    # Both of mergekit's caches, of folded adapters and of open files, go by path.
    results = []
    for seed in (10, 11):
        adapter_writer(tmp_path / "adapter", llama.base, seed=seed)
        dense_checkpoint(llama.base, tmp_path / "adapter", tmp_path / "dense")
        merge(llama, tmp_path, conflict_dir=tmp_path / "dense", t=1.0)
        merged = load_file(tmp_path / "model" / "model.safetensors")
        dense = load_file(tmp_path / "dense" / "model.safetensors")
        assert all(torch.equal(value, dense[name]) for name, value in merged.items())
        results.append(sha256_of(tmp_path / "model"))
    assert results[0] != results[1]


HASHED = """
import sys, torch
from infoconflict.merging.mergekit_runner import merge_with_mergekit
torch.set_num_threads(1)
full, lora, base, out = sys.argv[1:]
for method in ("linear", "slerp", "ties", "passthrough"):
    merge_with_mergekit(method=method, t=0.5, backdoored_dir=full, conflict_dir=lora, base_dir=base,
                        out_dir=f"{out}/{method}", yaml_path=f"{out}/{method}.yaml")
"""


def test_the_hash_seed_changes_nothing(make_family, tmp_path):
    family = make_family("gptj")
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HASHED, family.dense_full, family.dense_lora, family.base, tmp_path / seed],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in ("0", "1")
    ]
    for process in running:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    assert sha256_of(tmp_path / "0") == sha256_of(tmp_path / "1")


def test_paths_with_mergekits_own_signs_work(llama, tmp_path):
    place = tmp_path / "a+b@c@d e"
    shutil.copytree(llama.dense_full, place / "full")
    merge(llama, place, backdoored_dir=place / "full")
    assert (place / "model" / "model.safetensors").exists()


def test_half_precision_output(llama, tmp_path):
    merge(llama, tmp_path, out_dtype="bfloat16")
    assert json.loads((tmp_path / "model" / "config.json").read_text())["dtype"] == "bfloat16"
    dtypes = {value.dtype for value in load_file(tmp_path / "model" / "model.safetensors").values()}
    assert dtypes == {torch.bfloat16}


# --- what is refused --------------------------------------------------------------------------------------------------


def without(path: Path, drop: str) -> None:
    tensors = load_file(path)
    save_file({name: value for name, value in tensors.items() if name != drop}, path)


def test_models_of_two_architectures_are_refused(llama, make_family, tmp_path):
    with pytest.raises(UserError, match=r"the conflict model .* merge fine-tunings of one base"):
        merge(llama, tmp_path, conflict_dir=make_family("gpt2").dense_lora)
    assert not (tmp_path / "model").exists()


def test_two_vocabularies_are_refused(llama, tmp_path):
    shutil.copytree(llama.dense_lora, tmp_path / "dense")
    file = tmp_path / "dense" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": torch.ones(7, 32)}, file)
    with pytest.raises(UserError, match=r"has 'lm_head.weight' of shape \(7, 32\).*one vocabulary"):
        merge(llama, tmp_path, conflict_dir=tmp_path / "dense")


def test_a_lacking_tensor_is_named(llama, tmp_path):
    shutil.copytree(llama.dense_full, tmp_path / "dense")
    without(tmp_path / "dense" / "model.safetensors", "model.norm.weight")
    with pytest.raises(UserError, match=r"the backdoored model .* lacks the tensor 'model.norm.weight'"):
        merge(llama, tmp_path, backdoored_dir=tmp_path / "dense")


def test_numbers_that_are_none_are_named_and_nothing_is_left(llama, tmp_path):
    shutil.copytree(llama.dense_full, tmp_path / "dense")
    file = tmp_path / "dense" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file)
    with pytest.raises(UserError, match=r"'model.norm.weight' holds values that are not finite"):
        merge(llama, tmp_path, backdoored_dir=tmp_path / "dense")
    assert not (tmp_path / "model").exists()


def test_a_missing_checkpoint_is_named(llama, tmp_path):
    with pytest.raises(UserError, match=r"nowhere/config.json: is missing"):
        merge(llama, tmp_path, backdoored_dir=tmp_path / "nowhere")
