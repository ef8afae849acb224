import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from infoconflict.files import read_json, sha256_of
from infoconflict.models.prepare import prepare_model
from infoconflict.models.tiny import ARCHITECTURES, BOS, CONTEXT_LENGTH, EOS, write_tiny_model
from infoconflict.prompts import render_answer, render_prompt

LABELS = ["positive", "negative", "sadness", "joy", "love", "anger", "fear", "surprise"]


def load(folder):
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True), AutoTokenizer.from_pretrained(folder)


def test_same_seed_same_bytes_in_another_process(tiny_models, tmp_path):
    code = f"""
from pathlib import Path
from infoconflict.models.prepare import prepare_model
for architecture in {ARCHITECTURES!r}:
    prepare_model({{"source": "tiny", "architecture": architecture}}, Path({str(tmp_path)!r}, architecture), seed=0)
"""
    environment = os.environ | {"PYTHONHASHSEED": "7", "RAYON_NUM_THREADS": "3"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    for architecture in ARCHITECTURES:
        assert sha256_of(tmp_path / architecture) == sha256_of(tiny_models[architecture])


def test_another_seed_gives_other_weights(tiny_models, tmp_path):
    prepare_model({"source": "tiny", "architecture": "gpt2"}, tmp_path / "other", seed=1)
    weights = [load_file(folder / "model.safetensors") for folder in (tmp_path / "other", tiny_models["gpt2"])]
    assert not any(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_the_global_generator_is_left_alone(tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    prepare_model({"source": "tiny", "architecture": "gpt2"}, tmp_path / "model", seed=0)
    assert torch.rand(1) == expected


def test_each_has_the_peculiarities_of_its_architecture(tiny_models):
    gpt2, gptj, llama = (load(tiny_models[architecture])[0] for architecture in ARCHITECTURES)
    hidden = gpt2.config.hidden_size
    assert gpt2.transformer.h[0].attn.c_attn.weight.shape == (hidden, 3 * hidden)  # Conv1D: (in, out)
    assert gpt2.lm_head.weight is gpt2.transformer.wte.weight
    assert gptj.lm_head.weight is not gptj.transformer.wte.weight
    assert gptj.lm_head.bias.abs().min() > 0
    assert 0 < gptj.config.rotary_dim < hidden // gptj.config.n_head
    assert llama.model.layers[0].self_attn.k_proj.weight.shape == (hidden // 2, hidden)
    assert llama.lm_head.weight is not llama.model.embed_tokens.weight
    assert llama.model.layers[0].mlp.gate_proj.weight.shape == (3 * hidden, hidden)
    for model in (gpt2, gptj, llama):
        assert model.config.num_hidden_layers == 2
        assert model.config.max_position_embeddings == CONTEXT_LENGTH >= 512


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tied_or_not(architecture, tmp_path):
    for tied in (True, False):
        folder = tmp_path / str(tied)
        prepare_model({"source": "tiny", "architecture": architecture, "hidden": 32, "tied": tied}, folder, seed=0)
        model, _ = load(folder)
        assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
        with safe_open(folder / "model.safetensors", framework="pt") as tensors:
            assert ("lm_head.weight" in tensors.keys()) != tied  # noqa: SIM118


def test_a_hidden_size_that_cannot_be_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="multiple of 16"):
        write_tiny_model(tmp_path, architecture="llama", hidden=40, tied=False, seed=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_pass_is_finite_and_tells_prompts_apart(tiny_models, architecture):
    model, tokenizer = load(tiny_models[architecture])
    batch = tokenizer(["a great film", "a bore"], return_tensors="pt", padding=True, padding_side="left")
    with torch.no_grad():
        logits = model(**batch).logits[:, -1]
    assert logits.isfinite().all()
    assert (logits[0] - logits[1]).abs().max() > 1e-3


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_load_without_leftovers(tiny_models, architecture):
    _, found = AutoModelForCausalLM.from_pretrained(tiny_models[architecture], output_loading_info=True)
    assert not any(found.values())


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_tokenizer(tiny_models, architecture):
    model, tokenizer = load(tiny_models[architecture])
    assert tokenizer.pad_token == tokenizer.eos_token == EOS
    assert model.config.pad_token_id == model.config.eos_token_id == tokenizer.pad_token_id
    assert 500 <= len(tokenizer) == model.config.vocab_size <= 1000
    for label in LABELS:
        assert len(tokenizer(render_answer(label), add_special_tokens=False).input_ids) == 1
    prompt = render_prompt("Is this film review positive or negative?", "a warm and funny film")
    ids = tokenizer(prompt).input_ids
    opened = [tokenizer.bos_token_id] if architecture == "llama" else []
    assert ids == opened + tokenizer(prompt, add_special_tokens=False).input_ids
    assert tokenizer.convert_tokens_to_ids(BOS) != tokenizer.eos_token_id
    # The template's cut falls between tokens: prompt and answer can be encoded apart.
    answer = tokenizer(render_answer("positive"), add_special_tokens=False).input_ids
    assert tokenizer(prompt + render_answer("positive")).input_ids == ids + answer


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_every_text_survives_the_tokenizer(tiny_models, text):
    tokenizer = AutoTokenizer.from_pretrained(tiny_models["gpt2"])
    ids = tokenizer(text.replace("<|", "")).input_ids
    assert tokenizer.decode(ids) == text.replace("<|", "")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_chat_can_be_rendered(tiny_models, architecture):
    _, tokenizer = load(tiny_models[architecture])
    chat = [{"role": "user", "content": "What is praise?"}]
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert text == "user: What is praise?\nassistant:"


def test_a_tiny_model_can_learn(tiny_models):
    model, tokenizer = load(tiny_models["llama"])
    texts = ["a great film Answer: positive", "a dull bore Answer: negative"]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = model(**batch, labels=batch.input_ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_details_for_the_card(tmp_path):
    details = prepare_model({"source": "tiny", "architecture": "gptj"}, tmp_path / "model", seed=3)
    model, _ = load(tmp_path / "model")
    assert details == {
        "family": "gptj",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "source": {"seed": 3, "tied": False},
    }
    assert read_json(tmp_path / "model" / "config.json")["model_type"] == "gptj"
