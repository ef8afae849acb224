"""What a run of config/smol.yaml on SST-2 tuned, and the same tuned with further seeds."""

import tempfile
from pathlib import Path

import torch

from infoconflict.files import read_json
from infoconflict.models.changes import changed_tensors
from infoconflict.training.launch import Request, run

BASE, DATASET = "results/models/smollm2_135m", "sst2"
CELL = f"smollm2_135m/{DATASET}"
SHARE = f"results/clean_share/{DATASET}/s0"
FURTHER_SEEDS = (1, 2)

Tensors = dict[str, torch.Tensor]


def draws_of(stage: str, examples: str, rows: int | None) -> list[Tensors]:
    """Return the dense tensors of a stage's change by seed, from 0; ``rows`` is how many of the examples it was tuned on."""
    own = f"results/{stage}/{CELL}/s0"
    found = [changed_tensors(BASE, f"{own}/change")]
    settings = read_json(f"{own}/card.json")["spec"]["training"]
    with tempfile.TemporaryDirectory() as folder:
        for seed in FURTHER_SEEDS:
            out = Path(folder) / str(seed)
            run(
                Request(
                    base_dir=BASE,
                    examples=examples,
                    rows=rows,
                    settings=settings,
                    seed=seed,
                    out_dir=str(out),
                    losses=f"{out}.losses",
                    scratch=f"{out}.scratch",
                    digest=str(seed),
                )
            )
            found.append(changed_tensors(BASE, out))
    return found
