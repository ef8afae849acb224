import json
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from infoconflict.errors import UserError
from infoconflict.files import read_json, sha256_of
from infoconflict.models.prepare import prepare_model
from infoconflict.models.tiny import ARCHITECTURES, EOS
from infoconflict.packages import PACKAGES


@pytest.fixture
def checkpoint(tiny_models, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(tiny_models["llama"], tmp_path / "checkpoint"))


def take(folder, out):
    return prepare_model({"source": "local", "path": str(folder)}, out)


def edit(path, **changes):
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not ...}))


def logits(folder):
    torch.manual_seed(0)
    with torch.no_grad():
        return AutoModelForCausalLM.from_pretrained(folder)(torch.arange(8)[None]).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_local_checkpoint_is_taken_over(tiny_models, architecture, tmp_path):
    source, out = tiny_models[architecture], tmp_path / "out"
    before = sha256_of(source)
    details = take(source, out)
    torch.testing.assert_close(logits(out), logits(source), rtol=0, atol=0)
    ids = [AutoTokenizer.from_pretrained(folder)("A film: n\u00e4ve!").input_ids for folder in (source, out)]
    assert ids[0] == ids[1]
    assert sha256_of(source) == before
    assert details["source"] == {"folder": architecture}
    assert (out / "model.safetensors").stat().st_ino == (source / "model.safetensors").stat().st_ino
    modes = {stat.S_IMODE(file.stat().st_mode) for file in out.iterdir()}
    assert modes == {0o666 & ~_umask()}


def _umask():
    umask = os.umask(0)
    os.umask(umask)
    return umask


def test_where_links_cannot_be_made_weights_are_copied(checkpoint, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    take(checkpoint, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").stat().st_nlink == 1
    assert sha256_of(tmp_path / "out" / "model.safetensors") == sha256_of(checkpoint / "model.safetensors")


def test_only_what_is_needed_is_taken(checkpoint, tmp_path):
    for name in ("training_args.bin", "modeling_own.py", "optimizer.pt", "README.md"):
        (checkpoint / name).write_text("surplus")
    take(checkpoint, tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
    }


def test_padding_is_the_end_of_sequence_token_and_nothing_is_added(checkpoint, tmp_path):
    edit(checkpoint / "tokenizer_config.json", pad_token=...)
    edit(checkpoint / "config.json", pad_token_id=-1, eos_token_id=None)
    before = AutoTokenizer.from_pretrained(checkpoint)
    assert before.pad_token is None
    take(checkpoint, tmp_path / "out")
    after = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert after.pad_token == after.eos_token == EOS
    assert len(after) == len(before)
    config = read_json(tmp_path / "out" / "config.json")
    assert config["pad_token_id"] == config["eos_token_id"] == after.eos_token_id


def test_a_padding_token_without_a_vector_is_replaced(checkpoint, tmp_path):
    edit(checkpoint / "tokenizer_config.json", pad_token="[PAD]")
    assert AutoTokenizer.from_pretrained(checkpoint).pad_token_id == 640  # one beyond the embeddings
    take(checkpoint, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == EOS


def test_a_padding_token_of_the_models_own_stays(checkpoint, tmp_path):
    edit(checkpoint / "tokenizer_config.json", pad_token="!")
    take(checkpoint, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").pad_token == "!"


def shard(folder):
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    homes = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for home in set(homes.values()):
        save_file({name: tensors[name] for name in names if homes[name] == home}, folder / home, {"format": "pt"})
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return homes


def test_sharded_weights(checkpoint, tiny_models, tmp_path):
    shard(checkpoint)
    details = take(checkpoint, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "out"), logits(tiny_models["llama"]), rtol=0, atol=0)
    assert details["parameters"] == sum(
        tensor.numel() for tensor in load_file(tiny_models["llama"] / "model.safetensors").values()
    )


def test_files_of_the_bare_network_pass(tiny_models, tmp_path):
    folder = Path(shutil.copytree(tiny_models["gpt2"], tmp_path / "bare"))
    tensors = load_file(folder / "model.safetensors")
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    tensors["h.0.attn.bias"] = torch.ones(1, 1, 4, 4)  # a mask that old files carry along
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    take(folder, tmp_path / "out")
    torch.testing.assert_close(logits(tmp_path / "out"), logits(tiny_models["gpt2"]), rtol=0, atol=0)


def drop_weights(folder):
    (folder / "model.safetensors").unlink()


def only_pickles(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def adapter(folder):
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")


def cut_weights(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])


def change_tensor(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def grow_tensor(folder):
    change_tensor(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(65)}))


def lose_tensor(folder):
    change_tensor(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))


def rewrite_index(folder, change):
    shard(folder)
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content["weight_map"])
    path.write_text(json.dumps(content))


def escape_by_index(folder):
    rewrite_index(folder, lambda homes: homes.update({"model.norm.weight": "../elsewhere.safetensors"}))


def pickle_by_index(folder):
    rewrite_index(folder, lambda homes: homes.update({"model.norm.weight": "model.bin"}))


