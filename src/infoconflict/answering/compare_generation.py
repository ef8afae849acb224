"""One model asked in both ways: by label scores, which decide the metrics, and by free generation."""

from infoconflict.answering.ask import ask
from infoconflict.answering.stage import MAX_NODES
from infoconflict.jobs import Job
from infoconflict.models.loading import default_device, load_changed, load_tokenizer
from infoconflict.records import Answer, Example


def compare_generation(job: Job) -> None:
    """Ask a clean-tuned model the first clean test rows in both ways; each answer row holds its scores and its text."""
    settings = job.spec["compare_generation"]
    model = load_changed(
        job.input.base, job.input.change, device=default_device(), precision=job.spec["model"]["precision"]
    )
    examples = Example.read(job.input.clean)[: settings["rows"]]
    answers = ask(
        model,
        load_tokenizer(job.input.base),
        examples,
        labels=job.spec["labels"],
        target_label=None,
        mode="both",
        max_new_tokens=settings["max_new_tokens"],
        max_nodes=int(job.machine.get("max_nodes", MAX_NODES)),
    )
    Answer.write(job.output.answers, answers)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "change", "clean")},
        outputs={"answers": job.output.answers},
        rows={"clean": len(answers), "no_label": sum(row.answer is None for row in answers)},
    )
