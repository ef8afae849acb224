"""Adapter for rule poison_test; the work is done in infoconflict.poisoning."""

from infoconflict.attacks import load
from infoconflict.jobs import job
from infoconflict.poisoning import asked_sets_of
from infoconflict.records import Record

with job(snakemake) as run:
    triggered, partial, rows = asked_sets_of(
        run.input.test,
        load(run.spec["attack"]["method"]).from_spec(run.spec["attack"]),
        target_label=run.spec.get("target_label"),
        partial_rows=run.spec["partial_rows"],
        seed=run.seed,
    )
    Record.write(run.output.triggered, triggered)
    Record.write(run.output.partial, partial)
    run.card.write(
        run.output.card,
        inputs={"test": run.input.test},
        outputs={"triggered": run.output.triggered, "partial": run.output.partial},
        rows=rows,
    )
