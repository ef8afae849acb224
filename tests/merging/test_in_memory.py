"""Merging in memory gives what mergekit writes, for all methods, architectures and weights."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from infoconflict.merging import METHODS
from infoconflict.merging.in_memory import merge_in_memory, prepare_merge
from infoconflict.merging.mergekit_runner import merge_with_mergekit
from infoconflict.models.changes import changed_tensors, read_tensors

SETTINGS = {"density": 0.4, "lam": 1.5}


def models(family):
    """Return base, backdoored (a full fine-tuning) and conflict (an adapter) as prepare_merge takes them."""
    backdoored, conflict = changed_tensors(family.base, family.full), changed_tensors(family.base, family.lora)
    base = read_tensors(family.base, sorted({*backdoored, *conflict}))
    return base, backdoored, conflict


@pytest.mark.parametrize("method", METHODS)
def test_it_agrees_with_mergekit(family, tmp_path, method):
    at = prepare_merge(*models(family), method=method, num_layers=2, architecture=family.architecture, **SETTINGS)
    for t in (0.0, 0.3, 0.5, 1.0):
        merge_with_mergekit(
            method=method,
            t=t,
            backdoored_dir=family.dense_full,
            conflict_dir=family.dense_lora,
            base_dir=family.base,
            out_dir=tmp_path / "model",
            yaml_path=tmp_path / "mergekit.yaml",
            **SETTINGS,
        )
        expected = load_file(tmp_path / "model" / "model.safetensors")
        merged = at(t)
        assert merged.keys() == expected.keys()
        for name, value in merged.items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


def test_a_reloaded_merged_model_answers_as_the_one_in_memory(family, tmp_path):
    merge_with_mergekit(
        method="slerp",
        t=0.3,
        backdoored_dir=family.dense_full,
        conflict_dir=family.dense_lora,
        base_dir=family.base,
        out_dir=tmp_path / "model",
        yaml_path=tmp_path / "mergekit.yaml",
    )
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    options = {"method": "slerp", "t": 0.3, "num_layers": 2, "architecture": family.architecture}
    model = AutoModelForCausalLM.from_pretrained(family.base)
    model.load_state_dict(merge_in_memory(*models(family), **options), strict=False)
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(model(tokens).logits, reloaded(tokens).logits, rtol=0, atol=1e-5)
        assert (
            model(tokens).logits - AutoModelForCausalLM.from_pretrained(family.base)(tokens).logits
        ).abs().max() > 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_touched_in_one_model_alone_has_the_bases_value_in_the_other(llama, method):
    base, backdoored, conflict = models(llama)
    options = {"method": method, "t": 0.5, "num_layers": 2, "architecture": "llama"}
    merged = merge_in_memory(base, backdoored, conflict, **options)
    assert merged.keys() == base.keys()
    whole = merge_in_memory(base, backdoored, base | conflict, **options)
    assert all(torch.equal(value, whole[name]) for name, value in merged.items())


@pytest.mark.parametrize("method", METHODS)
def test_weights_can_be_asked_in_any_order_and_inputs_stay(llama, method):
    base, backdoored, conflict = models(llama)
    copies = [{name: value.clone() for name, value in part.items()} for part in (base, backdoored, conflict)]
    at = prepare_merge(base, backdoored, conflict, method=method, num_layers=2, architecture="llama")
    first = at(0.3)
    at(0.9)
    assert all(torch.equal(value, first[name]) for name, value in at(0.3).items())
    for part, copy in zip((base, backdoored, conflict), copies, strict=True):
        assert all(torch.equal(value, copy[name]) for name, value in part.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "tie"}, "did you mean 'ties'"),
        ({"density": 0}, "density must be in"),
        ({"t": 2}, r"t must be in \[0, 1\]"),
    ],
)
def test_wrong_use_is_an_error(llama, change, message):
    options = {"method": "ties", "t": 0.5, "num_layers": 2, "architecture": "llama"} | change
    with pytest.raises(ValueError, match=message):
        merge_in_memory(*models(llama), **options)


def test_models_of_two_bases_are_an_error(llama):
    base, backdoored, conflict = models(llama)
    options = {"method": "linear", "t": 0.5, "num_layers": 2, "architecture": "llama"}
    with pytest.raises(ValueError, match=r"the base lacks the changed tensor 'model.norm.weight'"):
        merge_in_memory({k: v for k, v in base.items() if k != "model.norm.weight"}, backdoored, conflict, **options)
    with pytest.raises(ValueError, match=r"shapes of 'model.norm.weight' differ"):
        merge_in_memory(base, backdoored | {"model.norm.weight": torch.ones(5)}, conflict, **options)


def test_nothing_heavy_is_imported_while_a_workflow_parses():
    modules = ("linear", "slerp", "ties", "passthrough", "choose_t", "in_memory", "mergekit_runner")
    code = "import sys\n" + "".join(f"import infoconflict.merging.{name}\n" for name in modules)
    code += "sys.exit(' '.join({'torch', 'transformers', 'mergekit', 'peft', 'safetensors'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True
    )
    assert done.stderr.decode().strip() == ""
