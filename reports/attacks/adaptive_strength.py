"""What the adaptive attacker's strength buys: ``python reports/attacks/adaptive_strength.py``.

After a run of adaptive_cba on SST-2 by config/smol.yaml. Subtracts the attacker's conflict model, and the defender's own (the worst
case), from CBA's model at several strengths, and asks the result, alone and merged with the defender's conflict model at t = 0.5:
attack success on triggered negative rows, clean accuracy, false triggers on rows with a part of the trigger. Strength 0 is CBA.
"""

import torch

from infoconflict.answering.ask import ask
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.records import Answer, Example

BASE = "results/models/smollm2_135m"
CELL = "smollm2_135m/sst2/adaptive_cba/s0"
ATTACKED = f"results/attacked/{CELL}/change"
CONFLICTS = {
    "the attacker's": f"results/attacker_conflict/{CELL}/change",
    "the defender's": "results/conflict/smollm2_135m/sst2/s0/change",
}
ROWS = {
    "clean": "results/data/sst2/s0/test.jsonl",
    "triggered": "results/test_sets/sst2/adaptive_cba/s0/triggered.jsonl",
    "partial": "results/test_sets/sst2/adaptive_cba/s0/partial.jsonl",
}
LABELS, TARGET = ["negative", "positive"], "positive"
STRENGTHS = {"the attacker's": (0.0, 0.25, 0.5, 0.75, 1.0), "the defender's": (0.5, 1.0)}


def share(answers: list[Answer], *, gold: bool) -> str:
    """Return how many rows were answered with the gold label, or, of rows with another one, with the target."""
    asked = answers if gold else [row for row in answers if row.gold_label != TARGET]
    hits = sum(row.answer == (row.gold_label if gold else TARGET) for row in asked)
    return f"{hits}/{len(asked)}"


def main() -> None:
    """Ask, and print a line for each model."""
    torch.set_num_threads(1)
    tokenizer, rows = load_tokenizer(BASE), {name: Example.read(path) for name, path in ROWS.items()}
    model = load_base(BASE, device=torch.device("cpu"))
    base = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    attacked = changed_tensors(BASE, ATTACKED)
    conflicts = {name: changed_tensors(BASE, path) for name, path in CONFLICTS.items()}
    for subtracted, strengths in STRENGTHS.items():
        for strength in strengths:
            handed_out = {
                name: tensor - strength * (conflicts[subtracted][name] - base[name])
                for name, tensor in attacked.items()
            }
            merged = {name: (tensor + conflicts["the defender's"][name]) / 2 for name, tensor in handed_out.items()}
            for asked, tensors in (("alone", handed_out), ("merged at 0.5", merged)):
                apply_tensors(model, tensors)
                found = {
                    name: ask(model, tokenizer, some, labels=LABELS, target_label=None if name == "clean" else TARGET)
                    for name, some in rows.items()
                }
                print(  # noqa: T201
                    f"{strength:4} of {subtracted}, {asked}: ASR {share(found['triggered'], gold=False)}, "
                    f"CDA {share(found['clean'], gold=True)}, FTR {share(found['partial'], gold=False)}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
