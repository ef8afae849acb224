"""Adapter for rule metrics; the work is done in infoconflict.metrics."""

from infoconflict.jobs import job
from infoconflict.metrics import write_metrics

with job(snakemake) as run:
    write_metrics(
        list(zip(run.spec["cells"], run.input.answers, strict=True)),
        list(zip(run.spec["sweeps"], run.input.get("sweeps", []), strict=True)),
        list(zip(run.spec["judged"], run.input.get("judgements", []), strict=True)),
        list(zip(run.spec["generation"], run.input.get("generation", []), strict=True)),
        run.input.cards,
        cells_csv=run.output.cells,
        sweep_csv=run.output.sweep,
        summary_csv=run.output.summary,
        judges_csv=run.output.judges,
        generation_csv=run.output.generation,
        costs_csv=run.output.costs,
        confidence=run.spec["interval"],
    )
