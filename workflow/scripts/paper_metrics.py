"""Adapter for rule paper_metrics; the work is done in infoconflict.reporting.paper_measures."""

from infoconflict.jobs import job
from infoconflict.reporting.paper_measures import write_paper_metrics

with job(snakemake) as run:
    cards = iter(run.input.get("cards", []))
    write_paper_metrics(
        list(zip(run.spec["cells"], run.input.get("answers", []), strict=True)),
        [
            (cell, [next(cards) for _ in range(count)])
            for cell, count in zip(run.spec["cells"], run.spec["n_cards"], strict=True)
        ],
        cells_csv=run.output.cells,
        costs_csv=run.output.costs,
        confidence=run.spec["interval"],
    )