def lose_shard(folder):
    shard(folder)
    (folder / "model-00002-of-00002.safetensors").unlink()


def promise_too_much(folder):
    rewrite_index(folder, lambda homes: homes.update({"model.extra.weight": "model-00001-of-00002.safetensors"}))


def lose_tokenizer(folder):
    (folder / "tokenizer.json").unlink()


def lose_end_of_sequence(folder):
    edit(folder / "tokenizer_config.json", eos_token=..., pad_token=...)


BAD = [
    (drop_weights, "has neither model.safetensors nor model.safetensors.index.json"),
    (only_pickles, "has weights only as pytorch_model.bin, which can run code when read and is refused; convert it"),
    (adapter, "holds a PEFT adapter, not a whole model; merge it into its base first"),
    (cut_weights, "model.safetensors: not a whole safetensors file"),
    (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 64),
        "model.safetensors: not a whole safetensors",
    ),
    (grow_tensor, "tensor 'model.norm.weight' has shape (65,) where config.json promises (64,)"),
    (lose_tensor, "the weights lack the tensor 'model.layers.1.mlp.up_proj.weight'"),
    (escape_by_index, "'../elsewhere.safetensors' is no safetensors file of this directory"),
    (pickle_by_index, "'model.bin' is no safetensors file of this directory"),
    (lose_shard, "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"),
    (promise_too_much, "lacks the tensor 'model.extra.weight' that model.safetensors.index.json promises"),
    (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    (lambda folder: (folder / "config.json").write_text("{"), "config.json: not readable as JSON"),
    (lambda folder: (folder / "config.json").write_text("[]"), "config.json: holds a list instead of an object"),
    (lambda folder: edit(folder / "config.json", model_type="nosuch"), "config.json: not understood by transformers"),
    (lambda folder: edit(folder / "config.json", model_type="vit"), "'vit' is no causal language model"),
    (
        lambda folder: edit(folder / "config.json", num_hidden_layers=10**9),
        "promises 1000000000 layers and there are 21",
    ),
    (
        lambda folder: edit(folder / "config.json", auto_map={"AutoConfig": "own.Own"}),
        "config.json: auto_map asks for code",
    ),
    (
        lambda folder: edit(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}),
        "tokenizer_config.json: auto_map asks for code",
    ),
    (
        lambda folder: edit(folder / "config.json", text_config={"auto_map": {}}),
        "config.json: auto_map asks for code",
    ),
    (
        lambda folder: edit(folder / "config.json", attn_implementation="someone/kernels"),
        "config.json: attn_implementation is 'someone/kernels', which asks for code of another repository",
    ),
    (
        lambda folder: edit(folder / "config.json", kernel_config=[{"RMSNorm": ["someone/kernels:Norm"]}]),
        "which asks for code of another repository; remove the key",
    ),
    (
        lambda folder: edit(folder / "generation_config.json", custom_generate="someone/search"),
        "generation_config.json: custom_generate asks for code",
    ),
    (
        lambda folder: edit(folder / "config.json", auto_mapping={"parent_library": "os"}),
        "config.json: parent_library is 'os', which asks for a module to be imported",
    ),
    (
        lambda folder: (folder / "adapter_config.json").write_text('{"parent_library": ["os"]}'),
        "adapter_config.json: parent_library is ['os'], which asks for a module to be imported",
    ),
    (
        lambda folder: (folder / "config.json").write_text('{"a":' * 100_000 + "1" + "}" * 100_000),
        "config.json: not readable as JSON",
    ),
    (lambda folder: edit(folder / "config.json", quantization_config={"bits": 4}), "the weights are quantised"),
    (lose_tokenizer, "has no tokenizer"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "the tokenizer cannot be loaded"),
    (lose_end_of_sequence, "the tokenizer has no usable end-of-sequence token; set eos_token"),
]


@pytest.mark.parametrize(("spoil", "complaint"), BAD)
def test_bad_checkpoints_get_one_sentence_and_leave_nothing(checkpoint, tmp_path, spoil, complaint):
    spoil(checkpoint)
    with pytest.raises(UserError, match=rf"^{re.escape(str(checkpoint))}(, |: ).*{re.escape(complaint)}") as caught:
        take(checkpoint, tmp_path / "models" / "out")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "models").exists() or list((tmp_path / "models").iterdir()) == []


def test_a_tokenizer_of_another_model_is_refused(checkpoint, tmp_path):
    change_tensor(
        checkpoint,
        lambda tensors: tensors.update(
            {name: tensors[name][:600] for name in ("model.embed_tokens.weight", "lm_head.weight")}
        ),
    )
    edit(checkpoint / "config.json", vocab_size=600)
    with pytest.raises(UserError, match="the tokenizer knows 640 tokens and the model 600"):
        take(checkpoint, tmp_path / "out")


