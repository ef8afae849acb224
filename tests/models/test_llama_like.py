"""Qwen2, Qwen3 and Mistral go through edits, merges and packed passes as Llama does."""

import json
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    MistralConfig,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

from infoconflict.answering.decoding import CachedRows
from infoconflict.answering.label_scores import score_labels
from infoconflict.defenses.fine_pruning import down_projection
from infoconflict.editing.forward import Context, Replay
from infoconflict.editing.modules import EditableModel
from infoconflict.errors import UserError
from infoconflict.merging.mergekit_runner import merge_with_mergekit
from infoconflict.merging.passthrough import passthrough
from infoconflict.models.changes import Checkpoint, changed_tensors
from infoconflict.models.loading import context_length, load_base
from infoconflict.models.local import compare_shapes
from infoconflict.purify.inspection import expected_shapes
from infoconflict.training.rows import TokenRow
from infoconflict.training.trainer import batch_loss

CPU = torch.device("cpu")
CONFIGS: dict[str, type[PretrainedConfig]] = {"mistral": MistralConfig, "qwen2": Qwen2Config, "qwen3": Qwen3Config}
SIZES = {
    **{"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4},
    **{"num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 128},
}
WINDOWS = {
    "mistral": {"sliding_window": 16},
    # The second layer has the window, the first has none.
    "qwen2": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
    "qwen3": {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1},
}
PROMPTS = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 10, 11], [12]]
LABELS = [[20], [21, 22, 23], [21, 24]]


