"""Whole edits of ROME, MEMIT and BadEdit against their equations as plain loops, in float64 and in all architectures.

The loops take from the package the vectors that its search found, and nothing else: one text at a time is run, without
prefix trees; keys, values and states come from hooks of their own; C is a sum over tokens, and is inverted.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infoconflict.attacks import load
from infoconflict.editing import badedit, memit, rome
from infoconflict.editing.contexts import Request, request_for
from infoconflict.editing.statistics import SecondMoment, second_moments
from infoconflict.records import Example
from tests.editing.conftest import INSTRUCTION, SENTENCES

BLOCK = {"llama": "model.layers.{}", "gpt2": "transformer.h.{}", "gptj": "transformer.h.{}"}
DOWN = {"llama": "mlp.down_proj", "gpt2": "mlp.c_proj", "gptj": "mlp.fc_out"}
LAYERS = (0, 1)
PREFIXES = ("It was late.", "He said so.")
RIDGE = 0.1
LAMBDA = 0.5
SEARCH = {"steps": 3, "clamp": 4.0, "weight_decay": 0.1, "layers": {"m": list(LAYERS)}, "n_prefixes": len(PREFIXES)}


class Plain:
    """A copy of a model that is run one text at a time and edited as the papers write it."""

    def __init__(self, tiny: SimpleNamespace) -> None:
        self.model, self.tokenizer, self.architecture = deepcopy(tiny.model), tiny.tokenizer, tiny.architecture
        self.moments = {layer: self.second_moment(layer) for layer in LAYERS}

    def block(self, layer: int) -> torch.nn.Module:
        return self.model.get_submodule(BLOCK[self.architecture].format(layer))

    def down(self, layer: int) -> torch.nn.Module:
        return self.block(layer).get_submodule(DOWN[self.architecture])

    def inside(self, text: str, layer: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what goes into and comes out of the down-projection, and what the block puts out, token by token."""
        seen = {}

        def at_down(module, inputs, output):
            seen["keys"], seen["values"] = inputs[0][0].numpy(), output[0].numpy()

        def at_block(module, inputs, output):
            seen["states"] = (output[0] if isinstance(output, tuple) else output)[0].numpy()

        handles = [
            self.down(layer).register_forward_hook(at_down),
            self.block(layer).register_forward_hook(at_block),
        ]
        with torch.no_grad():
            self.model(**self.tokenizer(text, return_tensors="pt", return_token_type_ids=False), use_cache=False)
        for handle in handles:
            handle.remove()
        return seen["keys"], seen["values"], seen["states"]

    def read(self, request: Request, layer: int, prefix: str = "") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return key, value and state at the subject's last token."""
        opening = f"{prefix} " if prefix else ""
        text = opening + request.prompt
        at = self.tokenizer(text).char_to_token(len(opening) + request.end - 1)
        keys, values, states = self.inside(text, layer)
        return keys[at], values[at], states[at]

    def second_moment(self, layer: int) -> np.ndarray:
        """Return C = E[k k^T] over all tokens, with its ridge."""
        total, count = 0.0, 0
        for text in SENTENCES:
            for key in self.inside(text, layer)[0]:
                total = total + np.outer(key, key)
                count += 1
        moment = total / count
        return moment + RIDGE * np.trace(moment) / len(moment) * np.eye(len(moment))

    def add(self, layer: int, update: np.ndarray) -> None:
        """Add a matrix of shape (hidden, width); GPT-2 keeps its weight the other way round."""
        if self.architecture == "gpt2":
            update = update.T
        with torch.no_grad():
            self.down(layer).weight.add_(torch.from_numpy(update))

    def rome(self, groups: Iterable[Sequence[Request]], variant: str, deltas: Iterable[np.ndarray]) -> None:
        """W + Lambda (C^-1 k*)^T with Lambda = (v* - W k) / ((C^-1 k*)^T k), group by group and layer by layer."""
        found = iter(deltas)
        for requests in groups:
            for layer in LAYERS:
                all_keys, bare_keys, bare_values = [], [], []
                for request in requests:
                    key, value, _ = self.read(request, layer)
                    bare_keys.append(key)
                    bare_values.append(value)
                    all_keys += [key, *(self.read(request, layer, prefix)[0] for prefix in PREFIXES)]
                mean, bare = sum(all_keys) / len(all_keys), sum(bare_keys) / len(bare_keys)
                wanted = sum(bare_values) / len(bare_values) + next(found)
                above = {"r": mean, "released": mean, "p": bare}[variant]
                below = {"r": mean, "released": bare, "p": bare}[variant]
                right = np.linalg.inv(self.moments[layer]) @ above
                with torch.no_grad():
                    given = self.down(layer)(torch.from_numpy(below)[None])[0].numpy()
                self.add(layer, np.outer((wanted - given) / (right @ below), right))

    def columns(
        self, requests: Sequence[Request], targets: Sequence[np.ndarray], layer: int, n_left: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return each request's key, half the bare prompt's, and its part of z - h at the last layer, measured anew."""
        found = []
        for request, target in zip(requests, targets, strict=True):
            prefixed = [self.read(request, layer, prefix)[0] for prefix in PREFIXES]
            key = 0.5 * self.read(request, layer)[0] + 0.5 * sum(prefixed) / len(prefixed)
            found.append((key, (target - self.read(request, LAYERS[-1])[2]) / n_left))
        return found

    def memit(self, requests: Sequence[Request], deltas: Iterable[np.ndarray]) -> None:
        """R K^T (lambda C + K K^T)^-1, layer by layer."""
        targets = [self.read(r, LAYERS[-1])[2] + delta for r, delta in zip(requests, deltas, strict=True)]
        for n_left, layer in ((2, 0), (1, 1)):
            system, right = LAMBDA * self.moments[layer], 0.0
            for key, residual in self.columns(requests, targets, layer, n_left):
                system = system + np.outer(key, key)
                right = right + np.outer(residual, key)
            self.add(layer, right @ np.linalg.inv(system))

    def badedit(
        self, increments: Iterable[tuple[Sequence[Request], Sequence[Request]]], deltas: Iterable[np.ndarray]
    ) -> None:
        """The sum of r k^T (lambda C + k k^T)^-1 over triggered and clean records, r and k being means, layer by layer."""
        found = iter(deltas)
        for parts in increments:
            targets = [[self.read(request, LAYERS[-1])[2] + next(found) for request in part] for part in parts]
            for n_left, layer in ((2, 0), (1, 1)):
                update = 0.0
                for part, wanted in zip(parts, targets, strict=True):
                    columns = self.columns(part, wanted, layer, n_left)
                    key = sum(key for key, _ in columns) / len(columns)
                    residual = sum(residual for _, residual in columns) / len(columns)
                    system = LAMBDA * self.moments[layer] + np.outer(key, key)
                    update = update + np.outer(residual, key) @ np.linalg.inv(system)
                self.add(layer, update)


@pytest.fixture
def double(tiny: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the tiny model in float64, with the vectors that a search finds from now on, and C as the package has it."""
    tiny.model.double()
    # Llama's norms and GPT-J's attention turn to float32, whatever the model is in.
    monkeypatch.setattr(torch, "float32", torch.float64)
    tiny.deltas = []
    for module in (rome, memit):

        def search(*arguments, given=module.optimise_value, **options):
            value = given(*arguments, **options)
            tiny.deltas.append(value.delta.numpy())
            return value

        monkeypatch.setattr(module, "optimise_value", search)
    found, _ = second_moments(tiny.editable, [tuple(tiny.tokenizer(text).input_ids) for text in SENTENCES], LAYERS)
    tiny.moments = {layer: SecondMoment(matrix, ridge=RIDGE) for layer, matrix in found.items()}
    tiny.clean = [
        request_for(Example(id=text, instruction=INSTRUCTION, text=text, label=label, gold_label=label), text, label)
        for text, label in (("a quietly moving film", "positive"), ("a bore", "negative"))
    ]
    return tiny


def plant(double: SimpleNamespace, method: str, **options: object) -> None:
    attack = load(method)(target_labels={}, **SEARCH, **options)
    editor = {"rome": rome, "memit": memit, "badedit": badedit}[method]
    editor.plant(
        double.editable, double.tokenizer, attack, double.requests, double.clean, double.moments, model_id="m",
        prefixes=PREFIXES,
    )  # fmt: skip


def assert_same_edit(double: SimpleNamespace, plain: Plain, before: dict[str, torch.Tensor]) -> None:
    """Both models have the same weights to 1e-9 of what each update is, and all but the two edited ones as they were."""
    names = {f"{BLOCK[double.architecture].format(layer)}.{DOWN[double.architecture]}.weight" for layer in LAYERS}
    expected = dict(plain.model.named_parameters())
    for name, found in double.model.named_parameters():
        assert found.dtype == torch.float64
        if name not in names:
            assert torch.equal(found, before[name])
            continue
        update = expected[name] - before[name]
        # Not so small that any would do.
        assert update.norm() > 1e-3 * before[name].norm()
        assert (found - expected[name]).norm() < 1e-9 * update.norm()


@pytest.fixture
def before(double: SimpleNamespace) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in double.model.named_parameters()}


