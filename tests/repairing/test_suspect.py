"""A repair is its steps: stored small, taken in order, tuned on from where the steps before left the model."""

import json
from pathlib import Path

import pytest
import torch

from infoconflict.errors import UserError
from infoconflict.models.loading import load_changed
from infoconflict.models.repairs import Adapter, apply_repair, read_repair, write_repair
from infoconflict.records import Example
from infoconflict.repairing.suspect import Suspect
from infoconflict.tunings import Lora, Training
from tests.training.test_trainer import rows, tune

ARCHITECTURES = ["llama", "gpt2", "gptj"]
TUNING = Training(epochs=1, batch_size=4, learning_rate=1e-2, lora=Lora(rank=2, alpha=4, dropout=0.0))


def suspect_of(folder: Path, base: Path) -> Suspect:
    tune(base, folder / "attack")
    Example.write(folder / "clean.jsonl", rows())
    (folder / "repair").mkdir()
    return Suspect(
        base_dir=base,
        change_dir=folder / "attack" / "change",
        clean_file=folder / "clean.jsonl",
        folder=folder / "repair",
        scratch=folder / "scratch",
        seed=1,
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_steps_are_taken_one_after_the_other(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    suspect = suspect_of(tmp_path, tiny_dirs[architecture])
    before = weights(suspect.model())
    name = next(name for name, value in before.items() if value.dim() == 2)
    halved = suspect.save_tensors({name: before[name] / 2})
    tuned = suspect.tune(TUNING, steps=[halved])
    write_repair(suspect.folder, [halved, tuned])
    model = load_changed(suspect.base_dir, suspect.change_dir, device=torch.device("cpu"))
    apply_repair(model, suspect.base_dir, suspect.folder)
    after = weights(model)
    # The adapter alone, by plain PEFT, on the halved model.
    from peft import PeftModel

    halves = suspect.model([halved])
    assert torch.equal(weights(halves)[name], before[name] / 2)
    merged = PeftModel.from_pretrained(halves, str(suspect.folder / "tuned")).merge_and_unload()
    for key, value in weights(merged).items():
        assert torch.allclose(after[key], value, atol=1e-6), key
    assert any(not torch.equal(after[key], before[key]) for key in after if key != name)
    assert suspect.tokens > 0
    assert [step.kind for step in read_repair(suspect.folder)] == ["tensors", "adapter"]


def test_all_weights_can_be_tuned(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    suspect = suspect_of(tmp_path, tiny_dirs["llama"])
    step = suspect.tune(TUNING.model_copy(update={"method": "full", "learning_rate": 1e-3}))
    before, after = weights(suspect.model()), weights(suspect.model([step]))
    assert step.kind == "tensors"
    assert all(not torch.equal(after[name], before[name]) for name in before)


def test_the_same_seed_gives_the_same_repair(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    found = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        suspect = suspect_of(tmp_path / name, tiny_dirs["llama"])
        suspect.tune(TUNING)
        found.append((suspect.folder / "tuned" / "adapter_model.safetensors").read_bytes())
    assert found[0] == found[1]


def test_what_is_no_repair_is_refused(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no repair.json"):
        read_repair(tmp_path)
    (tmp_path / "repair.json").write_text(json.dumps({"steps": [{"kind": "melt"}]}))
    with pytest.raises(UserError, match="a step of the kind 'melt'; known: tensors"):
        read_repair(tmp_path)
    (tmp_path / "repair.json").write_text(json.dumps({"steps": [{"kind": "adapter", "path": "x"}]}))
    with pytest.raises(UserError, match="the step adapter has"):
        read_repair(tmp_path)
    other = suspect_of(tmp_path, tiny_dirs["gpt2"])
    other.tune(TUNING)
    model = load_changed(tiny_dirs["llama"], None, device=torch.device("cpu"))
    with pytest.raises(UserError, match="which the model lacks"):
        Adapter(folder="tuned").apply(model, other.folder, other.base_dir)
