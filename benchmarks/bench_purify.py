"""Peak memory of checking and merging a model tensor by tensor, beside mergekit's run_merge, in one run.

    python benchmarks/bench_purify.py

A copy of the base with noise stands for the suspect, an adapter with random matrices for the conflict model. Each case is a
process of its own; ``--cases`` names some:

- ``train``: eight updates of the conflict model, as rule purify_train runs them, on rows of 40 to 100 words of no meaning.
- ``check``: all checks of a stranger's checkpoint, the search for NaN among them.
- ``merge``, ``merge_slerp``, ``merge_ties``: the purified model written tensor by tensor.
- ``put``: the merged weights put into a loaded base, as when t is chosen.
- ``mergekit``: the same merge by mergekit, from dense checkpoints.

Anonymous memory is what a process itself holds (RssAnon of /proc, looked at fifty times a second); peak memory counts mapped
files, too, which the system can drop. Both are also given as multiples of the model's size in float32, less what an idle
process with the libraries has. A purification keeps below two such sizes at every step; they are twice the file's where that is in
bfloat16 and a CPU computes in float32.
"""

import argparse
import json
import shutil
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from bench_merging import write_random_adapter
from common import add_common_options, check_base, peak_memory_gib, run_case, run_cases, table, write_result

from infoconflict.entries import spec_of

MERGE = {"method": "linear", "t": 0.7}
TIES = {"method": "ties", "density": 0.5, "lambda": 1.0}


class Watch:
    """Looks at the anonymous memory of this process while a block runs."""

    def __enter__(self) -> "Watch":
        self.peak, self.done = 0, threading.Event()
        self.before = self.now()
        self.thread = threading.Thread(target=self.look)
        self.thread.start()
        self.started = time.perf_counter()
        return self

    def look(self) -> None:
        """Keep the greatest size until the block ends."""
        while not self.done.wait(0.02):
            self.peak = max(self.peak, self.now())

    @staticmethod
    def now() -> int:
        """Return the bytes that this process holds, without mapped files."""
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return 1024 * int(next(line.split()[1] for line in lines if line.startswith("RssAnon")))

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = time.perf_counter() - self.started
        self.done.set()
        self.thread.join()


def check(base: Path, work: Path) -> None:
    from infoconflict.purify.inspection import inspect

    inspect(work / "suspect", "suspect", base=inspect(base, "base"))


def merge(base: Path, work: Path, settings: dict[str, Any] = MERGE) -> None:
    from infoconflict.purify.streaming import StreamedCheckpoint, merged_tensors, tensors_of, write_weights

    with tempfile.TemporaryDirectory(dir=work) as out, StreamedCheckpoint(base) as checkpoint:
        parents = tensors_of(checkpoint, work / "suspect"), tensors_of(checkpoint, work / "conflict")
        write_weights(Path(out), checkpoint, merged_tensors(checkpoint, *parents, settings, MERGE["t"]))


def put(base: Path, work: Path) -> None:
    import torch

    from infoconflict.models.loading import load_base
    from infoconflict.purify.streaming import StreamedCheckpoint, merged_tensors, put_into, tensors_of

    model = load_base(base, device=torch.device("cpu"), precision="float32")
    with StreamedCheckpoint(base) as checkpoint:
        parents = tensors_of(checkpoint, work / "suspect"), tensors_of(checkpoint, work / "conflict")
        put_into(model, checkpoint.names, merged_tensors(checkpoint, *parents, MERGE, MERGE["t"]))


def mergekit(base: Path, work: Path) -> None:
    from infoconflict.merging.mergekit_runner import dense_checkpoint, merge_with_mergekit

    with tempfile.TemporaryDirectory(dir=work) as out:
        dense_checkpoint(base, work / "conflict", Path(out, "conflict"))
        merge_with_mergekit(
            method=MERGE["method"],
            t=MERGE["t"],
            backdoored_dir=work / "suspect",
            conflict_dir=Path(out, "conflict"),
            base_dir=base,
            out_dir=Path(out, "merged"),
            yaml_path=Path(out, "mergekit.yaml"),
        )


