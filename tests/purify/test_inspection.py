"""Hostile files, each made here, and the sentence that each is refused with."""

import json
import os
import pickle
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoconflict.errors import UserError
from infoconflict.purify.inspection import CHECKS, inspect, summary

WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def edit(path, **changes):
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({key: value for key, value in (content | changes).items() if value is not ...}))


def header_of(path):
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        return json.loads(stream.read(length)), path.stat().st_size - 8 - length


def rewrite(path, change, *, data=None):
    """Write a weight file anew with another header over the same, or the given, bytes."""
    header, size = header_of(path)
    content = path.read_bytes()[-size:] if data is None else data
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


def retensor(path, change):
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, {"format": "pt"})


def raw(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def shard(folder, home=lambda number: f"model-0000{1 + number % 2}-of-00002.safetensors"):
    tensors = load_file(folder / WEIGHTS)
    homes = {name: home(number) for number, name in enumerate(sorted(tensors))}
    for file in set(homes.values()):
        save_file({name: tensors[name] for name in tensors if homes[name] == file}, folder / file, {"format": "pt"})
    (folder / WEIGHTS).unlink()
    edit(folder / "model.safetensors.index.json", metadata={}, weight_map=homes)
    return homes


def misplace(folder):
    homes = shard(folder)
    edit(folder / "model.safetensors.index.json", weight_map=homes | {"model.ghost": min(homes.values())})


def first(header):
    return next(entry for name, entry in header.items() if name != "__metadata__")


def pickled(folder, name="pytorch_model.bin"):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(pickle.dumps({"weights": 0}))


def set_value(tensors, value):
    tensors["model.norm.weight"][3] = value


def overlap(header):
    entries = sorted(
        (entry for name, entry in header.items() if name != "__metadata__"), key=lambda e: e["data_offsets"]
    )
    size = entries[1]["data_offsets"][1] - entries[1]["data_offsets"][0]
    entries[1]["data_offsets"] = [0, size]


def gap(header):
    for name, entry in header.items():
        if name != "__metadata__":
            entry["data_offsets"] = [at + 8 for at in entry["data_offsets"]]


def notes(value):
    return lambda header: header.update(__metadata__=value)


def config(**changes):
    return lambda folder: edit(folder / "config.json", **changes)


def adapter(**changes):
    return lambda folder: edit(folder / "adapter_config.json", **changes)


def template(text):
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def token(content, number):
    def change(folder):
        path = folder / "tokenizer.json"
        tokenizer = json.loads(path.read_text())
        tokenizer["added_tokens"].append({"id": number, "content": content})
        path.write_text(json.dumps(tokenizer))

    return change


def sentencepiece(words):
    """Return a vocabulary as SentencePiece writes it: word, score, and for the first its kind, then the trainer's settings."""
    pieces = [
        b"\x0a" + bytes([len(word.encode())]) + word.encode() + b"\x15" + struct.pack("<f", -1.0) for word in words
    ]
    pieces[0] += b"\x18\x02"
    return b"".join(b"\x0a" + bytes([len(piece)]) + piece for piece in pieces) + b"\x12\x03\x20\x80\x05"


def swap_tokens(folder):
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    words = tokenizer["model"]["vocab"]
    words["a"], words["b"] = words["b"], words["a"]
    path.write_text(json.dumps(tokenizer))


# What is done to a whole model, and what the sentence must say.
HOSTILE = {
    "pickled weights": (pickled, "pytorch_model.bin: a pickle"),
    "pickle in a folder within": (lambda f: pickled(f, "old/optimizer.pt"), "old/optimizer.pt: a pickle"),
    "pickle with a capital": (lambda f: pickled(f, "MODEL.PKL"), "MODEL.PKL: a pickle"),
    "pickle called ckpt": (lambda f: pickled(f, "last.ckpt"), "last.ckpt: a pickle"),
    "pickle called pth": (lambda f: pickled(f, "last.pth"), "last.pth: a pickle"),
    "pickle under the name of weights": (lambda f: pickled(f, WEIGHTS), "pickle under another name"),
    "zip of torch under the name of weights": (
        lambda f: torch.save({"a": torch.ones(1)}, f / WEIGHTS),
        "pickle under another name",
    ),
    "program": (lambda f: (f / "modeling_own.py").write_text(""), "modeling_own.py: a program"),
    "library": (lambda f: (f / "kernel.so").write_text(""), "kernel.so: a program"),
    "auto_map in the config": (config(auto_map={"AutoModel": "own.Model"}), "config.json: auto_map asks for code"),
    "trust_remote_code": (config(trust_remote_code=True), "trust_remote_code asks for code"),
    "auto_map deep in the tokenizer's config": (
        lambda f: edit(f / "tokenizer_config.json", inner=[{"auto_map": {}}]),
        "tokenizer_config.json: auto_map asks for code",
    ),
    "attention of another repository": (
        config(_attn_implementation="owner/kernel"),
        "config.json: _attn_implementation is 'owner/kernel', which asks for code of another repository",
    ),
    "attention of another repository within the config": (
        config(text_config={"attn_implementation": {"": "owner/kernel@v1"}}),
        "attn_implementation is {'': 'owner/kernel@v1'}, which asks for code",
    ),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "config.json: not readable as JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "holds a list instead of an object"),
    "config nested without end": (lambda f: (f / "config.json").write_text('{"a":' * 9999), "not readable as JSON"),
    "config nested too deep": (
        lambda f: (f / "config.json").write_text('{"a":' * 500 + "1" + "}" * 500),
        "config.json: is nested more than 100 times",
    ),
    "config with a key twice": (
        lambda f: (f / "config.json").write_text('{"model_type": "llama", "model_type": "gpt2"}'),
        "a key stands there twice",
    ),
    "config of many megabytes": (lambda f: (f / "config.json").write_text(" " * (5 << 20)), "more than the"),
    "config without an architecture": (config(model_type=...), "states no model_type"),
    "quantised": (config(quantization_config={"bits": 4}), "weights are quantised"),
    "a billion layers": (config(num_hidden_layers=10**9), "num_hidden_layers is 1000000000"),
    "negative size": (config(hidden_size=-1), "hidden_size is -1"),
    "empty file": (lambda f: (f / WEIGHTS).write_bytes(b""), "has 0 bytes and no safetensors header"),
    "header longer than allowed": (
        lambda f: (f / WEIGHTS).write_bytes(struct.pack("<Q", 1 << 60) + b"{}"),
        "more than the 100000000 allowed",
    ),
    "header longer than the file": (
        lambda f: (f / WEIGHTS).write_bytes(struct.pack("<Q", 5000) + b"{}"),
        "claims 5000 bytes and the file has 10",
    ),
    "header is no JSON": (lambda f: (f / WEIGHTS).write_bytes(raw(b"{nothing")), "header is not valid JSON"),
    "header is not UTF-8": (lambda f: (f / WEIGHTS).write_bytes(raw(b"\xff\xfe{}")), "header is not valid JSON"),
    "header names a tensor twice": (
        lambda f: (f / WEIGHTS).write_bytes(raw(b'{"a": {}, "a": {}}')),
        "a key stands there twice",
    ),
    "notes that are no map": (lambda f: rewrite(f / WEIGHTS, notes("pt")), "its __metadata__ is no map of texts"),
    "notes that are no texts": (lambda f: rewrite(f / WEIGHTS, notes({"n": 1})), "its __metadata__ is no map of texts"),
    "no tensor at all": (lambda f: (f / WEIGHTS).write_bytes(raw({})), "holds no tensor"),
    "tensors overlap": (lambda f: rewrite(f / WEIGHTS, overlap), "overlap"),
    "bytes that no tensor claims": (
        lambda f: rewrite(f / WEIGHTS, gap, data=bytes(8 + header_of(f / WEIGHTS)[1])),
        "unclaimed",
    ),
    "bytes after the last tensor": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes() + b"payload"),
        "7 unclaimed bytes after",
    ),
    "file cut off": (lambda f: os.truncate(f / WEIGHTS, (f / WEIGHTS).stat().st_size - 4), "stands at bytes"),
    "offset out of range": (
        lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(data_offsets=[0, 1 << 50])),
        "stands at bytes 0 to 1125899906842624",
    ),
    "offsets reversed": (
        lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(data_offsets=[8, 0])),
        "bytes 8 to 0",
    ),
    "negative offset": (
        lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(data_offsets=[-8, 0])),
        "has the offsets",
    ),
    "shape of another size": (
        lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(shape=[3])),
        "where its shape [3]",
    ),
    "negative shape": (
        lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(shape=[-1, -1])),
        "has the shape [-1, -1]",
    ),
    "shape whose product would wrap": (
        lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(shape=[1 << 62, 4])),
        "takes",
    ),
    "unknown type": (lambda f: rewrite(f / WEIGHTS, lambda h: first(h).update(dtype="PY")), "unknown type 'PY'"),
    "tensor name with a line break": (
        lambda f: retensor(f / WEIGHTS, lambda t: t.update({"a\nb": torch.ones(1)})),
        "a tensor with the name 'a\\nb'",
    ),
    "tensor name with a path": (
        lambda f: retensor(f / WEIGHTS, lambda t: t.update({"../../a": torch.ones(1)})),
        "a tensor with the name '../../a'",
    ),
    "shapes other than the config's": (config(hidden_size=64), "where config.json promises (640, 64)"),
    "another number of layers": (config(num_hidden_layers=3), "lacks the tensor 'model.layers.2"),
    "a tensor too few": (
        lambda f: retensor(f / WEIGHTS, lambda t: t.pop("model.norm.weight")),
        "lacks the tensor 'model.norm.weight'",
    ),
    "a tensor too many": (
        lambda f: retensor(f / WEIGHTS, lambda t: t.update({"model.extra": torch.ones(2)})),
        "holds 'model.extra'",
    ),
    "weights as whole numbers": (
        lambda f: retensor(f / WEIGHTS, lambda t: t.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)})),
        "is stored as I8",
    ),
    "NaN": (lambda f: retensor(f / WEIGHTS, lambda t: set_value(t, float("nan"))), "'model.norm.weight' holds values"),
    "infinity": (lambda f: retensor(f / WEIGHTS, lambda t: set_value(t, float("-inf"))), "not finite"),
    "NaN in bfloat16": (
        lambda f: retensor(
            f / WEIGHTS,
            lambda t: t.update({"model.norm.weight": torch.full((32,), float("nan"), dtype=torch.bfloat16)}),
        ),
        "not finite",
    ),
    "infinity in float16": (
        lambda f: retensor(f / WEIGHTS, lambda t: t.update({"model.norm.weight": torch.full((32,), 1e9).half()})),
        "not finite",
    ),
    "numbers that float32 has not": (
        lambda f: retensor(
            f / WEIGHTS, lambda t: t.update({"model.norm.weight": torch.full((32,), -1e300, dtype=torch.float64)})
        ),
        "'model.norm.weight' holds numbers of 1e+12 or more",
    ),
    "numbers whose sums are infinite": (
        lambda f: retensor(f / WEIGHTS, lambda t: set_value(t, 3e38)),
        "'model.norm.weight' holds numbers of 1e+12 or more",
    ),
    "such numbers in bfloat16": (
        lambda f: retensor(
            f / WEIGHTS, lambda t: t.update({"model.norm.weight": torch.full((32,), 2.0**40, dtype=torch.bfloat16)})
        ),
        "'model.norm.weight' holds numbers of 1e+12 or more",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), "holds neither model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "two readings": (
        lambda f: edit(f / "model.safetensors.index.json", weight_map={"a": "b.safetensors"}),
        "so that tools differ in what they read",
    ),
    "a model and an adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "holds an adapter and model"),
    "index out of the folder": (
        lambda f: (shard(f), edit(f / "model.safetensors.index.json", weight_map={"a": "../secret.safetensors"})),
        "which is no weight file of this folder",
    ),
    "index with an absolute path": (
        lambda f: (shard(f), edit(f / "model.safetensors.index.json", weight_map={"a": "/etc/passwd"})),
        "which is no weight file of this folder",
    ),
    "index without a map": (
        lambda f: (shard(f), edit(f / "model.safetensors.index.json", weight_map=[])),
        "has no weight_map",
    ),
    "a shard is missing": (
        lambda f: (shard(f), (f / "model-00002-of-00002.safetensors").unlink()),
        "is missing, which",
    ),
    "index that disagrees": (misplace, "copy the folder again"),
    "link to a file elsewhere": (
        lambda f: (f / "notes.txt").symlink_to("/etc/hostname"),
        "notes.txt: is a link out of",
    ),
    "weights behind a link": (
        lambda f: ((f / WEIGHTS).rename(f.parent / "w"), (f / WEIGHTS).symlink_to(f.parent / "w")),
        "is a link out of the folder",
    ),
    "link to a folder elsewhere": (lambda f: (f / "inner").symlink_to("/etc"), "inner: is a link out of"),
    "link to nothing": (lambda f: (f / "notes.txt").symlink_to("gone"), "or to nothing"),
    "pipe": (lambda f: os.mkfifo(f / "pipe"), "neither a file nor a folder"),
    "name with two dots": (lambda f: (f / "a..b").write_text(""), "the name 'a..b' holds '..'"),
    "name with a plus": (lambda f: (f / "a+b").write_text(""), "the name 'a+b' holds '+'"),
    "name with an at": (lambda f: (f / "a@b").write_text(""), "the name 'a@b' holds '@'"),
    "name with a line break": (lambda f: (f / "a\nb").write_text(""), "which breaks paths"),
    "name with an escape": (lambda f: (f / "a\x1b[2J").write_text(""), "a mark that does not print"),
    "name that looks like an option": (lambda f: (f / "-rf").write_text(""), "a dash in front"),
    "another architecture": (config(model_type="gptj"), "is a 'gptj' and the base a 'llama'"),
    "weights with another meaning": (config(rms_norm_eps=0.5), "rms_norm_eps is 0.5 and the base's"),
    "positions with another meaning": (
        config(rope_scaling={"rope_type": "linear", "factor": 4.0}),
        "rope_scaling is {'rope_type': 'linear', 'factor': 4.0} and the base's None",
    ),
    "a scale that the base lacks": (config(logit_scale=0.1), "logit_scale is 0.1 and the base's None"),
    "a token without a row": (token("<extra>", 640), "has id 640 and the model 640 rows"),
    "a token with a negative id": (token("<extra>", -1), "has the id -1"),
    "an added token without a row": (
        lambda f: edit(f / "tokenizer_config.json", added_tokens_decoder={"99999": {"content": "<extra>"}}),
        "tokenizer_config.json: the token '<extra>' has id 99999",
    ),
    "an added token whose id is a word": (
        lambda f: edit(f / "tokenizer_config.json", added_tokens_decoder={"many": {"content": "<extra>"}}),
        "tokenizer_config.json: the token '<extra>' has the id 'many'",
    ),
    "added tokens in a file of their own": (
        lambda f: edit(f / "added_tokens.json", **{"<extra>": 99999}),
        "added_tokens.json: the token '<extra>' has id 99999",
    ),
    "a second vocabulary": (
        lambda f: edit(f / "vocab.json", word=99999),
        "vocab.json: the token 'word' has id 99999",
    ),
    "a vocabulary of bytes alone that is none": (
        lambda f: ((f / "tokenizer.json").unlink(), (f / "tokenizer.model").write_bytes(b"garbage")),
        "tokenizer.model: is no SentencePiece model",
    ),
    "a vocabulary of bytes without a row": (
        lambda f: (f / "tokenizer.model").write_bytes(sentencepiece([f"{n}." for n in range(641)])),
        "tokenizer.model: the token '640.' has id 640",
    ),
    "tokens exchanged": (swap_tokens, "does not fit the base"),
    "template that imports": (template("{% import 'x' as y %}"), "imports another template"),
    "template that reaches for internals": (template("{{ messages.__class__ }}"), "the attribute '__class__'"),
    "template that loops": (template("{% for i in range(10**9) %}{% endfor %}"), "a range that may go beyond"),
    "template in the tokenizer's config": (
        lambda f: edit(f / "tokenizer_config.json", chat_template="{{ lipsum(9) }}"),
        "calls 'lipsum'",
    ),
    "second template of a list": (
        lambda f: edit(f / "tokenizer_config.json", chat_template=[{"name": "tools", "template": "{{ x|attr('y') }}"}]),
        "uses the filter 'attr'",
    ),
    "template that only names a function": (
        lambda f: edit(f / "tokenizer_config.json", chat_template={"default": "{{ lipsum }}"}),
        "the chat template uses Jinja's own 'lipsum'",
    ),
    "templates by name": (
        lambda f: edit(f / "tokenizer_config.json", chat_template={"default": "{{ x }}", "tools": "{{ y|attr('z') }}"}),
        "tokenizer_config.json: the chat template uses the filter 'attr'",
    ),
    "templates by name in a file of their own": (
        lambda f: edit(f / "chat_template.json", chat_template={"default": "{{ lipsum(9) }}"}),
        "chat_template.json: the chat template calls 'lipsum'",
    ),
    "template among the special tokens": (
        lambda f: edit(f / "special_tokens_map.json", chat_template="{{ lipsum(9) }}"),
        "special_tokens_map.json: the chat template calls 'lipsum'",
    ),
    "template that is a number": (
        lambda f: edit(f / "tokenizer_config.json", chat_template=7),
        "chat_template holds '7' where a template",
    ),
    "template within a template": (
        lambda f: edit(f / "tokenizer_config.json", chat_template={"default": {"template": "{{ x }}"}}),
        "where a template and its plain name are wanted",
    ),
    "template with a path for a name": (
        lambda f: edit(f / "tokenizer_config.json", chat_template={"../x": "{{ x }}"}),
        "where a template and its plain name are wanted",
    ),
}
# The same for an adapter.
HOSTILE_ADAPTERS = {
    "pickled adapter": (lambda f: pickled(f, "adapter_model.bin"), "a pickle"),
    "adapter without weights": (lambda f: (f / ADAPTER).unlink(), "lacks adapter_model.safetensors"),
    "adapter without a config": (lambda f: (f / "adapter_config.json").unlink(), "lacks adapter_config.json"),
    "no LoRA": (lambda f: edit(f / "adapter_config.json", peft_type="PREFIX"), "peft_type is 'PREFIX'"),
    "modules saved whole": (
        adapter(modules_to_save=["lm_head"]),
        "the suspect, adapter_config.json: uses modules_to_save, and only plain LoRA is followed; merge it into its base with PEFT",
    ),
    "biases": (adapter(bias="all"), "uses bias, and only plain LoRA is followed; merge it into its base"),
    "start that alters the base": (lambda f: edit(f / "adapter_config.json", init_lora_weights="pissa"), "pissa"),
    "pattern that runs without end": (
        lambda f: edit(f / "adapter_config.json", alpha_pattern={"(a+)+$": 1}),
        "alpha_pattern holds more than names",
    ),
    "infinite scale": (
        lambda f: edit(f / "adapter_config.json", lora_alpha=float("inf")),
        "a scale is inf, no finite number",
    ),
    "scale of hundreds of digits": (adapter(lora_alpha=10**400), "a scale is 1000"),
    "scale beyond bounds": (adapter(alpha_pattern={"q_proj": -1e9}), "a scale is -1000000000.0"),
    "scale that is a truth": (adapter(lora_alpha=True), "a scale is True"),
    "rank other than the matrices'": (adapter(r=64), "have rank 4 where adapter_config.json says 64"),
    "rank that is a word": (adapter(r="a"), "a rank is 'a', no whole number from 1"),
    "no rank": (adapter(r=...), "a rank is None, no whole number"),
    "rank zero": (
        lambda f: (
            edit(f / "adapter_config.json", r=0),
            retensor(f / ADAPTER, lambda t: t.update({key: t[key][:0] if "_A" in key else t[key][:, :0] for key in t})),
        ),
        "a rank is 0, no whole number from 1",
    ),
    "matrices of rank zero": (
        lambda f: retensor(
            f / ADAPTER, lambda t: t.update({key: t[key][:0] if "_A" in key else t[key][:, :0] for key in t})
        ),
        "have rank 0 where adapter_config.json says 4",
    ),
    "another rank for a module": (
        adapter(rank_pattern={r"layers\.1\.self_attn\.q_proj": 2}),
        "'model.layers.1.self_attn.q_proj' have rank 4 where adapter_config.json says 2",
    ),
    "rank of a module is a word": (adapter(rank_pattern={"q_proj": "2"}), "a rank is '2', no whole number"),
    "a target without matrices": (
        lambda f: (
            retensor(f / ADAPTER, lambda t: [t.pop(key) for key in list(t) if "v_proj" in key]),
            edit(f / "adapter_config.json", target_modules=MODULES),
        ),
        "target_modules of adapter_config.json name 'model.layers.0.self_attn.v_proj'",
    ),
    "matrices without a target": (
        adapter(target_modules=MODULES[1:]),
        "target_modules of adapter_config.json leave out 'model.layers.0.self_attn.q_proj'",
    ),
    "matrices of a layer that is left out": (
        adapter(target_modules=MODULES, layers_to_transform=[0]),
        "leave out 'model.layers.1.mlp.down_proj'",
    ),
    "matrices of a module that is excluded": (
        adapter(target_modules=MODULES, exclude_modules=["1.mlp.up_proj"]),
        "leave out 'model.layers.1.mlp.up_proj'",
    ),
    "no targets": (adapter(target_modules=None), "target_modules is None; write it as a list"),
    "targets by an expression": (adapter(target_modules="(a+)+"), "target_modules is '(a+)+'; write it as a list"),
    "made for another base": (
        lambda f: edit(f / "adapter_config.json", base_model_name_or_path="other/base"),
        "says it was made for other/base, not some/base",
    ),
    "a module that the base lacks": (
        lambda f: retensor(
            f / ADAPTER, lambda t: t.update({"base_model.model.model.x.lora_A.weight": torch.ones(2, 2)})
        ),
        "adapts 'model.x', which the base lacks",
    ),
    "matrices of another width": (
        lambda f: retensor(
            f / ADAPTER, lambda t: t.update({key: torch.ones(4, 48) for key in t if "q_proj.lora_A" in key})
        ),
        "the adapter is for another base",
    ),
    "half a pair": (
        lambda f: retensor(f / ADAPTER, lambda t: t.pop(next(key for key in t if "lora_B" in key))),
        "do not belong together",
    ),
    "a tensor that is no LoRA": (
        lambda f: retensor(f / ADAPTER, lambda t: t.update({"extra": torch.ones(1)})),
        "'extra' is no LoRA matrix of a linear layer; merge it into its base",
    ),
    "infinite adapter": (
        lambda f: retensor(f / ADAPTER, lambda t: t.update({key: t[key] / 0 for key in list(t)[:1]})),
        "not finite",
    ),
    "products that are infinite": (
        lambda f: retensor(f / ADAPTER, lambda t: t.update({key: t[key] * 0 + 1e30 for key in t})),
        "holds numbers of 1e+12 or more",
    ),
    "a module to import": (
        adapter(auto_mapping={"base_model_class": "system", "parent_library": "os"}),
        "parent_library is 'os', which asks for a module to be imported",
    ),
    "vocabulary of another base": (lambda f: edit(f / "vocab.json", **{"word": 9999}), "has id 9999"),
    "code wanted by an adapter": (lambda f: edit(f / "adapter_config.json", auto_map={"x": "y"}), "auto_map"),
}


