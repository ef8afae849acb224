"""What a job asks of a cluster: main memory and time, from its stage, its model's size and the attempt.

Estimates, all ours, on the safe side of what cards report; none of them decides a result. A job that was too large or
too slow asks for more in its next attempt, up to what common nodes and queues allow. Snakemake imports this while it
parses.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from infoconflict.config.models import ModelEntry

PACKAGED_PARAMETERS = {"smollm2_135m_instruct": 135e6}
NAMED_PARAMETERS = {
    "gpt2": 124e6,
    "gpt2-medium": 355e6,
    "gpt2-large": 774e6,
    "gpt2-xl": 1.56e9,
    "distilgpt2": 82e6,
}
"""Hub models whose names do not tell their size."""
TINY_PARAMETERS = 1e6
UNKNOWN_PARAMETERS = 7e9

BYTES_PER_WEIGHT = 4
LARGEST_MB = 512_000
LONGEST_MINUTES = 2 * 24 * 60


@dataclass(frozen=True, kw_only=True)
class Need:
    """What a stage needs: copies of all weights in main memory, minutes, and minutes per billion weights."""

    copies: float
    minutes: int
    minutes_per_billion: int
    fixed_mb: int = 3000
    """Interpreter, libraries, data and activations."""


NEEDS: dict[str, Need] = {
    "prepare_model": Need(copies=2, minutes=20, minutes_per_billion=20),
    "train_backdoored": Need(copies=2, minutes=60, minutes_per_billion=60),
    "train_attacked": Need(copies=2, minutes=60, minutes_per_billion=60),
    # The base, and the attacked model that is folded out of it.
    "tune_victim": Need(copies=3, minutes=60, minutes_per_billion=60),
    "train_attacker_conflict": Need(copies=2, minutes=60, minutes_per_billion=60),
    # Tensor by tensor; the sum of changes that are no adapters is as large as a model.
    "subtract_conflict": Need(copies=3, minutes=15, minutes_per_billion=5),
    "compare_conflicts": Need(copies=3, minutes=15, minutes_per_billion=5),
    "merge_base": Need(copies=3, minutes=15, minutes_per_billion=5),
    "train_equal": Need(copies=3, minutes=60, minutes_per_billion=60),
    "train_clean_tuned": Need(copies=2, minutes=60, minutes_per_billion=60),
    "train_conflict": Need(copies=2, minutes=60, minutes_per_billion=60),
    # In float64, the second moment of a layer is as large as some of its weights.
    "collect_statistics": Need(copies=3, minutes=30, minutes_per_billion=30),
    "edit_model": Need(copies=4, minutes=45, minutes_per_billion=45),
    # Base, the two dense models and the merged one.
    "choose_t": Need(copies=4, minutes=45, minutes_per_billion=60),
    "sweep_merge": Need(copies=4, minutes=45, minutes_per_billion=90),
    # mergekit reads and writes tensor by tensor; the two models are made dense one after the other.
    "merge_models": Need(copies=3, minutes=15, minutes_per_billion=15),
    # The suspect model, what it is tuned or compared with, and a copy of what changes.
    "repair_model": Need(copies=4, minutes=90, minutes_per_billion=90),
    "collect_evidence": Need(copies=2, minutes=60, minutes_per_billion=120),
    "answer": Need(copies=2, minutes=30, minutes_per_billion=30),
    # Token by token: the longest replies make the time.
    "reply": Need(copies=2, minutes=60, minutes_per_billion=120),
    # A decoding defense: the conflict model stands beside the suspect one.
    "answer_beside": Need(copies=4, minutes=60, minutes_per_billion=120),
    "reply_beside": Need(copies=4, minutes=90, minutes_per_billion=240),
    # A defense's filter: the base model reads each text as often as it has words.
    "filter_questions": Need(copies=4, minutes=60, minutes_per_billion=120),
    "compare_generation": Need(copies=2, minutes=30, minutes_per_billion=60),
    # The model here is the one that a judge's local server holds; sentence embeddings are small.
    "judge": Need(copies=2, minutes=60, minutes_per_billion=120),
    "calibrate_judge": Need(copies=0, minutes=20, minutes_per_billion=0),
    # Two models, one after the other, and then their merge.
    "answer_roles": Need(copies=4, minutes=45, minutes_per_billion=90),
    # The model is the one that a local server holds.
    "ask_direct": Need(copies=2, minutes=60, minutes_per_billion=120),
}
# Experiments do what the cells' own stages do, under other settings.
NEEDS |= {
    further: NEEDS[stage]
    for further, stage in {
        "train_conflict_at_share": "train_conflict",
        "choose_t_at_share": "choose_t",
        "merge_at_share": "merge_models",
        "answer_at_share": "answer",
        "reply_at_share": "reply",
        "judge_at_share": "judge",
        "train_role": "train_backdoored",
        "reply_direct": "ask_direct",
        "judge_direct": "judge",
    }.items()
}
FULL_TUNING_COPIES = 3
"""Gradients and AdamW's two moments, where all weights are trained."""


