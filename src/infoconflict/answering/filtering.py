"""A defense on the prompt as the workflow runs it: questions in, what the suspect model is asked instead out, and the card.

The defense's file has ``rewriter(suspect, options)``, which returns a function from questions to others, one for each and in order;
it is imported by its name, so that an edit of one defense reruns no other. It is shown questions alone: no labels, and not even
the names of their triggers. :mod:`infoconflict.answering.refilling` puts what it wrote back into the rows.
"""

import importlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from infoconflict import defenses
from infoconflict.answering.refilling import SETS, Rewritten, user_texts
from infoconflict.jobs import Job
from infoconflict.records import CLEAN, Query, read_queries
from infoconflict.repairing.suspect import Suspect

Rewrite = Callable[[Sequence[Query]], Sequence[Query]]


def filter_cell(job: Job) -> None:
    """Write, set by set, what the cell's defense has the suspect model asked."""
    job.use_threads()
    method = job.spec["defense"]["method"]
    options = defenses.load(method).model_validate(job.spec["defense"], strict=False)
    asked = {name: read_queries(job.input.questions[place]) for place, name in enumerate(SETS)}
    with tempfile.TemporaryDirectory() as scratch:
        suspect = Suspect(
            base_dir=Path(job.input.base),
            change_dir=Path(job.input.change),
            clean_file=Path(job.input.share),
            folder=Path(scratch) / "steps",
            scratch=Path(scratch) / "work",
            seed=job.seed,
            precision=job.spec["model"]["precision"],
            max_nodes=int(job.machine.get("max_nodes", 1024)),
            model_id=job.cell.get("model", ""),
            labels=job.spec.get("labels", ()),
        )
        rewrite: Rewrite = importlib.import_module(f"infoconflict.defenses.{method}").rewriter(suspect, options)
        written = {
            name: rewrite([replace(query, trigger=CLEAN) for query in queries]) for name, queries in asked.items()
        }
    changed: dict[str, int] = {}
    for name, queries in asked.items():
        before, after = list(map(user_texts, queries)), list(map(user_texts, written[name]))
        changed[name] = sum(old != new for old, new in zip(before, after, strict=True))
        rows = [Rewritten(id=query.id, texts=texts) for query, texts in zip(queries, after, strict=True)]
        Rewritten.write(job.output[name], rows)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "change", "share")}
        | {name: job.input.questions[place] for place, name in enumerate(SETS)},
        outputs={name: job.output[name] for name in SETS},
        rows={name: len(queries) for name, queries in asked.items()},
        details={"changed": changed, **suspect.details},
        tokens=suspect.tokens,
    )
