"""The backdoored model merged with its base: the closed form, for adapters and for whole tensors."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infoconflict.cards import Card
from infoconflict.merging.linear import linear
from infoconflict.merging.with_base import merge_with_base
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.task_vectors import stored_kind
from tests.training.test_trainer import SETTINGS, tune


def merged(
    folder: Path, base: Path, change: Path, t: float, *, chosen: bool = False, profile: list[float] | None = None
) -> Path:
    inputs = {"base": str(base), "backdoored": str(change)}
    if chosen:
        (folder / "chosen_t.json").write_text(json.dumps({"t": t}))
        inputs["chosen_t"] = str(folder / "chosen_t.json")
    output = SimpleNamespace(change=str(folder / f"merged-{t}"), card=str(folder / "card.json"))
    files = type("Files", (dict,), {"__getattr__": dict.__getitem__})(inputs)
    job = SimpleNamespace(
        input=files,
        output=output,
        spec={"merge": {"t": "auto", "depth_profile": profile}} if chosen else {"t": t, "depth_profile": profile},
        card=Card("merge_base", cell={}, spec={}),
    )
    merge_with_base(job)  # type: ignore[arg-type]
    return folder / f"merged-{t}"


@pytest.fixture(scope="module", params=["lora", "full"])
def change(
    request: pytest.FixtureRequest, tiny_dirs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """An adapter, and all weights whole."""
    folder = tmp_path_factory.mktemp(request.param)
    tune(tiny_dirs["llama"], folder, replace(SETTINGS, method=request.param))
    return folder / "change"


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_it_is_the_linear_merge_with_the_base(
    change: Path, t: float, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs["llama"]
    found_dir = merged(tmp_path, base, change, t, chosen=t == 0.3)
    assert stored_kind(found_dir) == stored_kind(change)
    backdoored, found = changed_tensors(base, change), changed_tensors(base, found_dir)
    roots = read_tensors(base, list(backdoored))
    assert found.keys() == backdoored.keys()
    for name, value in found.items():
        expected = linear(backdoored[name].float(), roots[name].float(), t=t)
        torch.testing.assert_close(value.float(), expected, atol=1e-6, rtol=1e-5)
    assert json.loads((tmp_path / "card.json").read_text())["details"]["t"] == t


@pytest.mark.parametrize("chosen", [True, False])
def test_with_a_profile_each_block_has_its_own_t(
    change: Path, chosen: bool, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs["llama"]
    backdoored = changed_tensors(base, change)
    found = changed_tensors(base, merged(tmp_path, base, change, 0.6, chosen=chosen, profile=[0.5, 1.0]))
    roots = read_tensors(base, list(backdoored))
    for name, value in found.items():
        expected = linear(backdoored[name].float(), roots[name].float(), t=0.6 if ".layers.1." in name else 0.3)
        torch.testing.assert_close(value.float(), expected, atol=1e-6, rtol=1e-5)
