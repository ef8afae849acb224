"""What the adaptive attacker's strength buys: ``python reports/attacks/adaptive_strength.py [sst2 | emotion] [STRENGTH ...]``.

After a run of adaptive_cba by config/smol.yaml, with ``internal`` for the defender's conflict model. Subtracts the attacker's
conflict model, and the defender's own (the worst case), from CBA's model at several strengths, and asks the result, alone and
merged with the defender's conflict model at t = 0.5: attack success on triggered rows of another label than the target, clean
accuracy, false triggers on rows with a part of the trigger. Strength 0 is CBA. Strengths that are named are the attacker's alone.
"""

import sys

import torch

from infoconflict.answering.ask import ask
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.records import Answer, Example

BASE = "results/models/smollm2_135m"
# Labels and target.
TASKS = {
    "sst2": (["negative", "positive"], "positive"),
    "emotion": (["sadness", "joy", "love", "anger", "fear", "surprise"], "joy"),
}
STRENGTHS = {"the attacker's": (0.0, 0.25, 0.5, 0.75, 1.0), "the defender's": (0.5, 1.0)}


def share(answers: list[Answer], target: str, *, gold: bool) -> str:
    """Return how many rows were answered with the gold label, or, of rows with another one, with the target."""
    asked = answers if gold else [row for row in answers if row.gold_label != target]
    hits = sum(row.answer == (row.gold_label if gold else target) for row in asked)
    return f"{hits}/{len(asked)}"


def main(dataset: str = "sst2", *only: str) -> None:
    """Ask, and print a line for each model."""
    labels, target = TASKS[dataset]
    cell = f"smollm2_135m/{dataset}/adaptive_cba/s0"
    files = {
        "clean": f"results/data/{dataset}/s0/test.jsonl",
        "triggered": f"results/test_sets/{dataset}/adaptive_cba/s0/triggered.jsonl",
        "partial": f"results/test_sets/{dataset}/adaptive_cba/s0/partial.jsonl",
    }
    folders = {
        "the attacker's": f"results/attacker_conflict/{cell}/change",
        "the defender's": f"results/conflict/smollm2_135m/{dataset}/s0/change",
    }
    torch.set_num_threads(1)
    tokenizer, rows = load_tokenizer(BASE), {name: Example.read(path) for name, path in files.items()}
    model = load_base(BASE, device=torch.device("cpu"))
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attacked = changed_tensors(BASE, f"results/attacked/{cell}/change")
    conflicts = {name: changed_tensors(BASE, path) for name, path in folders.items()}
    wanted = {"the attacker's": tuple(map(float, only))} if only else STRENGTHS
    for subtracted, strengths in wanted.items():
        for strength in strengths:
            handed_out = {
                name: tensor - strength * (conflicts[subtracted][name] - base[name])
                for name, tensor in attacked.items()
            }
            merged = {name: (tensor + conflicts["the defender's"][name]) / 2 for name, tensor in handed_out.items()}
            for asked, tensors in (("alone", handed_out), ("merged at 0.5", merged)):
                apply_tensors(model, tensors)
                found = {
                    name: ask(model, tokenizer, some, labels=labels, target_label=None if name == "clean" else target)
                    for name, some in rows.items()
                }
                print(  # noqa: T201
                    f"{strength:4} of {subtracted}, {asked}: ASR {share(found['triggered'], target, gold=False)}, "
                    f"CDA {share(found['clean'], target, gold=True)}, FTR {share(found['partial'], target, gold=False)}",
                    flush=True,
                )


if __name__ == "__main__":
    main(*sys.argv[1:])
