"""Adapter for rule poison_train; the work is done in infoconflict.poisoning."""

from infoconflict.attacks import load
from infoconflict.jobs import job
from infoconflict.poisoning import training_set_of
from infoconflict.records import Record

with job(snakemake) as run:
    oracle = run.input.get("oracle")
    poisoned, rows, details = training_set_of(
        run.input.train,
        load(run.spec["attack"]["method"]).from_spec(run.spec["attack"]),
        rows=run.spec["rows"],
        target_label=run.spec.get("target_label"),
        seed=run.seed,
        oracle=oracle,
    )
    Record.write(run.output.train, poisoned)
    run.card.write(
        run.output.card,
        inputs={"train": run.input.train} | ({"oracle": oracle} if oracle else {}),
        outputs={"train": run.output.train},
        rows=rows,
        details=details,
    )
