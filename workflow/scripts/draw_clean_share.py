"""Adapter for rule draw_clean_share; the work is done in infoconflict.data.splits."""

from infoconflict.data.splits import draw_clean_share
from infoconflict.jobs import job
from infoconflict.records import Record, read_rows

with job(snakemake) as run:
    examples = read_rows(run.input.train)
    train, holdout = draw_clean_share(examples, **run.spec["clean_share"], seed=run.seed)
    Record.write(run.output.train, train)
    Record.write(run.output.holdout, holdout)
    run.card.write(
        run.output.card,
        inputs={"train": run.input.train},
        outputs={"train": run.output.train, "holdout": run.output.holdout},
        rows={"of": len(examples), "train": len(train), "holdout": len(holdout)},
    )
