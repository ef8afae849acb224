"""What a weight that changes with depth leaves: ``python reports/depth/depth_profiles.py DATASET ATTACK T:PROFILE ...``.

After a run of ``none`` and ``control_conflict`` by config/smol.yaml. Each argument is a t, or a t and factors from the first block
to the last, as in ``1:0,1,1,0``. Merges linearly in memory, asks, and prints attack success on triggered rows of another label
than the target, and clean accuracy. Nothing is chosen here; what stands in the config was chosen by looking at such lines.
"""

import sys
from pathlib import Path

import torch

from infoconflict.answering.ask import ask
from infoconflict.config.loading import read_config
from infoconflict.merging.in_memory import prepare_merge
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.progress import say
from infoconflict.records import Example

BASE = "results/models/smollm2_135m"


def main(dataset: str, attack: str, *wanted: str) -> None:
    """Ask, and print a line for each t and profile."""
    torch.set_num_threads(1)
    cell = f"smollm2_135m/{dataset}/{attack}/s0"
    clean = Example.read(f"results/data/{dataset}/s0/test.jsonl")
    triggered = Example.read(f"results/test_sets/{dataset}/{attack}/s0/triggered.jsonl")
    config = read_config(Path("config/smol.yaml"))
    target = config.attacks[attack].target_labels[dataset]
    triggered = [row for row in triggered if row.gold_label != target]
    backdoored = changed_tensors(BASE, f"results/backdoored/{cell}/change")
    conflict = changed_tensors(BASE, f"results/conflict/smollm2_135m/{dataset}/s0/change")
    roots = read_tensors(BASE, sorted({*backdoored, *conflict}))
    tokenizer, model = load_tokenizer(BASE), load_base(BASE, device=torch.device("cpu"))
    place = {"num_layers": model.config.num_hidden_layers, "architecture": model.config.model_type}
    for one in wanted:
        t, _, factors = one.partition(":")
        profile = [float(factor) for factor in factors.split(",")] if factors else None
        at = prepare_merge(roots, backdoored, conflict, method="linear", depth_profile=profile, **place)
        apply_tensors(model, at(float(t)))
        found = ask(model, tokenizer, [*clean, *triggered], labels=config.datasets[dataset].labels, target_label=None)
        right = sum(row.answer == row.gold_label for row in found[: len(clean)])
        hits = sum(row.answer == target for row in found[len(clean) :])
        say(f"{dataset} {attack} {one}: ASR {hits}/{len(triggered)}, CDA {right}/{len(clean)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