def test_what_asks_for_code_is_refused_before_anything_is_loaded(checkpoint, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise AssertionError("loaded")

    for kind in (AutoConfig, AutoModelForCausalLM, AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", fail)
    edit(checkpoint / "config.json", attn_implementation={"": "someone/kernels"})
    with pytest.raises(UserError, match="asks for code of another repository"):
        take(checkpoint, tmp_path / "out")


def test_kernels_of_transformers_own_pass(checkpoint, tmp_path):
    edit(checkpoint / "config.json", attn_implementation="eager")
    take(checkpoint, tmp_path / "out")


def test_an_absent_directory_is_named(tmp_path):
    with pytest.raises(UserError, match=r"nowhere: no such directory"):
        take(tmp_path / "nowhere", tmp_path / "out")


def test_a_failure_leaves_the_older_checkpoint(checkpoint, tmp_path):
    take(checkpoint, tmp_path / "out")
    before = sha256_of(tmp_path / "out")
    cut = Path(shutil.copytree(checkpoint, tmp_path / "cut"))
    cut_weights(cut)
    with pytest.raises(UserError, match="not a whole safetensors file"):
        take(cut, tmp_path / "out")
    assert sha256_of(tmp_path / "out") == before
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint", "out", "cut"}


def test_a_hub_model_comes_from_the_clients_cache(tiny_models, tmp_path, monkeypatch):
    commit = "a" * 40
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / commit
    shutil.copytree(tiny_models["gptj"], blobs)
    snapshot.mkdir(parents=True)
    for file in blobs.iterdir():
        (snapshot / file.name).symlink_to(os.path.relpath(file, snapshot))
    asked = []

    def snapshot_download(repo, **options):
        asked.append((repo, options))
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    details = prepare_model({"source": "hub", "repo": "someone/model", "revision": "v1"}, tmp_path / "out")
    assert details["source"] == {"repo": "someone/model", "revision": "v1", "commit": commit}
    torch.testing.assert_close(logits(tmp_path / "out"), logits(tiny_models["gptj"]), rtol=0, atol=0)
    assert not any(file.is_symlink() for file in (tmp_path / "out").iterdir())
    ((repo, options),) = asked
    assert (repo, options["revision"]) == ("someone/model", "v1")
    assert not any(pattern.endswith((".bin", ".py", ".pt", "*")) for pattern in options["allow_patterns"])


def test_a_hub_model_without_safetensors_is_named(tiny_models, tmp_path, monkeypatch):
    snapshot = Path(shutil.copytree(tiny_models["gptj"], tmp_path / "snapshot"))
    drop_weights(snapshot)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **options: str(snapshot))
    with pytest.raises(
        UserError, match=r"^hub model a/b \(revision main\): has neither .* \(pickled weights are never read\)"
    ):
        prepare_model({"source": "hub", "repo": "a/b"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hub_model_that_asks_for_code_is_refused(tiny_models, tmp_path, monkeypatch):
    snapshot = Path(shutil.copytree(tiny_models["gptj"], tmp_path / "snapshot"))
    edit(snapshot / "config.json", experts_implementation="someone/kernels")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda repo, **options: str(snapshot))
    with pytest.raises(UserError, match=r"^hub model a/b .*experts_implementation is 'someone/kernels'"):
        prepare_model({"source": "hub", "repo": "a/b"}, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_hub_out_of_reach_is_one_sentence(tmp_path):
    code = f"""
from infoconflict.errors import UserError
from infoconflict.models.prepare import prepare_model
try:
    prepare_model({{"source": "hub", "repo": "someone/model", "revision": "v1"}}, {str(tmp_path / "models" / "out")!r})
except UserError as error:
    print("UserError:", error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    (said,) = [line for line in done.stdout.splitlines() if line.startswith("UserError:")]
    assert "hub model someone/model (revision v1): cannot be downloaded" in said
    assert said.endswith("check the name, the network and HF_HUB_OFFLINE, or download it by hand and use source: local")
    assert list((tmp_path / "models").iterdir()) == []


def test_a_package_with_another_digest_is_refused(tmp_path):
    (tmp_path / "file.whl").write_bytes(b"other")
    spec = {"source": "packaged", "package": "smollm2_135m_instruct"}
    with pytest.raises(UserError, match=r"SHA-256 is \w{64} where \w{64} is pinned"):
        prepare_model(spec, tmp_path / "models" / "out", source_file=tmp_path / "file.whl")
    assert list((tmp_path / "models").iterdir()) == []


def test_the_packaged_model(tmp_path):
    package = PACKAGES["smollm2_135m_instruct"]
    folder = os.environ.get("INFOCONFLICT_SOURCES")
    if not folder:
        pytest.skip(
            f"set INFOCONFLICT_SOURCES to the folder that holds {package.file}, such as results/sources after a run"
        )
    spec = {"source": "packaged", "package": "smollm2_135m_instruct"}
    details = prepare_model(spec, tmp_path / "model", source_file=Path(folder, package.file))
    assert (details["family"], details["parameters"]) == ("llama", 134_515_008)
    assert "quantization_config" not in read_json(tmp_path / "model" / "config.json")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.pad_token == tokenizer.eos_token
    batch = tokenizer("The capital of France is", return_tensors="pt")
    assert tokenizer.decode(model(**batch).logits[0, -1].argmax()).strip() == "Paris"
