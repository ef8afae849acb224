"""A defense on weights as the workflow runs it: the suspect in, the steps of its repair out, and the card.

The defense's file has ``repair(suspect, options) -> list of steps``; it is imported by its name, so that an edit of one defense
reruns no other.
"""

import importlib
import shutil
from pathlib import Path

from infoconflict import defenses
from infoconflict.cards import digest_of_input
from infoconflict.files import sha256_of_text, whole_directory
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.repairs import write_repair
from infoconflict.repairing.suspect import Suspect

INPUTS = ("base", "change", "clean", "conflict", "oracle")


def repair_cell(job: Job) -> None:
    """Repair the cell's suspect model and write the rule's ``repair`` and ``card``."""
    job.use_threads()
    method = job.spec["defense"]["method"]
    options = defenses.load(method).model_validate(job.spec["defense"], strict=False)
    inputs = {name: job.input[name] for name in INPUTS if job.input.get(name)}
    # All that decides the result: only a run with the same digest may continue this one.
    digest = sha256_of_text(canonical(job.spec | {name: digest_of_input(path) for name, path in inputs.items()}))[:24]
    scratch = job.scratch(digest)
    with whole_directory(job.output.repair) as folder:
        suspect = Suspect(
            base_dir=Path(job.input.base),
            change_dir=Path(job.input.change),
            clean_file=Path(job.input.clean),
            folder=Path(folder),
            scratch=scratch,
            seed=job.seed,
            precision=job.spec["model"]["precision"],
            max_nodes=int(job.machine.get("max_nodes", 512)),
            labels=job.spec.get("labels", ()),
            conflict_dir=Path(job.input.conflict) if job.input.get("conflict") else None,
        )
        steps = importlib.import_module(f"infoconflict.defenses.{method}").repair(suspect, options)
        write_repair(folder, steps)
    job.card.write(
        job.output.card,
        inputs=inputs,
        outputs={"repair": job.output.repair},
        rows={"clean": len(suspect.clean_rows)},
        details={"steps": [step.kind for step in steps]} | suspect.details,
        tokens=suspect.tokens,
    )
    shutil.rmtree(scratch, ignore_errors=True)
