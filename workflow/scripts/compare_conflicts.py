"""Adapter for rule compare_conflicts; the work is done in infoconflict.models.task_vectors."""

from infoconflict.files import write_json
from infoconflict.jobs import job
from infoconflict.models.task_vectors import angle

with job(snakemake) as run:
    run.use_threads()
    found = angle(run.input.base, run.input.attackers, run.input.defenders)
    result = {
        "cosine": found["cosine"],
        "attackers_norm": found["first_norm"],
        "defenders_norm": found["second_norm"],
    }
    write_json(run.output.cosine, result)
    run.card.write(
        run.output.card,
        inputs={name: run.input[name] for name in ("base", "attackers", "defenders")},
        outputs={"cosine": run.output.cosine},
        details=result,
    )