def train(base: Path, work: Path) -> None:
    import torch

    from infoconflict.purify.needs import TRAINING_MACHINE
    from infoconflict.purify.options import Purification
    from infoconflict.records import Example
    from infoconflict.training.checkpoints import Checkpoints
    from infoconflict.training.settings import TrainingSettings
    from infoconflict.training.trainer import Machine, train

    settings = Purification(model="suspect", base="base", data="rows.csv").training
    draw, words = (
        Random(0),
        ("the", "film", "plot", "music", "is", "was", "seems", "very", "not", "dull", "bright", "slow", "end"),
    )
    texts = [" ".join(draw.choices(words, k=draw.randint(40, 100))) for _ in range(8 * settings.batch_size)]
    rows = [
        Example(id=f"row {n}", instruction="Is this good?", text=text, label="yes", gold_label="yes")
        for n, text in enumerate(texts)
    ]
    with tempfile.TemporaryDirectory(dir=work) as folder:
        train(
            base_dir=base,
            examples=rows,
            settings=TrainingSettings.from_spec(spec_of(settings) | {"epochs": 1}),
            seed=0,
            out_dir=Path(folder, "change"),
            losses_path=Path(folder, "losses.jsonl"),
            checkpoints=Checkpoints(Path(folder), "benchmark"),
            precision="float32",
            machine=Machine(
                max_nodes=TRAINING_MACHINE["max_nodes"],
                gradient_checkpointing=bool(TRAINING_MACHINE["gradient_checkpointing"]),
            ),
            device=torch.device("cpu"),
        )


CASES = {
    "train": train,
    "check": check,
    "merge": merge,
    "merge_slerp": partial(merge, settings={"method": "slerp"}),
    "merge_ties": partial(merge, settings=TIES),
    "put": put,
    "mergekit": mergekit,
}


def run_one(request: dict[str, Any]) -> None:
    import torch

    import infoconflict.purify.streaming  # noqa: F401 imports are no part of a case

    torch.set_num_threads(request["threads"])
    with Watch() as watch:
        CASES[request["case"]](Path(request["base"]), Path(request["work"]))
    held = max(0, watch.peak - watch.before)
    print(json.dumps({"seconds": watch.seconds, "anonymous_bytes": held, "peak_gib": peak_memory_gib()}))


def write_suspect(folder: Path, base: Path) -> int:
    """Write a copy of the base with noise in every weight; return its size in float32."""
    import torch

    from infoconflict.purify.streaming import StreamedCheckpoint, write_weights

    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("*.safetensors*", ".*"))
    generator = torch.Generator().manual_seed(0)
    with StreamedCheckpoint(base) as checkpoint:

        def noisy(name: str) -> torch.Tensor:
            tensor = checkpoint.tensor(name)
            return tensor + 1e-3 * torch.randn(tensor.shape, generator=generator)

        return 4 * write_weights(folder, checkpoint, noisy)["parameters"]


def run_all(options: argparse.Namespace) -> None:
    check_base(options.base)
    results, lines = [], []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        size = write_suspect(work / "suspect", options.base)
        write_random_adapter(work / "conflict", options.base, seed=options.seed)
        for case in options.cases:
            request = {"case": case, "base": str(options.base), "work": folder, "threads": options.threads}
            result = run_case(__file__, request, threads=options.threads)
            results.append({"case": case, **result})
            held = result["anonymous_bytes"]
            lines.append(
                (
                    case,
                    f"{result['seconds']:.1f}",
                    f"{held / 2**30:.2f}",
                    f"{held / size:.2f}",
                    f"{result['peak_gib']:.2f}",
                )
            )
    print(f"a model of {size / 2**30:.2f} GiB in float32, {options.threads} thread(s)\n")
    print(table(("case", "seconds", "anonymous GiB", "in models", "peak GiB"), lines))
    write_result(options.out, {"cases": results, "model_bytes": size}, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="default: all")
    run_cases(parser, run_all=run_all, run_one=run_one)


if __name__ == "__main__":
    main()
