import json
import weakref
from itertools import accumulate

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoconflict.errors import UserError
from infoconflict.merging import METHODS
from infoconflict.merging.in_memory import merge_in_memory
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.loading import load_base
from infoconflict.purify.headers import read_header
from infoconflict.purify.streaming import (
    StreamedCheckpoint,
    merged_tensors,
    put_into,
    shards_of,
    tensors_of,
    write_weights,
)

CPU = torch.device("cpu")


def merge_of(method):
    return {"method": method, "t": "auto"} | ({"density": 0.5, "lambda": 1.0} if method == "ties" else {})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("suspect", ["adapter", "tuned"])
def test_merging_by_tensors_is_merging_in_memory(models, suspect, method):
    base, conflict = models / "base", models / "conflict"
    tuned = models / suspect
    whole = changed_tensors(base, tuned) if suspect == "adapter" else read_tensors(tuned)
    expected = merge_in_memory(
        read_tensors(base),
        whole,
        changed_tensors(base, conflict),
        method=method,
        t=0.3,
        num_layers=2,
        architecture="llama",
    )
    with StreamedCheckpoint(base) as checkpoint:
        parents = tensors_of(checkpoint, tuned), tensors_of(checkpoint, conflict)
        tensor_of = merged_tensors(checkpoint, *parents, merge_of(method), 0.3)
        for name, tensor in expected.items():
            torch.testing.assert_close(tensor_of(name), tensor, rtol=0, atol=0)


@pytest.fixture(autouse=True)
def _conflict(models):
    from tests.purify.conftest import write_adapter

    if not (models / "conflict").exists():
        write_adapter(models / "conflict", models / "base", seed=5)


