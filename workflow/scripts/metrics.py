"""Adapter for rule metrics; the work is done in infoconflict.metrics."""

from infoconflict.jobs import job
from infoconflict.metrics import write_metrics
from infoconflict.paired import write_paired

with job(snakemake) as run:
    answers = list(zip(run.spec["cells"], run.input.answers, strict=True))
    write_paired(answers, run.output.paired, confidence=run.spec["interval"])
    write_metrics(
        answers,
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
    # Which cells there are is the config's matter; how they are counted is this.
    run.card.spec = {"interval": run.spec["interval"]}
    made = {name: file for name, file in run.output.items() if name != "card"}
    run.card.write(run.output.card, inputs={}, outputs=made)
