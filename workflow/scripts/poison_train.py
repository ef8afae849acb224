"""Adapter for rule poison_train; the work is done in infoconflict.poisoning."""

from collections import Counter

from infoconflict.attacks import load
from infoconflict.jobs import job
from infoconflict.poisoning import poison_training_set
from infoconflict.records import Example

with job(snakemake) as run:
    attack = load(run.spec["attack"]["method"]).from_spec(run.spec["attack"])
    clean = Example.read(run.input.train)[: run.spec["rows"]]
    poisoned = poison_training_set(clean, attack, target_label=run.spec["target_label"], seed=run.seed)
    Example.write(run.output.train, poisoned)
    run.card.write(
        run.output.card,
        inputs={"train": run.input.train},
        outputs={"train": run.output.train},
        rows={"clean": len(clean), "all": len(poisoned)},
        details={
            "triggers": Counter(row.trigger for row in poisoned),
            "labels": Counter(row.label for row in poisoned),
        },
    )
