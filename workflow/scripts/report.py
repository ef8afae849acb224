"""Adapter for rule report; the work is done in infoconflict.reporting.page."""

from pathlib import Path

from infoconflict.jobs import job
from infoconflict.reporting.page import write_page

with job(snakemake) as run:
    write_page(
        run.output.page,
        metrics_dir=Path(run.input.metrics[0]).parent,
        tables_dir=Path(run.input.tables[0]).parent,
        figures_dir=Path("results/figures"),
        cards=run.input.cards,
        config=run.spec["config"],
        excluded=run.input.excluded,
        chosen_t=list(zip(run.spec["chosen_t"], run.input.get("chosen_t", []), strict=True)),
        evidence_files=list(zip(run.spec["evidence"], run.input.get("evidence", []), strict=True)),
        answers=list(zip(run.spec["cells"], run.input.answers, strict=True)),
        confidence=run.spec["interval"],
    )