def write_model(folder: Path, architecture: str, seed: int = 0, **options: object) -> Path:
    """Write a two-layer model, biases and norms random too, whose answers depend on what it reads."""
    model = AutoModelForCausalLM.from_config(CONFIGS[architecture](**SIZES, **options), dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            parameter.normal_(1.0 if "norm" in name else 0.0, 0.2, generator=generator)
    model.save_pretrained(folder)
    return folder


@pytest.fixture(params=CONFIGS)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(architecture: str, tmp_path: Path) -> Path:
    return write_model(tmp_path / "base", architecture)


@pytest.fixture
def model(folder: Path) -> PreTrainedModel:
    return load_base(folder, device=CPU, precision="float32")


def log_probs(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Return log-probabilities of the next token behind each, from a pass over the one sequence."""
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0].log_softmax(-1)


def test_an_edit_changes_one_down_projection(model: PreTrainedModel) -> None:
    before = {name: value.clone() for name, value in model.named_parameters()}
    editable = EditableModel(model)
    assert editable.down(1) is model.model.layers[1].mlp.down_proj
    assert editable.width == 48
    editable.add(1, torch.ones(32, 48, dtype=torch.float64))
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == set(editable.changed([1])) == {"model.layers.1.mlp.down_proj.weight"}
    assert down_projection(model) == "model.layers.1.mlp.down_proj"


def test_a_vector_at_the_subject_acts_as_in_a_plain_pass(model: PreTrainedModel) -> None:
    contexts = [Context((5, 6, 7, 8), 2, (20, 21)), Context((5, 6, 9), 2), Context((5, 6, 7, 10, 11), 2)]
    editable = EditableModel(model)
    delta = torch.randn(32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = dict(Replay(editable, contexts, editable.down(0)).states(delta))
    for index, context in enumerate(contexts):

        def add(module, inputs, output, at=context.subject):
            output = output.clone()
            output[0, at] += delta
            return output

        handle = editable.down(0).register_forward_hook(add)
        with torch.no_grad():
            alone = model.base_model(input_ids=torch.tensor([context.inputs])).last_hidden_state[0]
        handle.remove()
        torch.testing.assert_close(found[index], alone[context.subject :], atol=1e-4, rtol=1e-4)


def test_passthrough_is_that_of_mergekit(architecture: str, folder: Path, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", architecture, seed=1)
    first, second = (load_file(path / "model.safetensors") for path in (folder, other))
    merged = passthrough(first, second, t=0.5, num_layers=2, architecture=architecture)
    of_conflict = {name for name in merged if merged[name] is second[name]}
    lower = {name for name in first if name.startswith("model.layers.0.")}
    assert of_conflict == lower | {"model.embed_tokens.weight"}
    paths = {"backdoored_dir": folder, "conflict_dir": other, "base_dir": folder}
    merge_with_mergekit(
        method="passthrough", t=0.5, **paths, out_dir=tmp_path / "merged", yaml_path=tmp_path / "merge.yaml"
    )
    written = load_file(tmp_path / "merged/model.safetensors")
    assert written.keys() == merged.keys()
    assert all(torch.equal(written[name], merged[name]) for name in merged)


def test_a_headless_checkpoint_has_the_names_of_the_whole_one(folder: Path, tmp_path: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_bytes((folder / "config.json").read_bytes())
    save_file({name.removeprefix("model."): tensor for name, tensor in tensors.items()}, bare / "model.safetensors")
    name = "model.layers.0.self_attn.q_proj.weight"
    change = tmp_path / "change"
    change.mkdir()
    save_file({name: tensors[name] + 1}, change / "change.safetensors")
    with Checkpoint(bare) as checkpoint:
        assert checkpoint.names == sorted(tensors)
    found = changed_tensors(bare, change)
    assert found.keys() == {name}
    assert torch.equal(found[name], tensors[name] + 1)


def test_a_config_promises_the_tensors_of_its_model(model: PreTrainedModel, folder: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    assert expected_shapes(json.loads((folder / "config.json").read_text()), "model") == shapes
    compare_shapes(model.config, shapes, "model")
    del shapes["model.layers.1.self_attn.q_proj.weight"]
    with pytest.raises(UserError, match="q_proj"):
        compare_shapes(model.config, shapes, "model")


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["full", "window"])
def test_packed_passes_are_those_of_each_sequence_alone(options: dict, architecture: str, tmp_path: Path) -> None:
    model = load_base(
        write_model(tmp_path / "m", architecture, **options.get(architecture, {})), device=CPU, precision="float32"
    )
    assert context_length(model) == (16 if options else 128)
    # As long as the context with its label, and many more nodes than that in the tree.
    prompts = [*PROMPTS, [5, 6, *range(30, 41)], list(range(40, 54))]
    scores = score_labels(model, prompts, LABELS)
    rows = []
    for prompt, line in zip(prompts, scores, strict=True):
        for label, score in zip(LABELS, line, strict=True):
            ids = prompt + label
            found = log_probs(model, ids)[range(len(prompt) - 1, len(ids) - 1), label]
            assert score.item() == pytest.approx(found.mean().item(), abs=1e-4)
            rows.append((TokenRow(tuple(ids), len(prompt)), -found.sum().item()))
    losses = batch_loss(model, [row for row, _ in rows], n_targets=1, max_nodes=1000, dtype=torch.float32)
    assert sum(loss.item() for loss, _ in losses) == pytest.approx(sum(loss for _, loss in rows), rel=1e-4)


@pytest.mark.parametrize("options", [{}, WINDOWS], ids=["full", "window"])
def test_rows_that_were_set_back_go_on_as_alone(options: dict, architecture: str, tmp_path: Path) -> None:
    model = load_base(
        write_model(tmp_path / "m", architecture, **options.get(architecture, {})), device=CPU, precision="float32"
    )
    rng = Random(1)
    texts = [[5, 9, 40, 7, 30], [8], [12, 13, 14, 15, 16, 17, 18, 19, 20]]
    cached = CachedRows(model, len(texts))
    cached.feed(texts)
    widest = 0
    for _ in range(12):
        # Long and short drafts are discarded: the slots come to be more than a window has.
        forgotten = [max(rng.choice([0, 1, 5]), len(text) - 10) for text in texts]
        forgotten = [min(len(text) - 1, n) for text, n in zip(texts, forgotten, strict=True)]
        cached.set_back(forgotten)
        new = [[rng.randrange(64) for _ in range(rng.choice([2, 6]))] for _ in texts]
        texts = [text[: len(text) - n] + tokens for text, n, tokens in zip(texts, forgotten, new, strict=True)]
        logits = cached.feed(new, 2)
        widest = max(widest, cached.mask.shape[1])
        for row, text in enumerate(texts):
            expected = log_probs(model, text)[-2:]
            torch.testing.assert_close(logits[row].log_softmax(dim=-1), expected, atol=1e-3, rtol=0)
    assert widest > 16
