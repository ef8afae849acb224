"""Adapter for rule figures; the work is done in infoconflict.reporting.figures."""

from pathlib import Path

from infoconflict.jobs import job
from infoconflict.reporting.figures import write_figures

with job(snakemake) as run:
    write_figures(
        Path(run.input.metrics[0]).parent,
        list(zip(run.spec["chosen_t"], run.input.get("chosen_t", []), strict=True)),
        Path(run.output.png[0]).parents[3],
        cases=[(run.cell["model"], run.cell["dataset"], run.cell["attack"])],
        dpi=run.spec["figures"]["dpi"],
        confidence=run.spec["interval"],
    )