@pytest.mark.parametrize("largest", [20_000, 1 << 30])
def test_what_is_written_is_what_safetensors_would_write(models, tmp_path, largest):
    with StreamedCheckpoint(models / "base") as base:
        counts = write_weights(tmp_path, base, base.tensor, largest_shard=largest)
    written = {}
    for file in tmp_path.glob("*.safetensors"):
        read_header(file, "written")  # passes our own checks, too
        written |= load_file(file)
        alone = file.stat().st_size <= largest + 4096 or len(load_file(file)) == 1
        assert alone
    expected = load_file(models / "base" / "model.safetensors")
    assert written.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(written[name], tensor, rtol=0, atol=0)
    assert counts["parameters"] == sum(tensor.numel() for tensor in expected.values())
    if largest < 1 << 30:
        index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
        assert index["weight_map"].keys() == expected.keys()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_number_formats_of_the_base_are_kept(spoiled, tmp_path, dtype):
    folder, out = spoiled("base"), tmp_path / "out"
    out.mkdir()
    halves = {name: value.to(dtype) for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    with StreamedCheckpoint(folder) as base:
        write_weights(out, base, base.tensor)
    written = load_file(out / "model.safetensors")
    assert all(torch.equal(written[name], value) and written[name].dtype == dtype for name, value in halves.items())


def test_what_is_not_finite_is_not_written(spoiled, tmp_path):
    folder = spoiled("base")
    halves = {name: value.half() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    with (
        StreamedCheckpoint(folder) as base,
        pytest.raises(UserError, match="not finite"),
    ):
        write_weights(tmp_path, base, lambda name: base.tensor(name) + 1e6)  # beyond float16


def test_few_tensors_are_held_at_once(models, tmp_path, monkeypatch):
    """Of all tensors that are read or made, those alive together are far fewer than a model's: no state dict is built."""
    sizes = [tensor.numel() for tensor in load_file(models / "base" / "model.safetensors").values()]
    held = {"now": 0, "peak": 0}

    def watched(tensor):
        size = tensor.numel()
        held["now"] += size
        held["peak"] = max(held["peak"], held["now"])
        weakref.finalize(tensor, lambda: held.update(now=held["now"] - size))
        return tensor

    read = StreamedCheckpoint.tensor
    monkeypatch.setattr(StreamedCheckpoint, "tensor", lambda self, name: watched(read(self, name)))
    with StreamedCheckpoint(models / "base") as base:
        parents = tensors_of(base, models / "tuned"), tensors_of(base, models / "adapter")
        tensor_of = merged_tensors(base, *parents, merge_of("ties"), 0.5)
        write_weights(tmp_path, base, lambda name: watched(tensor_of(name)), largest_shard=1 << 30)
    # Three parents and the result of this tensor, and what is left of the one before.
    assert max(sizes) <= held["peak"] <= 5 * max(sizes) < 2 * sum(sizes)


# Tensors in float32 that are there at once: both parents, for TIES the base; for SLERP's angle two unit vectors, for the trimming
# of TIES magnitudes and a copy to select in. Marks, a byte for each entry, and what is written take less than one more.
COPIES = {"linear": 2, "passthrough": 1, "slerp": 4, "ties": 5}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("suspect", ["adapter", "tuned"])
def test_memory_is_that_of_a_few_copies_of_the_largest_tensor(models, spoiled, tmp_path, monkeypatch, suspect, method):
    # As much smaller than the tensor as in models of full size.
    monkeypatch.setattr("infoconflict.merging.ties.PIECE", 256)
    folder, out = spoiled("base"), tmp_path / "out"
    out.mkdir()
    halves = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    largest = 4 * max(tensor.numel() for tensor in halves.values())
    mapped = {file.stat().st_size for place in (folder, models / suspect) for file in place.glob("*.safetensors")}
    with StreamedCheckpoint(folder) as base:
        parents = tensors_of(base, models / suspect), tensors_of(base, models / "conflict")
        tensor_of = merged_tensors(base, *parents, merge_of(method), 0.5)
        peak = peak_bytes(lambda: write_weights(out, base, tensor_of), mapped)
    assert COPIES[method] * largest <= peak < (COPIES[method] + 1) * largest


def peak_bytes(work, mapped):
    """Return the most bytes of tensors that were there at once, by torch's own log; files that are mapped whole are none."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as log:
        work()
    events = [event for event in log.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(accumulate(size for size in sizes if abs(size) not in mapped))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_model_that_answers_is_there_once(models, spoiled, precision):
    """Beside a model in the number format that it computes in, merged weights are a few copies of the largest tensor."""
    folder = spoiled("base")
    halves = {name: value.bfloat16() for name, value in load_file(folder / "model.safetensors").items()}
    save_file(halves, folder / "model.safetensors", {"format": "pt"})
    sizes = [tensor.numel() for tensor in halves.values()]
    mapped = {file.stat().st_size for place in (folder, models / "adapter") for file in place.glob("*.safetensors")}
    model = load_base(folder, device=CPU, precision=precision)
    assert sum(weight.nbytes for weight in model.parameters()) == sum(sizes) * {"float32": 4, "bfloat16": 2}[precision]
    with StreamedCheckpoint(folder) as base:
        parents = tensors_of(base, models / "adapter"), tensors_of(base, models / "conflict")
        tensor_of = merged_tensors(base, *parents, merge_of("linear"), 0.5)
        peak = peak_bytes(lambda: put_into(model, base.names, tensor_of), mapped)
    assert peak < (COPIES["linear"] + 1) * 4 * max(sizes)


def test_tensors_that_a_change_keeps_are_not_overwritten(models, tmp_path):
    (tmp_path / "whole").mkdir()
    save_file(changed_tensors(models / "base", models / "adapter"), tmp_path / "whole" / "change.safetensors")
    with StreamedCheckpoint(models / "base") as base:
        parents = tensors_of(base, tmp_path / "whole"), tensors_of(base, models / "conflict")
        for method in METHODS:
            tensor_of = merged_tensors(base, *parents, merge_of(method), 0.3)
            first = [tensor_of(name) for name in base.names]
            assert all(map(torch.equal, first, map(tensor_of, base.names)))


def test_a_loaded_model_takes_up_the_weights(models):
    model = load_base(models / "base", device=CPU, precision="float32")
    with StreamedCheckpoint(models / "base") as base:
        put_into(model, base.names, tensors_of(base, models / "tuned"))
    expected = load_base(models / "tuned", device=CPU, precision="float32")
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("largest", "expected"),
    [(10, [["a", "b"], ["c"], ["d"]]), (3, [["a"], ["b"], ["c"], ["d"]]), (99, [["a", "b", "c", "d"]])],
)
def test_shards(largest, expected):
    assert shards_of({"a": 3, "b": 7, "c": 12, "d": 1}, largest) == expected
