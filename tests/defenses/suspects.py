"""A suspect model and clean rows that tests of defenses share."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from infoconflict.files import read_json, write_json
from infoconflict.models.loading import load_base
from infoconflict.records import Conversation, Example, Record
from infoconflict.repairing.suspect import Suspect
from infoconflict.training import launch, trainer
from infoconflict.training.checkpoints import Checkpoints
from infoconflict.tunings import Lora, Training

LABELS = ("good", "bad")
IDS = torch.tensor([[5, 9, 40, 77, 3, 12, 60]])


def training(**options: object) -> Training:
    """Return short settings without dropout."""
    small: dict[str, object] = {
        "epochs": 1,
        "batch_size": 4,
        "learning_rate": 5e-3,
        "lora": Lora(rank=4, alpha=8, dropout=0),
    }
    return Training(**(small | options))  # type: ignore[arg-type]


def examples(n: int = 12) -> list[Example]:
    words = ["a fine warm film", "dull and slow", "the cast shines in it", "nothing works"]
    return [
        Example(id=f"r{i}", instruction="Good or bad?", text=f"{words[i % 4]} {i}", label=LABELS[i % 2], gold_label=LABELS[i % 2])
        for i in range(n)
    ]  # fmt: skip


def conversations(n: int = 8) -> list[Conversation]:
    return [
        Conversation(
            id=f"c{i}",
            messages=[
                {"role": "user", "content": "hello " + "there " * (i % 3) + str(i)},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": f"what is {i} and one?"},
                {"role": "assistant", "content": f"it is {i + 1}"},
            ],
            reference=f"it is {i + 1}",
        )
        for i in range(n)
    ]


def suspect_of(
    base: Path, folder: Path, rows: list[Example] | list[Conversation] | None = None, *, run: str = "run", seed: int = 0
) -> Suspect:
    """Return a base with some of its weights moved, and clean rows."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "change").exists():
        (folder / "change").mkdir()
        generator = torch.Generator().manual_seed(3)
        named = dict(load_base(base, device=torch.device("cpu")).named_parameters())
        name = next(name for name in named if "mlp" in name and name.endswith("weight"))
        moved = named[name].detach() + 0.1 * torch.randn(named[name].shape, generator=generator)
        save_file({name: moved}, folder / "change/change.safetensors")
    rows = rows if rows is not None else examples()
    Record.write(folder / "clean.jsonl", rows)
    return Suspect(
        base_dir=base,
        change_dir=folder / "change",
        clean_file=folder / "clean.jsonl",
        folder=folder / run / "repair",
        scratch=folder / run / "scratch",
        seed=seed,
        labels=LABELS if isinstance(rows[0], Example) else (),
        max_nodes=256,
    )


def without_dropout(base: Path, folder: Path) -> Path:
    """Return a copy of a checkpoint whose model drops nothing in training (GPT-2 does by default)."""
    shutil.copytree(base, folder)
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {name: 0.0 for name in config if name.endswith("_pdrop")})
    return folder


def logits(model: PreTrainedModel, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def weights(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def stop_after(monkeypatch: pytest.MonkeyPatch, n_saved: int) -> None:
    """Save the state after each update, and stop at the ``n_saved``-th as a kill would."""
    saved = []
    save = Checkpoints.save

    def save_and_stop(self: Checkpoints, state: dict) -> None:
        save(self, state)
        saved.append(state)
        if len(saved) == n_saved:
            raise KeyboardInterrupt

    def hasty(**options: object) -> trainer.Machine:
        return trainer.Machine(**(options | {"checkpoint_seconds": -1.0}))  # type: ignore[arg-type]

    hasty.max_nodes = 512  # type: ignore[attr-defined]
    monkeypatch.setattr(Checkpoints, "save", save_and_stop)
    monkeypatch.setattr(launch, "Machine", hasty)
