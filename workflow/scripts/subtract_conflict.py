"""Adapter for rule subtract_conflict; the work is done in infoconflict.models.task_vectors."""

from infoconflict.jobs import job
from infoconflict.models.task_vectors import combine_changes

with job(snakemake) as run:
    run.use_threads()
    terms = [(run.input.attacked, 1.0), (run.input.conflict, -run.spec["strength"])]
    details = combine_changes(run.input.base, terms, run.output.change)
    run.card.write(
        run.output.card,
        inputs={name: run.input[name] for name in ("base", "attacked", "conflict")},
        outputs={"change": run.output.change},
        details=details,
    )
