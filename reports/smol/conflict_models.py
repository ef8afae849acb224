"""How far one conflict model is from the next: ``python reports/smol/conflict_models.py`` after a run of config/smol.yaml on SST-2.

Trains conflict models with further seeds on the run's clean share, and asks them, their average and the clean-tuned model 300
clean training rows outside the share. A line each: right answers, wrong answers on negative rows, wrong answers on positive rows.
"""

import tempfile
from pathlib import Path

import torch

from infoconflict.answering.ask import ask
from infoconflict.files import read_json
from infoconflict.models.changes import changed_tensors
from infoconflict.models.loading import apply_tensors, load_base, load_tokenizer
from infoconflict.records import Example
from infoconflict.training.launch import Request, run

BASE = "results/models/smollm2_135m"
SHARE = "results/clean_share/sst2/s0"
CONFLICT = "results/conflict/smollm2_135m/sst2/s0"
CLEAN_TUNED = "results/clean_tuned/smollm2_135m/sst2/s0/change"
LABELS = ["negative", "positive"]
FURTHER_SEEDS = (1, 2)


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
    rows, settings = rows_outside_the_share(), read_json(f"{CONFLICT}/card.json")["spec"]["training"]
    say("clean-tuned model", changed_tensors(BASE, CLEAN_TUNED), rows)
    found = [changed_tensors(BASE, f"{CONFLICT}/change")]
    say("conflict model, seed 0", found[0], rows)
    with tempfile.TemporaryDirectory() as folder:
        for seed in FURTHER_SEEDS:
            out = Path(folder) / str(seed)
            run(
                Request(
                    base_dir=BASE,
                    examples=f"{SHARE}/train.jsonl",
                    rows=None,
                    settings=settings,
                    seed=seed,
                    out_dir=str(out),
                    losses=f"{out}.losses",
                    scratch=f"{out}.scratch",
                    digest=str(seed),
                )
            )
            found.append(changed_tensors(BASE, out))
            say(f"conflict model, seed {seed}", found[-1], rows)
            mean = {name: torch.stack([change[name] for change in found]).mean(dim=0) for name in found[0]}
            say(f"average of {len(found)}", mean, rows)


if __name__ == "__main__":
    main()
