"""A tiny base, an adapter and a whole tuned model of it; and a folder to spoil."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoconflict.models.tiny import write_tiny_model


def write_adapter(folder: Path, base: Path, *, seed: int, rank: int = 4) -> None:
    """Write a LoRA adapter on every matrix of a Llama model's layers, without PEFT."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, weight in load_file(base / "model.safetensors").items():
        if ".layers." in name and weight.dim() == 2:
            key = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{key}.lora_A.weight"] = 0.1 * torch.randn(rank, weight.shape[1], generator=generator)
            tensors[f"{key}.lora_B.weight"] = 0.1 * torch.randn(weight.shape[0], rank, generator=generator)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "bias": "none", "target_modules": "all-linear"}
    (folder / "adapter_config.json").write_text(json.dumps(config))


def write_tuned(folder: Path, base: Path, *, seed: int) -> None:
    """Write a whole model, every weight of which differs a little from the base's."""
    shutil.copytree(base, folder)
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(base / "model.safetensors")
    tuned = {name: value + 0.05 * torch.randn(value.shape, generator=generator) for name, value in tensors.items()}
    save_file(tuned, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with base, adapter and tuned; treat it as read-only."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("purify")
    (folder / "base").mkdir()
    write_tiny_model(folder / "base", architecture="llama", hidden=32, tied=False, seed=0)
    write_adapter(folder / "adapter", folder / "base", seed=1)
    write_tuned(folder / "tuned", folder / "base", seed=2)
    return folder


@pytest.fixture
def spoiled(models: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies one of the models, to be spoiled."""
    return lambda name: Path(shutil.copytree(models / name, tmp_path / name))


class Fields(dict[str, Any]):
    """What Snakemake gives a script: names as keys and as attributes."""

    __getattr__ = dict.__getitem__


def job_of(rule: str, folder: Path, *, spec: dict[str, Any], cell: dict[str, str] | None = None, **places: Any) -> Any:
    """Return a job as a script of the workflow would get it; names that begin with ``out_`` are outputs."""
    from infoconflict.jobs import Job
    from infoconflict.lineage import canonical

    outputs = {name.removeprefix("out_"): place for name, place in places.items() if name.startswith("out_")}
    inputs = {name: place for name, place in places.items() if not name.startswith("out_")}
    (folder / "cards").mkdir(exist_ok=True)
    return Job(
        SimpleNamespace(
            rule=rule,
            input=Fields(inputs),
            output=Fields(outputs),
            params=SimpleNamespace(spec=canonical(spec)),
            wildcards=cell or {},
            resources={},
            threads=1,
            log=["job.log"],
        )
    )
