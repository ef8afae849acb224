"""How far one conflict model is from the next: ``python reports/smol/conflict_models.py`` after a run of config/smol.yaml on SST-2.

Trains conflict models with further seeds on the run's clean share, and asks them, their average and the clean-tuned model 300
clean training rows outside the share. A line each: right answers, wrong answers on negative rows, wrong answers on positive rows.
"""

import torch
from draws import BASE, CELL, SHARE, draws_of

from infoconflict.answering.ask import ask
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.records import Example

CLEAN_TUNED = f"results/clean_tuned/{CELL}/s0/change"
LABELS = ["negative", "positive"]


def rows_outside_the_share() -> list[Example]:
    """Return 300 clean training rows that the defender does not have."""
    own = {row.id for name in ("train", "holdout") for row in Example.read(f"{SHARE}/{name}.jsonl")}
    return [row for row in Example.read("results/data/sst2/s0/train.jsonl") if row.id not in own][1000:1300]


def say(name: str, tensors: dict[str, torch.Tensor], rows: list[Example]) -> None:
    """Ask the base with other tensors, and print how often it was right."""
    model = load_base(BASE, device=torch.device("cpu"))
    apply_tensors(model, tensors)
    answers = ask(model, load_tokenizer(BASE), rows, labels=LABELS, target_label=None)
    wrong = {label: sum(row.answer != label for row in answers if row.gold_label == label) for label in LABELS}
    print(f"{name}: {len(answers) - sum(wrong.values())} of {len(answers)} right, wrong by label {wrong}", flush=True)  # noqa: T201


def main() -> None:
    """Train and ask."""
    torch.set_num_threads(1)
    rows = rows_outside_the_share()
    say("clean-tuned model", changed_tensors(BASE, CLEAN_TUNED), rows)
    found = draws_of("conflict", f"{SHARE}/train.jsonl", None)
    for seed, conflict in enumerate(found):
        say(f"conflict model, seed {seed}", conflict, rows)
    for number in range(2, len(found) + 1):
        mean = {name: torch.stack([change[name] for change in found[:number]]).mean(dim=0) for name in found[0]}
        say(f"average of {number}", mean, rows)


if __name__ == "__main__":
    main()
