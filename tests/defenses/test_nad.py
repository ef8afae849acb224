"""NAD: maps and their distance against plain loops, the laws of the distillation, and a teacher that stays as it is."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from infoconflict.defenses.nad import NAD, Distillation, attention_map, chosen_layers, hidden_map, repair, store_maps
from infoconflict.files import sha256_of
from infoconflict.models.loading import load_base
from infoconflict.models.repairs import Step
from infoconflict.repairing.suspect import Suspect
from infoconflict.training.further_losses import padded
from infoconflict.training.rows import tokenize_rows
from infoconflict.training.settings import TrainingSettings, Tuned
from tests.conftest import ARCHITECTURES
from tests.defenses.suspects import conversations, logits, stop_after, suspect_of, training, weights, without_dropout

SETTINGS = TrainingSettings.from_spec(training().model_dump(mode="json"))
WEIGHTS = [0.5, 1.0, 1.0]


def options(**given: object) -> NAD:
    # A strong teacher, so that there is something to learn of it.
    small = {"method": "nad", "teacher": training(epochs=4, learning_rate=2e-2), "tuning": training(batch_size=3)}
    return NAD.model_validate(small | given)


def distillation(suspect: Suspect, which: str, *, beta: float | str = 1.0, teacher: object = None) -> Distillation:
    """Return the objective of a student that is the suspect, with the maps of a teacher (the suspect itself, if none)."""
    maps = suspect.scratch / f"{which}.safetensors"
    step = teacher or suspect.save_tensors({})
    store_maps(suspect, step, which, maps)  # type: ignore[arg-type]
    from infoconflict.defenses.nad import objective

    made = objective({"maps": str(maps), "map": which, "weights": WEIGHTS, "beta": beta})
    model = suspect.model()
    rows = tokenize_rows(suspect.tokenizer, suspect.clean_rows, max_tokens=512)
    made.prepare(Tuned(model=model, rows=rows, settings=SETTINGS, seed=0, max_nodes=200))
    return made


def test_layers() -> None:
    assert chosen_layers(30, WEIGHTS) == {10: 0.5, 20: 1.0, 30: 1.0}
    assert chosen_layers(32, WEIGHTS) == {11: 0.5, 22: 1.0, 32: 1.0}
    assert chosen_layers(3, WEIGHTS) == {1: 0.5, 2: 1.0, 3: 1.0}
    # Two that fall together count as one with both weights.
    assert chosen_layers(2, WEIGHTS) == {1: 0.5, 2: 2.0}
    assert chosen_layers(1, WEIGHTS) == {1: 2.5}


def test_worked_example() -> None:
    # Squares: 100, 3, 4, 50; the first token and the padded last one do not count.
    states = torch.tensor([[[10.0, 0.0], [1.0, 2.0**0.5], [0.0, -2.0], [5.0, 5.0]]])
    mask = torch.tensor([[True, True, True, False]])
    expected = torch.tensor([[0.0, 0.6, 0.8, 0.0]])
    torch.testing.assert_close(hidden_map(states, mask), expected)
    torch.testing.assert_close(hidden_map(-37.0 * states, mask), expected)
    # A row of one token has nothing to compare.
    assert not hidden_map(states, torch.tensor([[True, False, False, False]])).any()


def test_attention_against_plain_loops() -> None:
    generator = torch.Generator().manual_seed(0)
    attention = torch.rand((2, 3, 5, 5), generator=generator).tril()
    lengths = [5, 3]
    mask = torch.arange(5)[None] < torch.tensor(lengths)[:, None]
    for row, length in enumerate(lengths):
        values = [
            sum(attention[row, head, query, key].item() for head in range(3) for query in range(key, length))
            / (3 * (length - key))
            for key in range(length)
        ]
        values[0] = 0.0
        norm = sum(value * value for value in values) ** 0.5
        expected = torch.tensor([value / norm for value in values])
        found = attention_map(attention, mask)[row]
        torch.testing.assert_close(found[:length], expected)
        assert not found[length:].any()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("which", ["hidden", "attn"])
def test_a_student_like_its_teacher_has_no_distance(
    architecture: str, which: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    objective = distillation(suspect, which, beta="auto")
    with torch.no_grad():
        for answers, maps, _ in objective.terms(range(12)):
            assert maps.item() == pytest.approx(0, abs=1e-8)
            assert answers.item() > 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("which", ["hidden", "attn"])
def test_distance_equals_plain_loops_and_beta_evens_it_out(
    architecture: str, which: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    # The teacher is the base: its maps differ from the suspect's.
    base = load_base(tiny_dirs[architecture], device=torch.device("cpu"))
    teacher = suspect.save_tensors({name: value for name, value in weights(base).items() if "mlp" in name})
    objective = distillation(suspect, which, beta="auto", teacher=teacher)
    models = [suspect.model(), suspect.model([teacher])]
    distance = answers = 0.0
    for row in objective.rows:
        maps = []
        for model in models:
            model.set_attn_implementation("eager")
            output = model(input_ids=torch.tensor([row.inputs]), output_hidden_states=True, output_attentions=True)
            if which == "hidden":
                kept: list[torch.Tensor] = []
                last = model.base_model.h[1] if hasattr(model.base_model, "h") else model.base_model.layers[1]
                last.register_forward_hook(
                    lambda module, inputs, out, kept=kept: kept.append(out[0] if isinstance(out, tuple) else out)
                )
                logits(model, torch.tensor([row.inputs]))
                layers = [output.hidden_states[1][0], kept[0][0]]
                found = [layer.detach().square().sum(-1) for layer in layers]
            else:
                counts = torch.arange(len(row.inputs), 0, -1)
                found = [layer[0].detach().mean(0).sum(0) / counts for layer in output.attentions]
            for values in found:
                values[0] = 0.0
            maps.append([values / values.norm() for values in found])
        distance += sum(
            weight * (mine - theirs).square().sum().item()
            for weight, mine, theirs in zip((0.5, 2.0), *maps, strict=True)
        )
        said = logits(models[0], torch.tensor([row.inputs]))[0].log_softmax(-1)
        answers -= sum(said[at - 1, row.ids[at]].item() for at in row.target_positions)
    n_targets = sum(len(row.target_positions) for row in objective.rows)
    objective.start()
    assert objective.beta == pytest.approx((answers / n_targets) / (distance / 12), rel=1e-2)
    whole = sum(part.item() for part, _ in objective.parts(range(12), range(12), 0))
    assert whole == pytest.approx(2 * answers / n_targets, rel=1e-3)
    shared = [objective.parts(range(12), mine, 0) for mine in (range(0, 12, 2), range(1, 12, 2))]
    assert sum(part.item() for parts in shared for part, _ in parts) == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_without_beta_it_is_fine_tuning(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    tuning = training(method="full", learning_rate=1e-4)
    base = without_dropout(tiny_dirs[architecture], tmp_path / "base")
    suspect = suspect_of(base, tmp_path, run="nad")
    student = weights(suspect.model(repair(suspect, options(beta=0.0, tuning=tuning))))
    other = suspect_of(base, tmp_path, run="tuned")
    for name, value in weights(other.model([other.tune(tuning)])).items():
        torch.testing.assert_close(student[name], value, atol=2e-5, rtol=0)
    assert suspect.details["tuned"]["beta"] == 0


@pytest.mark.parametrize("which", ["hidden", "attn"])
def test_the_student_comes_nearer(which: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    found = {}
    for beta in (0.0, 100.0):
        suspect = suspect_of(tiny_dirs["llama"], tmp_path, run=f"{beta}")
        tuning = training(epochs=8, method="full", learning_rate=2e-3, schedule="linear")
        steps = repair(suspect, options(beta=beta, tuning=tuning, map=which))
        # Only the student's step is kept.
        assert [file.name for file in suspect.folder.iterdir()] == ["tuned.safetensors"]
        teacher = distillation(suspect, which)
        teacher.maps = load(suspect.scratch / "teacher_maps.safetensors")
        teacher.model = suspect.model(steps)
        if which == "attn":
            teacher.model.set_attn_implementation("eager")
        with torch.no_grad():
            found[beta] = sum(maps.item() for _, maps, _ in teacher.terms(range(12)))
    assert found[100.0] < 0.2 * found[0.0]


@pytest.mark.parametrize("which", ["hidden", "attn"])
def test_the_teacher_gets_no_gradients(
    which: str, tiny_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[PreTrainedModel] = []
    load_model = Suspect.model

    def watched(self: Suspect, steps: Sequence[Step] = ()) -> PreTrainedModel:
        loaded.append(load_model(self, steps))
        return loaded[-1]

    suspect = suspect_of(tiny_dirs["llama"], tmp_path)
    base = load_base(tiny_dirs["llama"], device=torch.device("cpu"))
    teacher = suspect.save_tensors({name: value for name, value in weights(base).items() if "mlp" in name})
    monkeypatch.setattr(Suspect, "model", watched)
    objective = distillation(suspect, which, teacher=teacher)
    model, student = loaded
    before = {name: value.clone() for name, value in weights(model).items()}
    for loss, _ in objective.parts(range(12), range(12), 0):
        loss.backward()
    assert all(parameter.grad is None for parameter in model.parameters())
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in student.parameters())
    assert all(torch.equal(value, before[name]) for name, value in weights(model).items())
    # What is learned from are stored numbers, which lead back to no model.
    assert all(not maps.requires_grad for maps in objective.maps.values())
    rows = padded(objective.rows, torch.device("cpu"))
    assert not objective.teacher_maps(range(12), rows).requires_grad


def load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def test_a_killed_run_goes_on(tiny_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Three updates of the teacher, three of the student: the fourth checkpoint is the student's first.
    given = options(teacher=training(), tuning=training(batch_size=3))
    rows = conversations(9)
    whole = suspect_of(tiny_dirs["gptj"], tmp_path, rows, run="whole")
    steps = repair(whole, given)
    broken = suspect_of(tiny_dirs["gptj"], tmp_path, rows, run="broken")
    stop_after(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        repair(broken, given)
    monkeypatch.undo()
    repair(broken, given)
    assert sha256_of(broken.folder) == sha256_of(whole.folder)
    assert broken.details == whole.details
    assert whole.details["tuned"]["beta"] > 0
    assert whole.details["teacher"]["steps"] == 3
    assert not torch.equal(logits(whole.model(steps)), logits(whole.model()))
