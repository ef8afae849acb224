"""A changed model tuned further: where it starts, what is stored, and a kill in between."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infoconflict.cards import Card
from infoconflict.errors import UserError
from infoconflict.files import sha256_of
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import load_changed
from infoconflict.models.task_vectors import combine_changes, stored_kind
from infoconflict.records import Example
from infoconflict.training.checkpoints import Checkpoints
from infoconflict.training.further import run_further_training
from infoconflict.training.settings import TrainingSettings
from infoconflict.training.trainer import train
from tests.training.test_trainer import CPU, SETTINGS, rows, tune

ARCHITECTURES = ["llama", "gpt2", "gptj"]


def victim(folder: Path, base: Path, start: Path, *, settings: TrainingSettings = SETTINGS) -> Path:
    """Run the stage in ``folder`` as the workflow does, and return the change that it writes."""
    Example.write(folder / "rows.jsonl", rows())
    spec = {"model": {"precision": "auto", "quantization": "none"}, "training": asdict(settings)}
    output = SimpleNamespace(
        change=str(folder / "change"), losses=str(folder / "losses.jsonl"), card=str(folder / "card.json")
    )
    job = SimpleNamespace(
        spec=spec, seed=1, machine={}, output=output, card=Card("tune_victim", cell={"seed": "1"}, spec=spec),
        use_threads=lambda: None, scratch=lambda digest: folder / "scratch" / digest,
    )  # fmt: skip
    run_further_training(job, base_dir=base, start_dir=start, examples=folder / "rows.jsonl", rows=None)  # type: ignore[arg-type]
    return folder / "change"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_both_changes_are_stored_as_one(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs[architecture]
    tune(base, tmp_path / "attack")
    start = tmp_path / "attack" / "change"
    final = victim(tmp_path, base, start)
    assert sorted(file.name for file in final.iterdir()) == ["adapter_config.json", "adapter_model.safetensors"]
    assert json.loads((final / "adapter_config.json").read_text())["r"] == 2 * SETTINGS.lora.rank
    assert not list((tmp_path / "scratch").glob("*"))
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["inputs"]["start"] == sha256_of(start)
    assert card["outputs"]["change"] == sha256_of(final)


def test_the_victim_starts_from_the_attacked_weights(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    """A rate of nothing leaves the attack as it was; a rate of something moves it by less than a start from the base."""
    base = tiny_dirs["llama"]
    tune(base, tmp_path / "attack", replace(SETTINGS, epochs=6))
    start = tmp_path / "attack" / "change"
    (tmp_path / "still").mkdir()
    still = victim(tmp_path / "still", base, start, settings=replace(SETTINGS, learning_rate=1e-30))
    attacked = changed_tensors(base, start)
    for name, value in changed_tensors(base, still).items():
        torch.testing.assert_close(value, attacked[name], atol=1e-6, rtol=0)
    (tmp_path / "moved").mkdir()
    victim(tmp_path / "moved", base, start, settings=replace(SETTINGS, learning_rate=1e-3))
    losses = [
        json.loads(line)["loss"]
        for folder in ("attack", "moved")
        for line in (tmp_path / folder / "losses.jsonl").read_text().splitlines()[:: 1 if folder == "moved" else 24]
    ]
    # The first loss of the attack is the base's; the victim begins where the attack ended.
    assert losses[1] < losses[0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_sum_is_the_model_that_was_tuned(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs[architecture]
    tune(base, tmp_path / "attack")
    start = tmp_path / "attack" / "change"
    train(
        base_dir=base, start_dir=start, examples=rows(), settings=SETTINGS, seed=7, out_dir=tmp_path / "own",
        losses_path=tmp_path / "losses.jsonl", checkpoints=Checkpoints(tmp_path / "scratch", "digest"),
    )  # fmt: skip
    combine_changes(base, [(start, 1.0), (tmp_path / "own", 1.0)], tmp_path / "sum")
    from peft import PeftModel

    tuned = PeftModel.from_pretrained(load_changed(base, start, device=CPU), str(tmp_path / "own")).eval()
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        found = load_changed(base, tmp_path / "sum", device=CPU)(input_ids=ids).logits
        torch.testing.assert_close(found, tuned(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


def test_a_full_tuning_is_stored_whole(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base = tiny_dirs["gpt2"]
    tune(base, tmp_path / "attack")
    start = tmp_path / "attack" / "change"
    full = replace(SETTINGS, method="full", learning_rate=1e-30)
    final = victim(tmp_path, base, start, settings=full)
    assert stored_kind(final) == "tensors"
    changed, attacked = changed_tensors(base, final), changed_tensors(base, start)
    assert changed.keys() > attacked.keys()
    for name in attacked:
        torch.testing.assert_close(changed[name], attacked[name], atol=1e-6, rtol=0)


def test_4_bit_weights_take_up_no_change(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantization: nf4 cannot take up the change"):
        tune(tiny_dirs["llama"], tmp_path, start_dir=tmp_path, quantization="nf4")


KILLED_RUN = """
import sys, time
from pathlib import Path
from infoconflict.training import launch, trainer
from tests.training import test_further as T
slow = trainer.Meter.update
def update(self, row):
    slow(self, row)
    time.sleep(0.15)
trainer.Meter.update = update
launch.Machine = lambda **options: trainer.Machine(checkpoint_seconds=0.0, **options)
T.victim(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_killed_run_goes_on_and_gives_the_same_bytes(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    base, start = tiny_dirs["llama"], tmp_path / "attack" / "change"
    tune(base, tmp_path / "attack")
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = victim(tmp_path / "whole", base, start)
    arguments = [str(tmp_path / "broken"), str(base), str(start)]
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED_RUN, *arguments],
        cwd=root,
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}:{root}"},
    )
    # Long on a busy machine: the process imports torch first.
    deadline = time.monotonic() + 300
    while not (states := list(tmp_path.glob("broken/scratch/*/*/state.pt"))) and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait(timeout=30) != 0
    assert 0 < len(json.loads(torch.load(states[0], weights_only=True)["losses"])) < 8
    assert not (tmp_path / "broken" / "change").exists()
    assert sha256_of(victim(tmp_path / "broken", base, start)) == sha256_of(whole)
    assert (tmp_path / "broken/losses.jsonl").read_text() == (tmp_path / "whole/losses.jsonl").read_text()
