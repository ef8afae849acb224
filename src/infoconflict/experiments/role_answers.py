"""Answers of two models with exchanged roles, and of their merge, on the same clean and triggered rows."""

from infoconflict.answering.ask import ask
from infoconflict.jobs import Job
from infoconflict.merging.sweep import MergeableModel
from infoconflict.models.loading import default_device, load_changed, load_tokenizer
from infoconflict.records import CLEAN, Answer, Example

MAX_NODES = 1024


def answer_roles(job: Job) -> None:
    """Ask the first model, the second, and both merged at ``t``; all are asked by label scores.

    The inputs bear the names of a merge: the first model has the place of the backdoored one, the second of the conflict.
    """
    examples = Example.read(job.input.clean) + Example.read(job.input.triggered)
    labels, target_label, t = job.spec["labels"], job.spec["target_label"], job.spec["t"]
    tokenizer = load_tokenizer(job.input.base)
    for name, change in (("first", job.input.backdoored), ("second", job.input.conflict)):
        model = load_changed(job.input.base, change, device=default_device(), precision=job.spec["model"]["precision"])
        answers = ask(
            model,
            tokenizer,
            examples,
            labels=labels,
            target_label=target_label,
            max_nodes=int(job.machine.get("max_nodes", MAX_NODES)),
        )
        Answer.write(job.output[name], answers)
        del model
    merged = MergeableModel.of(job).answers(examples, t=t, target_label=target_label)
    Answer.write(job.output.merged, merged)
    names = ("base", "backdoored", "conflict", "clean", "triggered")
    n_clean = sum(row.trigger == CLEAN for row in examples)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in names},
        outputs={name: job.output[name] for name in ("first", "second", "merged")},
        rows={"clean": n_clean, "triggered": len(examples) - n_clean},
        details={"t": t},
    )