def refused(folder, models, says):
    base = inspect(models / "base", "the base")
    with pytest.raises(UserError) as caught:
        inspect(folder, "the suspect", base=base, base_id="some/base@v1")
    sentence = str(caught.value)
    assert says in sentence
    assert sentence.startswith("the suspect"), sentence
    assert "\n" not in sentence, "one sentence, one line"


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_model_is_refused(case, models, spoiled):
    spoil, says = HOSTILE[case]
    folder = spoiled("tuned")
    spoil(folder)
    refused(folder, models, says)


@pytest.mark.parametrize("case", HOSTILE_ADAPTERS)
def test_a_hostile_adapter_is_refused(case, models, spoiled):
    spoil, says = HOSTILE_ADAPTERS[case]
    folder = spoiled("adapter")
    spoil(folder)
    refused(folder, models, says)


def test_honest_models_pass(models, spoiled):
    base = inspect(models / "base", "base")
    assert summary(inspect(models / "tuned", "tuned", base=base))["kind"] == "checkpoint"
    found = summary(inspect(models / "adapter", "adapter", base=base))
    assert found["kind"] == "adapter"
    assert len(found["checks"]) == len(CHECKS)
    shard(sharded := spoiled("tuned"))
    assert summary(inspect(sharded, "sharded", base=base))["tensors"] == 21


