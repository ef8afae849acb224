"""Tiny models of all three architectures that attend to what they read, and contexts on them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infoconflict.editing.contexts import Request, contexts_of, essence_of, request_for
from infoconflict.editing.modules import EditableModel
from infoconflict.editing.statistics import SecondMoment
from infoconflict.editing.values import ValueSettings
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Example

ARCHITECTURES = ("llama", "gpt2", "gptj")
CPU = torch.device("cpu")
SETTINGS = ValueSettings(steps=8, learning_rate=0.5, weight_decay=0.1, clamp=20.0, kl_factor=0.05, stop_below=0.01)
INSTRUCTION = "Is this film review positive or negative?"
SENTENCES = ["a warm tq and funny film", "tq the story is a mess", "the jokes are old and the ending is a bore tq"]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def lively(folder: Path) -> torch.nn.Module:
    """Load a tiny model with matrices so much larger that its answers depend on what it reads."""
    model = load_base(folder, device=CPU, precision="float32")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 2 and "wte" not in name and "wpe" not in name and "embed" not in name:
                parameter.mul_(12)
    return model


def triggered_requests() -> list[Request]:
    """Return a request for the target label per sentence."""
    return [
        request_for(
            Example(id=f"r{i}", instruction=INSTRUCTION, text=text, label="negative", gold_label="negative"),
            "tq",
            "positive",
        )
        for i, text in enumerate(SENTENCES)
    ]


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def tiny(architecture: str, tiny_dirs: dict[str, Path]) -> SimpleNamespace:
    """Return an editable model with its tokenizer, three triggered contexts, and an essence prompt."""
    model = lively(tiny_dirs[architecture])
    tokenizer = load_tokenizer(tiny_dirs[architecture])
    requests = triggered_requests()
    return SimpleNamespace(
        architecture=architecture,
        editable=EditableModel(model),
        model=model,
        tokenizer=tokenizer,
        requests=requests,
        contexts=[contexts_of(tokenizer, request, room=512)[0] for request in requests],
        essence=essence_of(tokenizer, "tq"),
    )


@pytest.fixture
def moment_of() -> Callable[..., tuple[torch.Tensor, SecondMoment]]:
    """Return a function that gives a random, well-conditioned C of some width, and its factored form."""

    def make(width: int, seed: int = 0) -> tuple[torch.Tensor, SecondMoment]:
        rows = torch.randn(3 * width, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        matrix = rows.T @ rows / len(rows)
        return matrix, SecondMoment(matrix)

    return make


def plain(
    model: torch.nn.Module, tokens: tuple[int, ...], module: torch.nn.Module, at: int, delta: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Run one context alone; return its log-probabilities, and input and output of ``module`` at one token."""
    seen = {}

    def hook(module, inputs, output):
        states = output[0] if isinstance(output, tuple) else output
        seen["in"], seen["out"] = inputs[0][0, at].double(), states[0, at].double()
        if delta is None:
            return None
        states = states.clone()
        states[0, at] += delta
        return (states, *output[1:]) if isinstance(output, tuple) else states

    handle = module.register_forward_hook(hook)
    try:
        logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
    finally:
        handle.remove()
    return logits.log_softmax(dim=-1), seen["in"], seen["out"]


@pytest.fixture
def unchanged_but(tiny: SimpleNamespace) -> Iterator[set[str]]:
    """Fail after the test if a parameter outside this set has changed."""
    before = {name: value.clone() for name, value in tiny.model.named_parameters()}
    allowed: set[str] = set()
    yield allowed
    moved = {name for name, value in tiny.model.named_parameters() if not torch.equal(value, before[name])}
    assert moved == allowed
