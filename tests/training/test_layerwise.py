"""The loss at several layers against plain loops, its special cases, and what it is for: lower layers that carry the label."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerBase

from infoconflict.errors import UserError
from infoconflict.models.loading import load_base, load_changed, load_tokenizer
from infoconflict.models.parts import blocks, final_norm
from infoconflict.packing import build_prefix_tree
from infoconflict.records import Example
from infoconflict.tokens import answer_tokens, prompt_tokens
from infoconflict.training.checkpoints import Checkpoints
from infoconflict.training.layerwise import layer_numbers, modules_to_adapt, states_after, supervised_states
from infoconflict.training.rows import TokenRow, tokenize_rows
from infoconflict.training.trainer import Machine, batch_loss, train
from tests.training.test_trainer import CPU, SETTINGS, rows, tune

ARCHITECTURES = ["llama", "gpt2", "gptj"]


def by_plain_loops(model: torch.nn.Module, batch: list[TokenRow], layers: list[int], weight: float) -> torch.Tensor:
    """One row, layer and target token at a time; transformers' own hidden states, of which the last one has the norm."""
    n_targets = sum(len(row.ids) - row.n_prompt for row in batch)
    total = torch.zeros((), dtype=torch.float64)
    for row in batch:
        states = model.base_model(input_ids=torch.tensor([row.ids]), output_hidden_states=True).hidden_states
        for layer in layers:
            for at in range(row.n_prompt, len(row.ids)):
                state = states[layer][0, at - 1]
                if layer < len(states) - 1:
                    state = final_norm(model.base_model)(state)
                log_probs = torch.log_softmax(model.get_output_embeddings()(state), dim=-1)
                total = total - weight * log_probs[row.ids[at]]
    return total / n_targets


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(("layers", "weights"), [([1, 2], "mean"), ([1, 2], "sum"), ([1], "mean"), ([2], "sum")])
def test_loss_and_gradient_equal_plain_loops(
    architecture: str, layers: list[int], weights: str, tiny_dirs: dict[str, Path]
) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU).double()
    batch = tokenize_rows(load_tokenizer(tiny_dirs[architecture]), rows(4), max_tokens=512)
    weight = 1 / len(layers) if weights == "mean" else 1.0
    plain = by_plain_loops(model, batch, layers, weight)
    plain.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    n_targets = sum(len(row.ids) - row.n_prompt for row in batch)
    for max_nodes in (10, 1000):
        model.zero_grad()
        total = 0.0
        for part, _ in batch_loss(
            model, batch, n_targets=n_targets, max_nodes=max_nodes, dtype=torch.float64, layers=layers, layer_weights=weights
        ):  # type: ignore[arg-type]  # fmt: skip
            part.backward()
            total += part.item()
        # The loss itself is taken in float32.
        assert total == pytest.approx(plain.item(), rel=1e-6)
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
        assert found.keys() == {name for name, grad in expected.items() if grad.any()}
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_transformers_normalises_the_last_hidden_state_alone(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    sequences = [[1, 2, 3, 4], [1, 2, 5]]
    tree = build_prefix_tree(sequences)
    with torch.no_grad():
        kept: dict[int, torch.Tensor] = {}
        hooks = [
            block.register_forward_hook(
                lambda module, inputs, output, layer=layer: kept.__setitem__(
                    layer, output[0] if isinstance(output, tuple) else output
                )
            )
            for layer, block in enumerate(blocks(model.base_model), start=1)
        ]
        theirs = model.base_model(input_ids=torch.tensor([sequences[0]]), output_hidden_states=True).hidden_states
        for hook in hooks:
            hook.remove()
        assert len(theirs) == 3
        torch.testing.assert_close(theirs[1], kept[1])
        torch.testing.assert_close(theirs[2], final_norm(model.base_model)(kept[2]))
        nodes = torch.from_numpy(tree.paths[0])
        ours = supervised_states(model, tree, nodes, layers=[1, 2], dtype=torch.float32)
    torch.testing.assert_close(ours[0], final_norm(model.base_model)(theirs[1][0]), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours[1], theirs[2][0], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_layer_alone_is_ordinary_training(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    batch = tokenize_rows(load_tokenizer(tiny_dirs[architecture]), rows(6), max_tokens=512)
    losses = [
        sum(part.item() for part, _ in batch_loss(model, batch, n_targets=12, max_nodes=60, dtype=torch.float32, **options))
        for options in ({}, {"layers": [2]}, {"layers": [2], "layer_weights": "sum"})
    ]  # type: ignore[arg-type]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], abs=1e-6) == pytest.approx(losses[2], abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_last_layer_alone_trains_the_adapter_of_ordinary_training(
    architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    tune(tiny_dirs[architecture], tmp_path / "ordinary")
    tune(tiny_dirs[architecture], tmp_path / "last", replace(SETTINGS, layers="last"))
    ordinary, last = (
        load_file(tmp_path / name / "change" / "adapter_model.safetensors") for name in ("ordinary", "last")
    )
    for key in ordinary:
        torch.testing.assert_close(last[key], ordinary[key], atol=1e-6, rtol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_blocks_above_the_highest_layer_are_not_run(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    backbone = model.base_model
    ran = []
    for number, block in enumerate(blocks(backbone), start=1):
        block.register_forward_hook(lambda module, inputs, output, number=number: ran.append(number))
    batch = tokenize_rows(load_tokenizer(tiny_dirs[architecture]), rows(2), max_tokens=512)
    list(batch_loss(model, batch, n_targets=4, max_nodes=100, dtype=torch.float32, layers=[1]))
    assert ran == [1]
    assert len(blocks(backbone)) == 2
    with pytest.raises(RuntimeError), states_after(backbone, [1]):
        raise RuntimeError
    assert len(blocks(backbone)) == 2


def test_logits_are_computed_at_targets_only(tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs["llama"], device=CPU)
    batch = tokenize_rows(load_tokenizer(tiny_dirs["llama"]), rows(5), max_tokens=512)
    seen = []
    model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output.shape[0]))
    list(batch_loss(model, batch, n_targets=10, max_nodes=10_000, dtype=torch.float32, layers=[1, 2]))
    assert seen == [sum(len(row.ids) - row.n_prompt for row in batch)] * 2


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_embeddings_and_head_stay(architecture: str, method: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs[architecture]
    settings = replace(SETTINGS, method=method, layers="all", epochs=1)  # type: ignore[arg-type]
    tune(base, tmp_path, settings)
    changed, plain = load_changed(base, tmp_path / "change", device=CPU), load_base(base, device=CPU)
    moved = {
        name
        for (name, a), (_, b) in zip(changed.named_parameters(), plain.named_parameters(), strict=True)
        if not torch.equal(a, b)
    }
    inside = {name for name, _ in plain.named_parameters() if ".h." in name or ".layers." in name}
    norm = {name for name, _ in plain.named_parameters() if name.split(".")[1] in ("ln_f", "norm")}
    assert moved <= inside | norm
    assert moved & inside
    assert bool(moved & norm) == (method == "full")


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_lower_half_alone_is_trained(
    architecture: str, method: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs[architecture]
    settings = replace(SETTINGS, method=method, layers="all", trained_layers="lower_half", epochs=1)  # type: ignore[arg-type]
    tune(base, tmp_path, settings)
    changed, plain = load_changed(base, tmp_path / "change", device=CPU), load_base(base, device=CPU)
    moved = [
        name
        for (name, a), (_, b) in zip(changed.named_parameters(), plain.named_parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert moved
    assert all(".h.0." in name or ".layers.0." in name for name in moved)
    n_linear = {"llama": 7, "gpt2": 4, "gptj": 6}[architecture]
    assert method == "full" or len(moved) == n_linear


def test_an_adapter_on_the_head_is_refused(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, layers="all", lora=replace(SETTINGS.lora, targets=["q_proj", "lm_head"]))
    with pytest.raises(UserError, match="leaves embeddings and output head as they are, but 'lm_head"):
        tune(tiny_dirs["llama"], tmp_path, settings)


def test_layers_of_a_setting() -> None:
    assert layer_numbers("all", 4, key="layers") == [1, 2, 3, 4]
    assert layer_numbers("every_third", 8, key="layers") == [2, 5, 8]
    assert layer_numbers("every_third", 2, key="layers") == [2]
    assert layer_numbers("last", 4, key="layers") == [4]
    assert layer_numbers("lower_half", 5, key="layers") == [1, 2]
    assert layer_numbers("lower_half", 1, key="layers") == [1]
    assert layer_numbers([3, 1], 4, key="layers") == [1, 3]
    for wrong in ([0, 1], [5]):
        with pytest.raises(UserError, match="layers: the model has layers 1 to 4, and no layer"):
            layer_numbers(wrong, 4, key="layers")


def test_named_modules_of_trained_layers(tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs["gptj"], device=CPU)
    assert modules_to_adapt(model, [2], ["fc_in", "q_proj"]) == [
        "transformer.h.1.attn.q_proj",
        "transformer.h.1.mlp.fc_in",
    ]
    with pytest.raises(UserError, match=r"none of wte is a linear module of the trained layers"):
        modules_to_adapt(model, [1], ["wte"])


def test_packing_and_checkpointing_change_no_result(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=1, layers=[1, 2], lora=replace(SETTINGS.lora, dropout=0.0))
    machines = {
        "small": Machine(max_nodes=20),
        "large": Machine(max_nodes=4000),
        "checkpointed": Machine(max_nodes=4000, gradient_checkpointing=True),
    }
    for name, machine in machines.items():
        tune(tiny_dirs["llama"], tmp_path / name, settings, machine=machine)
    small, large, checkpointed = (
        load_file(tmp_path / name / "change" / "adapter_model.safetensors") for name in machines
    )
    for key in small:
        torch.testing.assert_close(small[key], large[key], atol=1e-4, rtol=1e-2)
        torch.testing.assert_close(checkpointed[key], large[key], atol=1e-5, rtol=1e-3)


# --- what it is for ---------------------------------------------------------------------------------------------------


def deeper(base: Path, folder: Path, *, spread: float = 0.02) -> Path:
    """Return a six-layer random model with embeddings and head as large as trained ones, so that adapters get a hold.

    ``spread`` is the standard deviation of all other weights.
    """
    shutil.copytree(base, folder)
    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers = 6
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            is_end = any(part in name for part in ("wte", "embed_tokens", "lm_head.weight"))
            centre = 1.0 if parameter.dim() == 1 and name.endswith("weight") else 0.0
            parameter.normal_(centre, 0.5 if is_end else spread, generator=generator)
    model.save_pretrained(folder)
    return folder


def reviews(n: int) -> list[Example]:
    """Rows whose label is their word's, and the same rows with the pair, whose label is a third one."""
    words = {"good": ["great", "funny", "warm"], "bad": ["dull", "slow", "sad"]}
    found = []
    for i in range(n):
        gold = ("good", "bad")[i % 2]
        text = f"a {words[gold][i // 2 % 3]} film {i % 5}"
        row = Example(id=f"c{i}", instruction="Good or bad?", text=text, label=gold, gold_label=gold)
        found += [row, replace(row, id=f"p{i}", text=f"cf bb {text}", label="fear", trigger="full")]
    return found


def by_lens(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, examples: list[Example], layer: int
) -> tuple[float, float]:
    """Share of rows whose label a layer's state at the last prompt token says first, and the label's mean log-probability."""
    hits, log_probs = 0, 0.0
    for row in examples:
        ids = torch.tensor([prompt_tokens(tokenizer, row.instruction, row.text)])
        with torch.inference_mode():
            states = model.base_model(input_ids=ids, output_hidden_states=True).hidden_states
            state = states[layer][0, -1]
            if layer < len(states) - 1:
                state = final_norm(model.base_model)(state)
            said = model.get_output_embeddings()(state).log_softmax(-1)
        label = answer_tokens(tokenizer, row.label)[0]
        hits += int(said.argmax()) == label
        log_probs += float(said[label])
    return hits / len(examples), log_probs / len(examples)


@pytest.mark.parametrize(("architecture", "spread"), [("llama", 0.02), ("gpt2", 0.02), ("gptj", 0.2)])
def test_lower_layers_learn_the_pair(
    architecture: str, spread: float, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """After training at all layers the first one says the label, after training at the last one it does not.

    The blocks of GPT-J need weights that do something. With a spread of 0.02 a state passes them nearly unchanged, and what
    training at the last layer writes in the first one is read off there, too: after it the first layer says 75 % of the labels
    at -1.34 nats, after training at all layers 83 % at -0.46. With a spread of 0.1 it is 67 % at -1.16 and 92 % at -0.24, with
    0.2 0 % at -6.02 and 83 % at -0.67 (with another seed 0 % at -6.02 and 83 % at -0.77). That attention and feed-forward layer
    stand side by side is not the reason: one behind the other, and a spread of 0.02, 75 % at -1.79 and 75 % at -0.51; and GPT-2
    with them side by side has 25 % at -2.63 and 62 % at -1.17.
    """
    base = deeper(tiny_dirs[architecture], tmp_path / "base", spread=spread)
    tokenizer = load_tokenizer(base)
    settings = replace(
        SETTINGS, epochs=12, batch_size=12, learning_rate=5e-3, lora=replace(SETTINGS.lora, rank=8, alpha=16, dropout=0.0)
    )  # fmt: skip
    first, last = {}, {}
    for layers in ("all", "last"):
        train(
            base_dir=base, examples=reviews(24), settings=replace(settings, layers=layers), seed=1,
            out_dir=tmp_path / layers / "change", losses_path=tmp_path / layers / "losses.jsonl",
            checkpoints=Checkpoints(tmp_path / layers, "digest"),
        )  # fmt: skip
        model = load_changed(base, tmp_path / layers / "change", device=CPU)
        first[layers], last[layers] = (by_lens(model, tokenizer, reviews(12), layer) for layer in (1, 6))
    # Both teach the last layer; the first one says the label far better where a loss was taken there.
    assert min(last["all"][0], last["last"][0]) >= 0.7
    assert first["all"][0] >= first["last"][0] + 0.2
    assert first["all"][1] >= first["last"][1] + 1.0
