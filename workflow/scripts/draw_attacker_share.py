"""Adapter for rule draw_attacker_share; the work is done in infoconflict.data.splits."""

from infoconflict.data.splits import draw_attacker_share
from infoconflict.jobs import job
from infoconflict.records import Example

with job(snakemake) as run:
    examples = Example.read(run.input.train)
    defenders = [*Example.read(run.input.defenders), *Example.read(run.input.defenders_holdout)]
    drawn = draw_attacker_share(
        examples, defenders, share=run.spec["conflict_share"], seed=run.seed + run.spec["own_seed"]
    )
    Example.write(run.output.train, drawn)
    run.card.write(
        run.output.card,
        inputs={name: run.input[name] for name in ("train", "defenders", "defenders_holdout")},
        outputs={"train": run.output.train},
        rows={
            "of": len(examples),
            "train": len(drawn),
            "shared_with_the_defender": len({row.id for row in drawn} & {row.id for row in defenders}),
        },
    )