@pytest.mark.parametrize("architecture", ["gpt2", "gptj"])
def test_the_other_architectures_pass(tiny_dirs, architecture):
    assert summary(inspect(tiny_dirs[architecture], architecture))["kind"] == "checkpoint"


@pytest.mark.parametrize(
    "changes",
    [
        {"target_modules": MODULES},
        {"target_modules": [f"self_attn.{name}" for name in MODULES[:4]] + MODULES[4:], "exclude_modules": ["lm_head"]},
        {"target_modules": MODULES, "layers_to_transform": [0, 1], "layers_pattern": "layers"},
        {"r": 9, "rank_pattern": dict.fromkeys(MODULES, 4)},
        {"auto_mapping": {"base_model_class": "A", "parent_library": "transformers.models.llama.modeling_llama"}},
        {"auto_mapping": None},
    ],
)
def test_other_ways_to_name_the_same_modules_pass(changes, models, spoiled):
    folder = spoiled("adapter")
    adapter(**changes)(folder)
    inspect(folder, "suspect", base=inspect(models / "base", "base"))


@pytest.mark.parametrize("architecture", ["gpt2", "gptj", "llama"])
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear", "rank_pattern": {"fc_in": 2, "up_proj": 3}},
        {"target_modules": None, "layers_to_transform": [1], "rank_pattern": {"q_proj": 2, "c_attn": 5}},
    ],
)
def test_what_peft_saves_passes(architecture, options, tiny_dirs, tmp_path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    options = options | {"fan_in_fan_out": architecture == "gpt2", "task_type": "CAUSAL_LM", "r": 4}
    model = AutoModelForCausalLM.from_pretrained(tiny_dirs[architecture], local_files_only=True)
    get_peft_model(model, LoraConfig(**options)).save_pretrained(tmp_path / "adapter")
    base = inspect(tiny_dirs[architecture], "base")
    assert summary(inspect(tmp_path / "adapter", "suspect", base=base))["kind"] == "adapter"


CLAIMED = "some-other/base"


def with_claim(models, spoiled, *, base_id, claimed=CLAIMED, **config_of_base):
    edit((base := spoiled("base")) / "config.json", **config_of_base)
    adapter(base_model_name_or_path=claimed)(folder := spoiled("adapter"))
    return inspect(folder, "suspect", base=inspect(base, "base"), base_id=base_id)


@pytest.mark.parametrize(
    ("base_id", "told", "known"),
    [
        ("smollm2_135m_instruct", ..., "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("some/base@v1", "an/ancestor", "some/base"),
        ("/home/me/base", "some/base", "some/base"),
    ],
)
def test_the_claimed_base_is_compared_with_every_name_of_the_given(base_id, told, known, models, spoiled):
    with pytest.raises(UserError, match=f"says it was made for {CLAIMED}, not {known}; give BASE={CLAIMED}"):
        with_claim(models, spoiled, base_id=base_id, _name_or_path=told)


def test_the_claimed_base_may_be_the_packaged_one(models, spoiled):
    claimed = "huggingfacetb/SmolLM2-135M-Instruct"
    found = with_claim(models, spoiled, base_id="smollm2_135m_instruct", claimed=claimed)
    assert summary(found)["uncompared_base"] is None


@pytest.mark.parametrize(
    ("claimed", "told", "shown"),
    [
        (CLAIMED, ..., CLAIMED),
        (CLAIMED, "/models/base", CLAIMED),
        ("/their/base", "some/base", "/their/base"),
        (None, "some/base", ""),
        ("their\ud800base", ..., "their?base"),
        ("a" * 999, ..., "a" * 200),
    ],
)
def test_a_claimed_base_that_cannot_be_compared_is_told(claimed, told, shown, models, spoiled):
    found = with_claim(models, spoiled, base_id="/home/me/base", claimed=claimed, _name_or_path=told)
    assert summary(found)["uncompared_base"] == shown


def test_other_keys_of_the_config_are_told(models, spoiled):
    config(max_position_embeddings=4096, **{"own<b>key": [1] * 99})(folder := spoiled("tuned"))
    found = summary(inspect(folder, "suspect", base=inspect(models / "base", "base")))
    first, second = found["other_config"]
    assert first == "max_position_embeddings: 4096, the base's 1024"
    assert second.startswith("own<b>key: [1, 1, 1")
    assert second.endswith("..., the base's None")


def test_a_whole_model_claims_no_base(models):
    found = inspect(models / "tuned", "suspect", base=inspect(models / "base", "base"))
    assert summary(found)["uncompared_base"] is None


def test_escaped_module_names_are_plain_patterns(models, spoiled):
    folder = spoiled("adapter")
    edit(folder / "adapter_config.json", alpha_pattern={r"model\.layers\.0\.self_attn\.q_proj": 4, "^model.x-y$": 2.0})
    inspect(folder, "suspect", base=inspect(models / "base", "base"))


def test_the_base_tells_how_its_files_name_a_token(models, spoiled):
    base, suspect = spoiled("base"), spoiled("tuned")
    words = [f"{number}." for number in range(640)]
    for folder in (base, suspect):
        (folder / "tokenizer.model").write_bytes(sentencepiece(words))
    inspect(suspect, "suspect", base=inspect(base, "base"))
    (suspect / "tokenizer.model").write_bytes(sentencepiece(words[::-1]))
    with pytest.raises(UserError, match=r"tokenizer\.model: the token '639\.' has id 0"):
        inspect(suspect, "suspect", base=inspect(base, "base"))


def test_large_numbers_and_kernels_of_transformers_pass(models, spoiled):
    folder = spoiled("tuned")
    config(_attn_implementation="sdpa", attn_implementation=None)(folder)
    large = {torch.float64: 2.0**39, torch.float32: -(2.0**39), torch.bfloat16: 2.0**39, torch.float16: 65504.0}
    for kind, value in large.items():
        retensor(
            folder / WEIGHTS,
            lambda t, kind=kind, value=value: t.update({"model.norm.weight": torch.full((32,), value, dtype=kind)}),
        )
        inspect(folder, "suspect", base=inspect(models / "base", "base"))


def test_links_within_the_folder_pass(models, spoiled):
    folder = spoiled("tuned")
    (folder / "blob").mkdir()
    (folder / WEIGHTS).rename(folder / "blob" / "weights")
    (folder / WEIGHTS).symlink_to(Path("blob", "weights"))
    inspect(folder, "suspect", base=inspect(models / "base", "base"))


def test_an_adapter_alone_is_no_base(models):
    with pytest.raises(UserError, match="is an adapter and no whole model"):
        inspect(models / "adapter", "the base")


def test_the_base_passes_the_same_checks(spoiled):
    folder = spoiled("base")
    pickled(folder)
    with pytest.raises(UserError, match=r"the base, pytorch_model\.bin: a pickle"):
        inspect(folder, "the base")


def test_another_chat_template_is_told(models, spoiled):
    folder = spoiled("tuned")
    template("{{ messages[0]['content'] }}")(folder)
    found = summary(inspect(folder, "suspect", base=inspect(models / "base", "base")))
    assert found["other_chat_template"] == ["chat_template.jinja"]


def test_nothing_is_loaded_by_the_checks(models):
    # Neither torch nor transformers nor pickle's machinery is there to be reached.
    code = (
        "import sys; from pathlib import Path; from infoconflict.purify.inspection import inspect, summary; "
        f"base = inspect(Path({str(models / 'base')!r}), 'base'); "
        f"summary(inspect(Path({str(models / 'tuned')!r}), 'tuned', base=base)); "
        "print(*sorted({'torch', 'transformers', 'safetensors', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_folder_of_the_hubs_cache_is_refused_with_the_command_that_copies_it(models, tmp_path):
    cache = tmp_path / "models--owner--name"
    snapshot = cache / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (cache / "blobs").mkdir()
    for file in (models / "base").iterdir():
        blob = cache / "blobs" / file.name.encode().hex()
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    with pytest.raises(UserError, match=re.escape(f"with cp -rL {snapshot.resolve()} FOLDER and give FOLDER")):
        inspect(snapshot, "suspect")
    subprocess.run(["cp", "-rL", str(snapshot), str(tmp_path / "plain")], check=True)
    inspect(tmp_path / "plain", "suspect")
    shutil.rmtree(cache / "blobs")
    with pytest.raises(UserError, match="or to nothing"):
        inspect(snapshot, "suspect")


def test_an_added_token_is_refused_with_what_would_do(models, spoiled):
    folder = spoiled("tuned")
    words = json.loads((folder / "config.json").read_text())["vocab_size"]
    edit(folder / "config.json", vocab_size=words + 1)
    refused(
        folder,
        models,
        f"cut their rows off (transformers' resize_token_embeddings({words})) and remove the tokenizer's",
    )
    edit(folder / "config.json", vocab_size=words)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["added_tokens"].append({"id": words, "content": "[PAD]"})
    (folder / "tokenizer.json").write_text(json.dumps(content))
    refused(folder, models, "ask for the model's own tokenizer, or remove its files, as the base's is used")
