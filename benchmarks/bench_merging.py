"""Time and peak memory of mergekit's run_merge and of our closed forms, on one checkpoint, in one run.

    python benchmarks/bench_merging.py

Two LoRA adapters with random matrices stand for the backdoored and the conflict model. Three ways to merge them:

- ``mergekit``: two dense checkpoints (and the base, for TIES) in, a merged checkpoint out.
- ``closed form``: the same files in and out, by the functions of ``infoconflict.merging``.
- ``in memory``: adapters in, merged values of the touched tensors out, nothing written; then the time of a further t.

Each case runs in a process of its own. Peak memory is the process's greatest resident size, in which mapped input files
count while they are held. Times vary with what else the machine does: the best of the repeats is given.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_common_options, check_base, peak_memory_gib, run_case, run_cases, table, write_result

METHODS = ("linear", "slerp", "ties", "passthrough")
T, DENSITY = 0.5, 0.5
RANK = 16


def write_random_adapter(folder: Path, base_dir: Path, *, seed: int) -> None:
    """Write a LoRA adapter on every matrix of the layers, without PEFT."""
    import torch
    from safetensors.torch import save_file

    from infoconflict.merging.passthrough import LAYER
    from infoconflict.models.changes import Checkpoint

    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    with Checkpoint(base_dir) as base:
        for name, shape in base.shapes().items():
            if len(shape) == 2 and LAYER.search(name):
                # GPT-2's Conv1D keeps its weights as (in, out).
                n_out, n_in = shape[::-1] if base.architecture == "gpt2" else shape
                module = f"base_model.model.{name.removesuffix('.weight')}"
                tensors[f"{module}.lora_A.weight"] = torch.randn(RANK, n_in, generator=generator) * 0.05
                tensors[f"{module}.lora_B.weight"] = torch.randn(n_out, RANK, generator=generator) * 0.05
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2 * RANK, "r": RANK}))


def by_mergekit(method: str, base: Path, work: Path) -> dict[str, float]:
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    from infoconflict.merging.mergekit_runner import gptj_defined, mergekit_config, with_paths
    from infoconflict.models.changes import Checkpoint

    with Checkpoint(base) as checkpoint:
        config = mergekit_config(method, t=T, num_layers=checkpoint.num_layers, density=DENSITY)
    places = {"base": base, "backdoored": work / "backdoored", "conflict": work / "conflict"}
    options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=work) as out, gptj_defined():
        run_merge(MergeConfiguration.model_validate(with_paths(config, places)), out, options)
        return {"seconds": time.perf_counter() - start}


def by_closed_form(method: str, base: Path, work: Path) -> dict[str, float]:
    from safetensors.torch import save_file

    from infoconflict.merging.linear import linear
    from infoconflict.merging.passthrough import from_conflict
    from infoconflict.merging.slerp import slerp
    from infoconflict.merging.ties import ties
    from infoconflict.models.changes import Checkpoint

    start = time.perf_counter()
    with (
        tempfile.TemporaryDirectory(dir=work) as out,
        Checkpoint(base) as root,
        Checkpoint(work / "backdoored") as backdoored,
        Checkpoint(work / "conflict") as conflict,
    ):
        place = {"num_layers": root.num_layers, "architecture": root.architecture}

        def merged(name):
            if method == "passthrough":
                return (conflict if from_conflict(name, t=T, **place) else backdoored).tensor(name)
            pair = backdoored.tensor(name), conflict.tensor(name)
            if method == "ties":
                return ties(root.tensor(name), *pair, t=T, density=DENSITY)
            return {"linear": linear, "slerp": slerp}[method](*pair, t=T)

        save_file({name: merged(name) for name in root.names}, Path(out) / "model.safetensors")
        return {"seconds": time.perf_counter() - start}


def in_memory(method: str, base: Path, work: Path) -> dict[str, float]:
    from infoconflict.merging.in_memory import changed_tensors, prepare_merge
    from infoconflict.models.changes import Checkpoint, read_tensors

    start = time.perf_counter()
    backdoored, conflict = (changed_tensors(base, work / f"{role}_adapter") for role in ("backdoored", "conflict"))
    with Checkpoint(base) as root:
        place = {"num_layers": root.num_layers, "architecture": root.architecture}
    roots = read_tensors(base, sorted({*backdoored, *conflict}))
    at = prepare_merge(roots, backdoored, conflict, method=method, density=DENSITY, **place)
    merged = at(T)
    first = time.perf_counter() - start
    del merged
    start = time.perf_counter()
    at(0.7)
    return {"seconds": first, "further_t_seconds": time.perf_counter() - start}


WAYS = {"mergekit": by_mergekit, "closed form": by_closed_form, "in memory": in_memory}


def run_one(request: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(request["threads"])
    way, method = request["way"], request["method"]
    # Imports are no part of the merge; mergekit's alone take seconds.
    import infoconflict.merging.in_memory  # noqa: F401

    if way == "mergekit":
        import mergekit.merge  # noqa: F401
    result = WAYS[way](method, Path(request["base"]), Path(request["work"]))
    print(json.dumps(result | {"peak_gib": peak_memory_gib()}))


def run_all(options: argparse.Namespace) -> None:
    check_base(options.base)
    import torch

    from infoconflict.merging.mergekit_runner import dense_checkpoint

    torch.set_num_threads(options.threads)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        for number, role in enumerate(("backdoored", "conflict")):
            write_random_adapter(work / f"{role}_adapter", options.base, seed=2 * options.seed + number)
            start = time.perf_counter()
            dense_checkpoint(options.base, work / f"{role}_adapter", work / role)
        print(f"{options.threads} thread(s); making one adapter dense: {time.perf_counter() - start:.1f} s\n")
        common = {"base": str(options.base), "work": folder, "threads": options.threads}
        for method in options.methods:
            for way in WAYS:
                request = common | {"way": way, "method": method}
                runs = [run_case(__file__, request, threads=options.threads) for _ in range(options.repeats)]
                results.append({"method": method, "way": way, "runs": runs})
    lines = []
    for result in results:
        best = min(result["runs"], key=lambda run: run["seconds"])
        further = f"{best['further_t_seconds']:.2f}" if "further_t_seconds" in best else ""
        lines.append((result["method"], result["way"], f"{best['seconds']:.2f}", further, f"{best['peak_gib']:.2f}"))
    print(table(("method", "way", "seconds", "a further t, s", "peak GiB"), lines))
    write_result(options.out, {"cases": results}, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--repeats", type=int, default=2)
    run_cases(parser, run_all=run_all, run_one=run_one)


if __name__ == "__main__":
    main()
