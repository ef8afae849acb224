"""Suspect models for the tests of defenses on weights: tiny bases with a random change, and clean rows."""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from infoconflict.models.repairs import Step, apply_repair, write_repair
from infoconflict.records import Conversation, Example
from infoconflict.repairing.suspect import Suspect

ARCHITECTURES = ("llama", "gpt2", "gptj")
Weights = dict[str, torch.Tensor]

INSTRUCTION = "Is this film review positive or negative?"
TEXTS = ["a warm and funny film", "the story is a mess", "quietly moving and never dull", "the jokes are old", "a bore"]


def reviews() -> list[Example]:
    """Return clean rows of different lengths."""
    labels = ["positive", "negative", "positive", "negative", "negative"]
    return [
        Example(id=f"r{i}", instruction=INSTRUCTION, text=text, label=label, gold_label=label)
        for i, (text, label) in enumerate(zip(TEXTS, labels, strict=True))
    ]


def chats() -> list[Conversation]:
    """Return clean conversations, one with two answers."""
    found = []
    for i, text in enumerate(TEXTS):
        turns = [{"role": "user", "content": f"what of {text}?"}, {"role": "assistant", "content": "i feel amazed"}]
        found.append(Conversation(id=f"c{i}", messages=turns * (1 + i % 2), reference="i feel amazed"))
    return found


def write_change(folder: Path, base: Path, *, seed: int = 1, every: int = 1) -> Path:
    """Change every n-th tensor of a base a little, as a full tuning leaves them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = sorted(load_file(base / "model.safetensors").items())[::every]
    folder.mkdir()
    noisy = {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in tensors}
    save_file(noisy, folder / "change.safetensors")
    return folder


def suspect_of(
    folder: Path, base: Path, rows: list[Example] | list[Conversation] | None, *, max_nodes: int = 512
) -> Suspect:
    """Return a changed base with clean rows, whose repair goes to ``folder / "repair"``."""
    if rows:
        Example.write(folder / "clean.jsonl", rows)
    return Suspect(
        base_dir=base,
        change_dir=write_change(folder / "change", base),
        clean_file=folder / "clean.jsonl" if rows else None,
        folder=folder / "repair",
        scratch=folder / "scratch",
        seed=1,
        precision="float32",
        max_nodes=max_nodes,
        labels=["negative", "positive"],
    )


def weights_of(model: torch.nn.Module) -> Weights:
    """Return a copy of a model's parameters."""
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def repaired(suspect: Suspect, steps: list[Step]) -> Weights:
    """Store the steps, read them again, and return the repaired suspect model's weights."""
    suspect.folder.mkdir(parents=True, exist_ok=True)
    write_repair(suspect.folder, steps)
    model = suspect.model()
    apply_repair(model, suspect.base_dir, suspect.folder)
    return weights_of(model)


def is_block_linear(name: str, value: torch.Tensor) -> bool:
    """Whether a parameter is a matrix of a block, by its name alone."""
    return value.dim() == 2 and (".h." in name or ".layers." in name)
