"""Cards: the small permanent record that every stage leaves.

A card says what was read, with which settings and versions, and what came out, by digest. Final targets require all cards, so a
result whose ancestor failed or vanished cannot stand as if nothing had happened.
"""

import importlib.metadata
import platform
import resource
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from infoconflict.files import PathLike, read_json, sha256_of, sha256_of_text, write_json

RELEVANT_PACKAGES = ("torch", "transformers", "peft", "mergekit", "datasets", "openai", "numpy", "infoconflict")


class Card:
    """Start one at the beginning of a stage and :meth:`write` it as the last thing."""

    def __init__(
        self, stage: str, *, cell: Mapping[str, Any], spec: Mapping[str, Any], code: Iterable[PathLike] = ()
    ) -> None:
        self.stage, self.cell, self.spec = stage, dict(cell), dict(spec)
        # Now, not when the job ends: by then a file may have been edited.
        self.code = digest_of_code(code)
        self.started = time.monotonic()

    def write(
        self,
        path: PathLike,
        *,
        inputs: Mapping[str, PathLike],
        outputs: Mapping[str, PathLike],
        rows: Mapping[str, Any] | None = None,
        details: Mapping[str, Any] | None = None,
        tokens: int | None = None,
    ) -> None:
        """Write the card; names of inputs and outputs are free of paths, so that a moved run keeps its cards."""
        write_json(
            path,
            {
                "stage": self.stage,
                "cell": self.cell,
                "spec": self.spec,
                "code": self.code,
                "inputs": {name: digest_of_input(file) for name, file in inputs.items()},
                "outputs": {name: sha256_of(file) for name, file in outputs.items()},
                "rows": dict(rows or {}),
                "details": dict(details or {}),
                "versions": versions(),
                "cost": {
                    "seconds": round(time.monotonic() - self.started, 2),
                    "peak_memory_bytes": peak_memory_bytes(),
                    "peak_gpu_memory_bytes": peak_gpu_memory_bytes(),
                    "stored_bytes": sum(stored_bytes(file) for file in outputs.values()),
                    "device": device_name(),
                    **({} if tokens is None else {"tokens": tokens}),
                },
            },
        )


def digest_of_input(file: PathLike) -> str:
    """Return the digest that a directory's own card recorded (large models are hashed once), else compute it."""
    path = Path(file)
    card = path.with_name(f"{path.name}.card.json")
    if path.is_dir() and card.exists():
        return str(next(iter(read_json(card)["outputs"].values())))
    return sha256_of(path)


def digest_of_code(files: Iterable[PathLike]) -> str:
    """Return one digest of a rule's package files, the same wherever the package lies; empty for none."""
    package = Path(__file__).parent
    lines = []
    for file in files:
        path = Path(file).resolve()
        name = path.relative_to(package).as_posix() if path.is_relative_to(package) else path.name
        lines.append(f"{name}\0{sha256_of(path)}\n")
    return sha256_of_text("".join(sorted(lines))) if lines else ""


def versions() -> dict[str, str]:
    """Return the versions that can change numbers."""
    found = {"python": platform.python_version()}
    for package in RELEVANT_PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def peak_memory_bytes() -> int:
    """Return the peak resident memory of this process, or of the largest it started (a server, a trainer) if that was more."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024


def peak_gpu_memory_bytes() -> int:
    """Return the peak memory that torch held on GPUs; 0 where torch was not used."""
    torch = sys.modules.get("torch")
    return int(torch.cuda.max_memory_allocated()) if torch is not None and torch.cuda.is_available() else 0


def device_name() -> str:
    """Return what computed: the GPU's name, or the processor's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return processor_name()


def processor_name(cpuinfo: PathLike = "/proc/cpuinfo") -> str:
    """Return the processor's name as Linux has it, else what Python knows of it, else ``cpu``."""
    try:
        lines = Path(cpuinfo).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2] for line in lines if line.partition(":")[0].strip() == "model name")
    return " ".join(next(names, "").split()) or platform.processor() or "cpu"


def stored_bytes(file: PathLike) -> int:
    """Return the size of a file, or of all files in a directory."""
    path = Path(file)
    return (
        sum(part.stat().st_size for part in path.rglob("*") if part.is_file()) if path.is_dir() else path.stat().st_size
    )