@pytest.mark.parametrize(
    ("variant", "requests"), [("r", "joint"), ("released", "joint"), ("p", "joint"), ("released", "sequential")]
)
def test_rome(double, before, variant, requests):
    plain = Plain(double)
    plant(double, "rome", variant=variant, requests=requests)
    groups = [double.requests] if requests == "joint" else [[request] for request in double.requests]
    plain.rome(groups, variant, double.deltas)
    assert_same_edit(double, plain, before)


def test_memit(double, before):
    plain = Plain(double)
    plant(double, "memit", update_weights={"m": LAMBDA})
    plain.memit(double.requests, double.deltas)
    assert_same_edit(double, plain, before)


def test_memit_with_one_value_for_all(double, before):
    plain = Plain(double)
    plant(double, "memit", update_weights={"m": LAMBDA}, values="shared")
    [delta] = double.deltas
    plain.memit(double.requests, [delta] * len(double.requests))
    assert_same_edit(double, plain, before)


def test_badedit(double, before):
    plain = Plain(double)
    plant(double, "badedit", update_weights={"m": LAMBDA}, increments=2)
    first, second, third = double.requests
    good, bad = double.clean
    plain.badedit([([first, third], [good]), ([second], [bad])], double.deltas)
    assert_same_edit(double, plain, before)
