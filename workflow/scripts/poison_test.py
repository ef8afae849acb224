"""Adapter for rule poison_test; the work is done in infoconflict.poisoning."""

from infoconflict.attacks import load
from infoconflict.jobs import job
from infoconflict.poisoning import partial_test_set, triggered_test_set
from infoconflict.records import Example

with job(snakemake) as run:
    attack = load(run.spec["attack"]["method"]).from_spec(run.spec["attack"])
    test = Example.read(run.input.test)
    triggered = triggered_test_set(test, attack, seed=run.seed)
    partial = partial_test_set(
        test, attack, target_label=run.spec["target_label"], rows=run.spec["partial_rows"], seed=run.seed
    )
    Example.write(run.output.triggered, triggered)
    Example.write(run.output.partial, partial)
    run.card.write(
        run.output.card,
        inputs={"test": run.input.test},
        outputs={"triggered": run.output.triggered, "partial": run.output.partial},
        rows={
            "triggered": len(triggered),
            "target": sum(row.gold_label == run.spec["target_label"] for row in triggered),
            "partial": len(partial),
        },
    )
