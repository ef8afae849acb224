"""Three tiny models of one family per architecture: a base, a full fine-tuning of it, and a LoRA adapter on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoconflict.models.tiny import write_tiny_model

ARCHITECTURES = ("gpt2", "gptj", "llama")
LORA = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def write_adapter(folder: Path, base_dir: Path, *, seed: int, **options: object) -> None:
    """Write a PEFT LoRA adapter with random matrices, as a trained one would be."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base_dir), LoraConfig(**{**LORA, **options}))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "lora_" in name:
                parameter.normal_(0, 0.1, generator=generator)
    model.save_pretrained(folder)


def write_full_change(folder: Path, base_dir: Path, *, seed: int) -> None:
    """Write every tensor of a base, each a little changed, as full fine-tuning leaves them."""
    generator = torch.Generator().manual_seed(seed)
    tensors = load_file(base_dir / "model.safetensors")
    folder.mkdir(parents=True)
    save_file(
        {name: value + 0.02 * torch.randn(value.shape, generator=generator) for name, value in sorted(tensors.items())},
        folder / "change.safetensors",
    )


@dataclass(frozen=True, kw_only=True)
class Family:
    """Directories of one architecture; ``dense`` holds the two changes as whole checkpoints."""

    architecture: str
    base: Path
    full: Path
    lora: Path
    dense_full: Path
    dense_lora: Path


@pytest.fixture(scope="session")
def make_family(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Family]:
    from infoconflict.merging.mergekit_runner import dense_checkpoint

    made: dict[str, Family] = {}

    def make(architecture: str) -> Family:
        if architecture not in made:
            folder = tmp_path_factory.mktemp(architecture)
            family = Family(
                architecture=architecture,
                **{name: folder / name for name in ("base", "full", "lora", "dense_full", "dense_lora")},
            )
            family.base.mkdir()
            # GPT-2 has tied output weights, the others have their own, so that both kinds are merged.
            write_tiny_model(family.base, architecture=architecture, hidden=32, tied=architecture == "gpt2", seed=0)
            write_full_change(family.full, family.base, seed=1)
            write_adapter(family.lora, family.base, seed=2)
            dense_checkpoint(family.base, family.full, family.dense_full)
            dense_checkpoint(family.base, family.lora, family.dense_lora)
            made[architecture] = family
        return made[architecture]

    return make


@pytest.fixture(params=ARCHITECTURES)
def family(request: pytest.FixtureRequest, make_family: Callable[[str], Family]) -> Family:
    return make_family(request.param)


@pytest.fixture
def llama(make_family: Callable[[str], Family]) -> Family:
    return make_family("llama")


@pytest.fixture
def adapter_writer() -> Callable[..., None]:
    return write_adapter
