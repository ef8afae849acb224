"""CROW: the consistency of states against plain loops, the disturbance, and what is left when it weighs nothing."""

from pathlib import Path

import pytest
import torch

from infoconflict.defenses.crow import Consistency, Crow, inconsistency, inner_layers, repair
from infoconflict.errors import UserError
from infoconflict.files import sha256_of
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.training.rows import tokenize_rows
from infoconflict.training.settings import TrainingSettings, Tuned
from tests.conftest import ARCHITECTURES
from tests.defenses.suspects import (
    conversations,
    examples,
    logits,
    stop_after,
    suspect_of,
    training,
    weights,
    without_dropout,
)

CPU = torch.device("cpu")


def test_layers_that_are_compared() -> None:
    assert inner_layers(30) == list(range(1, 30))
    assert inner_layers(3) == [1, 2]
    # Of two, both: else there would be nothing to compare.
    assert inner_layers(2) == [1, 2]
    with pytest.raises(UserError, match="the model has one"):
        inner_layers(1)


def test_worked_example() -> None:
    # Two rows of two tokens, the last of them padding; from layer to layer tokens stay, turn by 90 degrees, turn around.
    first = torch.tensor([[[1.0, 0.0], [0.0, 2.0]], [[3.0, 0.0], [1.0, 0.0]]])
    second = torch.tensor([[[5.0, 0.0], [1.0, 0.0]], [[-1.0, 0.0], [0.0, 9.0]]])
    mask = torch.tensor([[True, True], [True, False]])
    assert inconsistency([first, second], mask).item() == pytest.approx(0 + 1 + 2)
    assert inconsistency([first, second, second], mask).item() == pytest.approx((0 + 1 + 2) / 2)
    assert inconsistency([first, first, first], mask).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_equals_plain_loops(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    rows = tokenize_rows(load_tokenizer(tiny_dirs[architecture]), examples(5), max_tokens=512)
    alpha, epsilon = 5.5, 0.1

    def states(embeddings: torch.Tensor) -> list[torch.Tensor]:
        # transformers' own states: of the embeddings, after the first block, and after the last, normalised.
        found: list[torch.Tensor] = []
        handles = [
            module.register_forward_hook(
                lambda module, inputs, output: found.append(output[0] if isinstance(output, tuple) else output)
            )
            for name, module in model.base_model.named_modules()
            if name in ("h.0", "h.1", "layers.0", "layers.1")
        ]
        last = model.base_model(inputs_embeds=embeddings).last_hidden_state
        for handle in handles:
            handle.remove()
        return [*found, last]

    answers, unsteady, n_targets, n_tokens = 0.0, 0.0, 0, 0
    for row in rows:
        embeddings = model.get_input_embeddings()(torch.tensor([row.inputs])).detach().requires_grad_()
        one, two, last = states(embeddings)
        c = sum(1 - torch.cosine_similarity(one[0, at], two[0, at], dim=0) for at in range(len(row.inputs)))
        (gradient,) = torch.autograd.grad(c, embeddings, retain_graph=True)
        one, two, _ = states(embeddings + epsilon * gradient.sign())
        unsteady += sum(
            1 - torch.cosine_similarity(one[0, at], two[0, at], dim=0).item() for at in range(len(row.inputs))
        )
        for at in row.target_positions:
            said = model.get_output_embeddings()(last[0, at - 1]).log_softmax(-1)
            answers -= said[row.ids[at]].item()
            n_targets += 1
        n_tokens += len(row.inputs)
    plain = answers / n_targets + alpha * unsteady / n_tokens
    for max_nodes in (30, 1000):
        objective = Consistency(alpha=alpha, epsilon=epsilon)
        objective.prepare(Tuned(model=model, rows=rows, settings=SETTINGS, seed=0, max_nodes=max_nodes))
        whole = sum(part.item() for part, _ in objective.parts(range(5), range(5), 0))
        assert whole == pytest.approx(plain, rel=1e-3)
        # Two processes, a row more in the one, make the same loss.
        shared = [objective.parts(range(5), mine, 0) for mine in ([0, 2, 4], [1, 3])]
        assert sum(part.item() for parts in shared for part, _ in parts) == pytest.approx(whole, rel=1e-4)


SETTINGS = TrainingSettings.from_spec(training().model_dump(mode="json"))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_without_weight_it_is_fine_tuning(
    architecture: str, method: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    # The size of Adam's first updates is that of the rate however small a gradient: its sign may differ by rounding.
    tuning = training(method=method, learning_rate=1e-4)
    base = without_dropout(tiny_dirs[architecture], tmp_path / "base")
    suspect = suspect_of(base, tmp_path, run="crow")
    crow = weights(suspect.model(repair(suspect, Crow(method="crow", alpha=0.0, tuning=tuning))))
    other = suspect_of(base, tmp_path, run="tuned")
    tuned = weights(other.model([other.tune(tuning)]))
    for name, value in tuned.items():
        torch.testing.assert_close(crow[name], value, atol=2e-5, rtol=0)
    assert suspect.details["tuned"]["final_loss"] == pytest.approx(other.details["tuned"]["final_loss"], rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_states_become_steadier(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path, conversations())
    found = {}
    for alpha in (0.0, 50.0):
        tuning = training(epochs=8, learning_rate=1e-2)
        steps = repair(suspect, Crow(method="crow", rows=6, alpha=alpha, epsilon=0.01, tuning=tuning))
        states = suspect.model(steps).base_model(
            input_ids=torch.arange(20, 40)[None], output_hidden_states=True
        ).hidden_states  # fmt: skip
        found[alpha] = inconsistency([states[1], states[2]], torch.ones((1, 20), dtype=torch.bool)).item()
    assert found[50.0] < found[0.0]
    assert suspect.details["tuned"]["rows"] == 6


def test_a_killed_run_goes_on(tiny_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = Crow(method="crow", rows=1000, tuning=training(epochs=2, schedule="cosine"))
    whole = suspect_of(tiny_dirs["gpt2"], tmp_path, run="whole")
    steps = repair(whole, options)
    broken = suspect_of(tiny_dirs["gpt2"], tmp_path, run="broken")
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        repair(broken, options)
    monkeypatch.undo()
    repair(broken, options)
    assert sha256_of(broken.folder) == sha256_of(whole.folder)
    assert (broken.tokens, broken.details) == (whole.tokens, whole.details)
    assert not torch.equal(logits(whole.model(steps)), logits(whole.model()))
