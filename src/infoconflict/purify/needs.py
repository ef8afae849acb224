"""What a step of a purification asks a cluster for: main memory and minutes; none of it decides a result.

Estimates, all ours. Every step holds one model at most, and a few tensors of others. Snakemake imports this while it parses.
"""

from pathlib import Path

from infoconflict.purify.options import Purification
from infoconflict.resources import LARGEST_MB, LONGEST_MINUTES, PACKAGED_PARAMETERS, UNKNOWN_PARAMETERS

FIXED_MB = 3000
"""Interpreter, libraries, activations."""
COPIES = {"check": 0.1, "merge": 0.4, "answer": 1.3, "train": 1.7}
"""Copies of the weights in float32 that a step holds."""
TRAINING_MACHINE = {"gradient_checkpointing": 1, "max_nodes": 256}
"""Training in little memory: activations of one block at a time, of a few rows at a time. Changes results by rounding alone."""
MINUTES = {"check": 30, "merge": 30, "answer": 60, "train": 120}


def memory_and_minutes(stage: str, purification: Purification, attempt: int) -> tuple[int, int]:
    """Return megabytes and minutes of a step; each attempt asks for more."""
    weights = parameters_of(purification.base)
    memory = (FIXED_MB + COPIES[stage] * 4 * weights / 1e6) * (1 + 0.5 * (attempt - 1))
    minutes = MINUTES[stage] * (1 + weights / 1e9) * attempt
    return min(LARGEST_MB, round(memory)), min(LONGEST_MINUTES, round(minutes))


def parameters_of(base: str) -> float:
    """Return how many weights a base has: of a package as known, of a directory by its files, else a large guess."""
    if base in PACKAGED_PARAMETERS:
        return PACKAGED_PARAMETERS[base]
    if Path(base).is_dir():
        # Two bytes a weight: for float32 files a guess on the safe side.
        return sum(file.stat().st_size for file in Path(base).glob("*.safetensors")) / 2
    return UNKNOWN_PARAMETERS
