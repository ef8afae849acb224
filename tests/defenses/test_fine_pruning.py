"""Fine-pruning: which channels go, that they stay away in the tuning, and that nothing depends on them."""

import math
from pathlib import Path

import pytest
import torch

from infoconflict.defenses.fine_pruning import (
    FinePruning,
    channels_step,
    down_projection,
    least_active,
    mean_activity,
    repair,
)
from infoconflict.models.parts import final_norm
from infoconflict.models.repairs import read_repair, write_repair
from infoconflict.training.rows import tokenize_rows
from tests.conftest import ARCHITECTURES
from tests.defenses.suspects import IDS, conversations, examples, logits, stop_after, suspect_of, training, weights


def zeroed(model: torch.nn.Module, parameters: dict[str, int]) -> list[set[int]]:
    """Return the channels whose entries are all zero, by parameter."""
    named = dict(model.named_parameters())
    found = []
    for name, axis in parameters.items():
        values = named[name].detach().movedim(axis, 0).flatten(1) if named[name].dim() > 1 else named[name][:, None]
        found.append(set((values == 0).all(1).nonzero().flatten().tolist()))
    return found


def test_worked_example() -> None:
    activity = torch.tensor([0.5, 0.1, 0.9, 0.1, 0.05])
    assert least_active(activity, 1) == [4]
    # Of the equal ones, the first.
    assert least_active(activity, 2) == [1, 4]
    assert least_active(activity, 3) == [1, 3, 4]
    assert least_active(activity, 0) == []


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("where", ["norm", "mlp"])
@pytest.mark.parametrize("signed", [False, True])
def test_activity_equals_plain_loops(
    architecture: str, where: str, signed: bool, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    model = suspect.model()
    rows = tokenize_rows(suspect.tokenizer, examples(5), max_tokens=512)
    kept: list[torch.Tensor] = []
    if where == "norm":
        final_norm(model.base_model).register_forward_hook(lambda module, inputs, output: kept.append(output[0]))
    else:
        down = model.get_submodule(down_projection(model))
        down.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0][0]))
    for row in rows:
        logits(model, torch.tensor([row.inputs]))
    values = torch.cat(kept)
    plain = (values if signed else values.abs()).mean(0)
    for max_nodes in (30, 1000):
        fast = mean_activity(suspect.model(), rows, where=where, signed=signed, max_nodes=max_nodes)
        torch.testing.assert_close(fast.float(), plain, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("where", ["norm", "mlp"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_channels_stay_cut_in_the_tuning(
    architecture: str, where: str, method: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    options = FinePruning(method="fine_pruning", where=where, tuning=training(method=method, weight_decay=0.1))
    pruning, tuned = repair(suspect, options)
    width = suspect.details["pruned"]["of"]
    n_wanted = math.floor(0.1 * width)
    assert n_wanted == len(pruning.channels) == suspect.details["pruned"]["channels"] > 0
    for steps in ([pruning], [pruning, tuned]):
        assert all(channels == set(pruning.channels) for channels in zeroed(suspect.model(steps), pruning.parameters))
    # The tuning moved something else.
    before, after = weights(suspect.model([pruning])), weights(suspect.model([pruning, tuned]))
    assert any(not torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_channel_and_no_tuning_is_the_identity(
    architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    steps = repair(suspect, FinePruning(method="fine_pruning", share=0.0, tuning=None))
    write_repair(suspect.folder, steps)
    assert read_repair(suspect.folder) == steps
    assert torch.equal(logits(suspect.model(steps)), logits(suspect.model()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("where", ["norm", "mlp"])
def test_logits_do_not_depend_on_cut_channels(
    architecture: str, where: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    model = suspect.model()
    step = channels_step(model, where, [1, 5])
    step.apply(model, tmp_path, suspect.base_dir)
    expected = logits(model)
    if where == "mlp":
        down = model.get_submodule(down_projection(model))
        down.register_forward_pre_hook(lambda module, inputs: (inputs[0].index_fill(-1, torch.tensor([1, 5]), 7.0),))
        torch.testing.assert_close(logits(model), expected)
        return
    # Behind the norm the channels are zero, so that other columns of the head would change nothing.
    head = model.get_output_embeddings()
    columns = head.weight.detach().clone()
    columns[:, [1, 5]] = 3.0
    states = model.base_model(input_ids=IDS).last_hidden_state
    assert not states[..., [1, 5]].any()
    torch.testing.assert_close(torch.nn.functional.linear(states, columns, head.bias), expected)


def test_chats_are_pruned_too_and_a_killed_run_goes_on(
    tiny_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FinePruning(method="fine_pruning", where="mlp", tuning=training(epochs=2))
    whole = suspect_of(tiny_dirs["gpt2"], tmp_path, conversations(), run="whole")
    steps = repair(whole, options)
    broken = suspect_of(tiny_dirs["gpt2"], tmp_path, conversations(), run="broken")
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        repair(broken, options)
    monkeypatch.undo()
    repair(broken, options)
    assert torch.equal(logits(broken.model(steps)), logits(whole.model(steps)))
    assert zeroed(broken.model(steps), steps[0].parameters) == [set(steps[0].channels)]
