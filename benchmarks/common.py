"""What the benchmarks share: where the model and the rows are, one process per case, memory, tables, JSON."""

import argparse
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from infoconflict.attacks import load as load_attack
from infoconflict.cards import versions
from infoconflict.config.loading import read_config
from infoconflict.config.schema import Config
from infoconflict.data.prepare import prepare_dataset
from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from infoconflict.files import write_json
from infoconflict.packages import package_named
from infoconflict.poisoning import poison_training_set
from infoconflict.records import Example

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / "config" / "config.yaml"
MODEL, DATASET, ATTACK = "smollm2_135m", "film_reviews", "cba"


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that every benchmark has."""
    base = ROOT / "results" / "models" / MODEL
    parser.add_argument("--base", type=Path, default=base, help="checkpoint directory (default: the demo's model)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="also write the result here, as JSON")


def add_reviews_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that says where the film reviews are."""
    parser.add_argument("--reviews", type=Path, default=reviews_file(), help="the fetched archive of film reviews")


def reviews_file() -> Path:
    """Return where the workflow puts the film reviews."""
    return ROOT / "results" / "sources" / package_named(demo_config().datasets[DATASET].package).file


def demo_config() -> Config:
    """Return the demo's config, whose data set, attack and adapter the benchmarks use."""
    return read_config(CONFIG)


def check_base(base: Path) -> None:
    """Raise a UserError if there is no checkpoint in ``base``."""
    if not (base / "config.json").is_file():
        raise UserError(f"{base}: no model is there; run `make demo` once, or name a checkpoint with --base")


def film_reviews(reviews: Path, *, seed: int) -> dict[str, list[Example]]:
    """Return the demo's clean ``train`` and ``test`` rows, as its rule prepares them."""
    if not reviews.is_file():
        raise UserError(f"{reviews}: no such file; run `make demo` once, or name the archive with --reviews")
    with tempfile.TemporaryDirectory() as folder:
        prepare_dataset(spec_of(demo_config().datasets[DATASET]), source_file=reviews, seed=seed, out_dir=folder)
        return {split: Example.read(Path(folder, f"{split}.jsonl")) for split in ("train", "test")}


def poisoned_reviews(reviews: Path, *, seed: int) -> list[Example]:
    """Return the demo's poisoned training rows."""
    config = demo_config()
    spec = spec_of(config.attacks[ATTACK])
    clean = film_reviews(reviews, seed=seed)["train"][: config.training.backdoored.rows]
    attack = load_attack(spec["method"]).from_spec(spec)
    return poison_training_set(clean, attack, target_label=spec["target_labels"][DATASET], seed=seed)


def draw(rows: Sequence[Example], n_rows: int, *, seed: int) -> list[Example]:
    """Draw ``n_rows`` rows at random."""
    if n_rows > len(rows):
        raise UserError(f"{n_rows} rows are asked for and there are {len(rows)}; lower --n-rows")
    return Random(f"benchmark/{seed}").sample(list(rows), n_rows)


def run_case(file: str, request: dict[str, Any], *, threads: int) -> dict[str, Any]:
    """Run ``file --case REQUEST`` in a process of its own and return the JSON of its last line."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, file, "--case", json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise UserError(f"the case {request} ended with exit status {done.returncode}:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def run_cases(
    parser: argparse.ArgumentParser,
    *,
    run_all: Callable[[argparse.Namespace], None],
    run_one: Callable[[dict[str, Any]], None],
) -> None:
    """Be a program whose cases run in processes of their own: the whole, or with ``--case`` one of them."""
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        run_one(json.loads(options.case))
        return
    try:
        run_all(options)
    except UserError as error:
        sys.exit(f"{Path(sys.argv[0]).stem}: {error}")


def peak_memory_gib() -> float:
    """Return the greatest resident size of this process.

    Linux's own figure where there is one: ``getrusage`` starts a child with what its parent had.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        return int(status.split("VmHWM:")[1].split()[0]) / 2**20
    except (OSError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**30 if sys.platform == "darwin" else 2**20)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, the first column to the left, the others to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = [
        "| "
        + " | ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True)))
        + " |"
        for row in cells
    ]
    rule = "|" + "|".join("-" * (w + 1) + (":" if i else "-") for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def write_result(
    path: Path | None, result: dict[str, Any], options: argparse.Namespace, peers: Sequence[str] = ()
) -> None:
    """Write a result with its settings, versions and machine, if a path is given."""
    if path is None:
        return
    settings = {name: value for name, value in vars(options).items() if name not in ("case", "out", "base", "reviews")}
    found = versions() | {peer: importlib.metadata.version(peer) for peer in peers}
    write_json(
        path,
        result
        | {
            "settings": {name: value.name if isinstance(value, Path) else value for name, value in settings.items()},
            "base": options.base.name,
            "versions": found,
            "machine": {"cpu": cpu_name(), "cores": os.cpu_count(), "system": platform.system()},
        },
    )


def cpu_name() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