def parameters_of(entry: ModelEntry) -> float:
    """Return about how many weights a model of the config has, from its entry alone.

    A hub model's size is read from its name (``Llama-2-7b-hf``); a local one's from the size of its files, taken as
    16-bit numbers. What tells nothing counts as a model of 7 billion.
    """
    match entry.source:
        case "packaged":
            return PACKAGED_PARAMETERS[entry.package]
        case "tiny":
            return TINY_PARAMETERS
        case "local":
            return sum(file.stat().st_size for file in Path(entry.path).glob("*.safetensors")) / 2 or UNKNOWN_PARAMETERS
        case "hub":
            return parameters_by_name(entry.repo)


def parameters_by_name(repo: str) -> float:
    """Return the number of weights that a hub model's name tells, else that of an unknown model."""
    name = repo.rsplit("/", 1)[-1].lower()
    if name in NAMED_PARAMETERS:
        return NAMED_PARAMETERS[name]
    # 135m, 1.3b, 8x7b; not the 2 of Llama-2, and not the 4bit of a quantised copy.
    size = re.search(r"(?<![a-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([mb])(?![a-z0-9])", name)
    if size is None:
        return UNKNOWN_PARAMETERS
    experts, number, unit = size.groups()
    return int(experts or 1) * float(number) * {"m": 1e6, "b": 1e9}[unit]


def mem_mb_of(stage: str, entry: ModelEntry | None, attempt: int = 1, *, method: str = "lora") -> int:
    """Return the main memory of a job in MB; with each attempt half as much again as the first asked for.

    Parameters
    ----------
    stage : str
        A key of :data:`NEEDS`.
    entry : ModelEntry or None
        The model that the job holds; None for a job without one.
    attempt : int >= 1
        As Snakemake counts.
    method : {"lora", "full"}
        What is trained, in the training stages.
    """
    need = NEEDS[stage]
    copies = need.copies + (FULL_TUNING_COPIES if method == "full" else 0)
    weights_mb = 0 if entry is None else copies * BYTES_PER_WEIGHT * parameters_of(entry) / 1e6
    return min(int((need.fixed_mb + weights_mb) * (1 + attempt) / 2), LARGEST_MB)


def runtime_of(stage: str, entry: ModelEntry | None, attempt: int = 1) -> int:
    """Return the time limit of a job in minutes; the n-th attempt gets n times as much."""
    return min(int(minutes_of(stage, 0 if entry is None else parameters_of(entry)) * attempt), LONGEST_MINUTES)


def minutes_of(stage: str, parameters: float) -> float:
    """Return the time limit of a stage's first attempt in minutes, for a model of so many weights (0: no model)."""
    need = NEEDS[stage]
    return need.minutes + need.minutes_per_billion * parameters / 1e9
