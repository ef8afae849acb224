"""Adapter for rule reveal_triggers; the work is done in infoconflict.poisoning."""

from infoconflict.attacks import load
from infoconflict.jobs import job
from infoconflict.poisoning import triggered_test_set
from infoconflict.records import Example, Record

with job(snakemake) as run:
    rows = triggered_test_set(
        Example.read(run.input.clean),
        load(run.spec["attack"]["method"]).from_spec(run.spec["attack"]),
        seed=run.seed,
    )
    Record.write(run.output.triggered, rows)
    run.card.write(
        run.output.card,
        inputs={"clean": run.input.clean},
        outputs={"triggered": run.output.triggered},
        rows={"triggered": len(rows)},
    )
