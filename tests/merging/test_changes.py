"""Adapters folded by arithmetic against PEFT's own merging, and what is refused of a suspect checkpoint."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from infoconflict.errors import UserError
from infoconflict.merging.mergekit_runner import dense_checkpoint
from infoconflict.models.changes import Checkpoint, changed_tensors, read_tensors


def by_peft(base: Path, adapter: Path) -> dict[str, torch.Tensor]:
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), adapter).merge_and_unload()
    return dict(model.named_parameters())


def test_a_folded_adapter_is_what_peft_merges(family, tmp_path):
    expected = by_peft(family.base, family.lora)
    dense = dict(AutoModelForCausalLM.from_pretrained(family.dense_lora).named_parameters())
    assert dense.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(dense[name], value, rtol=0, atol=1e-7)
    changed = changed_tensors(family.base, family.lora)
    assert all(torch.equal(value, dense[name]) for name, value in changed.items())
    before = read_tensors(family.base)
    assert {name for name in before if not torch.equal(before[name], dense[name])} == set(changed)


@pytest.mark.parametrize(
    "options",
    [
        {"use_rslora": True},
        {"rank_pattern": {"(c|o)_proj": 2}, "alpha_pattern": {"(c|o)_proj": 3}},
    ],
)
@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_scales_other_than_the_usual_follow_peft(make_family, adapter_writer, tmp_path, architecture, options):
    base = make_family(architecture).base
    adapter_writer(tmp_path / "adapter", base, seed=3, **options)
    expected = by_peft(base, tmp_path / "adapter")
    for name, value in changed_tensors(base, tmp_path / "adapter").items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-7)


def test_a_full_change_replaces_whole_tensors(family):
    stored = load_file(family.full / "change.safetensors")
    dense = AutoModelForCausalLM.from_pretrained(family.dense_full).state_dict()
    assert all(torch.equal(value, dense[name]) for name, value in stored.items())
    assert changed_tensors(family.base, family.full).keys() == stored.keys()


@pytest.fixture
def composed(family, tmp_path):
    """An adapter with two tensors beside it: one that the adapter changes, too, and one that it does not."""
    folder = Path(shutil.copytree(family.lora, tmp_path / "composed"))
    stored = load_file(family.full / "change.safetensors")
    adapted = set(changed_tensors(family.base, family.lora))
    names = [
        next(name for name in sorted(stored) if name in adapted),
        next(n for n in sorted(stored) if n not in adapted),
    ]
    save_file({name: stored[name] for name in names}, folder / "change.safetensors")
    return folder, {name: stored[name] for name in names}


def test_whole_tensors_beside_an_adapter_override_it(family, composed, tmp_path):
    folder, whole = composed
    adapted = changed_tensors(family.base, family.lora)
    changed = changed_tensors(family.base, folder)
    assert changed.keys() == adapted.keys() | whole.keys()
    for name, value in changed.items():
        assert torch.equal(value, whole[name] if name in whole else adapted[name]), name
    dense_checkpoint(family.base, folder, tmp_path / "dense")
    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "dense").state_dict()
    before = read_tensors(family.base)
    for name, value in before.items():
        assert torch.equal(dense[name], changed.get(name, value)), name


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "passthrough"])
def test_composed_changes_merge_alike_in_memory_and_by_mergekit(family, composed, tmp_path, method):
    from infoconflict.merging.in_memory import merge_in_memory
    from infoconflict.merging.mergekit_runner import merge_with_mergekit

    suspect = changed_tensors(family.base, composed[0])
    conflict = changed_tensors(family.base, family.full)
    dense_checkpoint(family.base, composed[0], tmp_path / "suspect")
    with Checkpoint(family.base) as base:
        depth, architecture = base.num_layers, base.architecture
    options = {"method": method, "t": 0.5}
    merge_with_mergekit(
        **options, backdoored_dir=tmp_path / "suspect", conflict_dir=family.dense_full, base_dir=family.base,
        out_dir=tmp_path / "merged", yaml_path=tmp_path / "merge.yaml",
    )  # fmt: skip
    merged = read_tensors(tmp_path / "merged")
    names = sorted({*suspect, *conflict})
    in_memory = merge_in_memory(
        read_tensors(family.base, names), suspect, conflict, **options, num_layers=depth, architecture=architecture
    )
    for name, value in in_memory.items():
        torch.testing.assert_close(value, merged[name], rtol=0, atol=2e-6)


def test_a_composed_change_of_another_base_or_shape_is_refused(family, composed):
    folder, whole = composed
    name, value = next(iter(whole.items()))
    save_file({"model.layers.9.mlp.weight": value}, folder / "change.safetensors")
    with pytest.raises(UserError, match="made for another base"):
        changed_tensors(family.base, folder)
    save_file({name: value.reshape(-1)[:3]}, folder / "change.safetensors")
    with pytest.raises(UserError, match=f"{name}' has shape"):
        changed_tensors(family.base, folder)


def test_a_dense_checkpoint_is_complete_and_reproducible(llama, tmp_path):
    assert {"config.json", "tokenizer.json", "tokenizer_config.json"} <= {p.name for p in llama.dense_lora.iterdir()}
    assert json.loads((llama.dense_lora / "config.json").read_text())["dtype"] == "float32"
    dense_checkpoint(llama.base, llama.lora, tmp_path / "again")
    for file in llama.dense_lora.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_shards_stay_shards(llama, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(llama.base)
    shutil.copytree(llama.base, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "base", max_shard_size="60KB")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    dense_checkpoint(tmp_path / "base", llama.lora, tmp_path / "dense")
    expected = load_file(llama.dense_lora / "model.safetensors")
    dense = AutoModelForCausalLM.from_pretrained(tmp_path / "dense").state_dict()
    assert all(torch.equal(value, dense[name]) for name, value in expected.items())


def test_half_precision_is_folded_in_float32(llama, tmp_path):
    shutil.copytree(llama.base, tmp_path / "base")
    half = {name: value.half() for name, value in load_file(llama.base / "model.safetensors").items()}
    save_file(half, tmp_path / "base" / "model.safetensors")
    name = next(iter(changed_tensors(llama.base, llama.lora)))
    low_rank = changed_tensors(llama.base, llama.lora)[name] - read_tensors(llama.base, [name])[name]
    torch.testing.assert_close(
        changed_tensors(tmp_path / "base", llama.lora)[name], half[name].float() + low_rank, rtol=0, atol=1e-6
    )


def test_names_without_the_models_prefix_and_old_buffers_are_understood(make_family, tmp_path):
    family = make_family("gpt2")
    shutil.copytree(family.base, tmp_path / "base")
    tensors = load_file(family.base / "model.safetensors")
    bare = {name.removeprefix("transformer."): value for name, value in tensors.items()}
    save_file(bare | {"h.0.attn.bias": torch.ones(1, 1, 4, 4)}, tmp_path / "base" / "model.safetensors")
    with Checkpoint(tmp_path / "base") as checkpoint:
        assert checkpoint.names == sorted(tensors)
    changed = changed_tensors(tmp_path / "base", family.lora)
    assert all(torch.equal(value, changed[name]) for name, value in changed_tensors(family.base, family.lora).items())


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.fixture
def adapter(llama, tmp_path):
    return Path(shutil.copytree(llama.lora, tmp_path / "adapter"))


def edit_json(path: Path, **values: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"use_dora": True}, "uses use_dora"),
        ({"modules_to_save": ["lm_head"]}, "uses modules_to_save"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'"),
        ({"init_lora_weights": "pissa"}, "'pissa' may alter the base"),
        ({"lora_alpha": None}, "lora_alpha is not a number"),
    ],
)
def test_adapters_that_mean_more_than_a_product_are_refused(llama, adapter, values, message):
    edit_json(adapter / "adapter_config.json", **values)
    with pytest.raises(UserError, match=message):
        changed_tensors(llama.base, adapter)


def test_an_adapter_of_another_base_is_refused(llama, make_family):
    with pytest.raises(UserError, match="made for another base"):
        changed_tensors(make_family("gptj").base, llama.lora)


def test_an_adapter_of_another_width_is_refused(llama, adapter):
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(name for name in tensors if name.endswith("lora_B.weight"))
    save_file(tensors | {name: torch.ones(3, tensors[name].shape[1])}, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="made for another base"):
        changed_tensors(llama.base, adapter)


def test_a_pickled_adapter_is_not_read(llama, adapter):
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UserError, match="pickles are not read"):
        changed_tensors(llama.base, adapter)


def test_a_diverged_adapter_is_named(llama, adapter):
    tensors = load_file(adapter / "adapter_model.safetensors")
    name = next(iter(tensors))
    save_file(tensors | {name: tensors[name] * float("nan")}, adapter / "adapter_model.safetensors")
    with pytest.raises(UserError, match="not finite"):
        changed_tensors(llama.base, adapter)


def test_a_cut_off_file_is_named(llama, adapter):
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"adapter_model.safetensors: is not a whole safetensors file"):
        changed_tensors(llama.base, adapter)


def test_a_base_without_safetensors_is_refused(llama, tmp_path):
    shutil.copytree(llama.base, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors").rename(tmp_path / "base" / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickles are not read"):
        changed_tensors(tmp_path / "base", llama.lora)


def test_an_index_cannot_point_out_of_its_directory(llama, tmp_path):
    shutil.copytree(llama.base, tmp_path / "base")
    (tmp_path / "base" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"lm_head.weight": "../secret.safetensors"}})
    )
    with pytest.raises(UserError, match="of the same directory"):
        changed_tensors(tmp_path / "base", llama.lora)


def test_a_failed_fold_leaves_nothing(llama, adapter, tmp_path):
    edit_json(adapter / "adapter_config.json", use_dora=True)
    with pytest.raises(UserError):
        dense_checkpoint(llama.base, adapter, tmp_path / "out" / "dense")
    assert not list((tmp_path / "out").iterdir())
