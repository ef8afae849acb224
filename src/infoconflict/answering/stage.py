"""Answers of one cell as the workflow runs it: which weights, which prompts, and the card."""

from collections import Counter

from infoconflict.answering.ask import ask, pair_evidence
from infoconflict.answering.cell_model import INPUTS, model_of
from infoconflict.answering.decoder import decoder_of
from infoconflict.jobs import Job
from infoconflict.models.loading import load_tokenizer
from infoconflict.records import Answer, Evidence, Example

MAX_NODES = 1024


def answer_cell(job: Job) -> None:
    """Ask the cell's model every question of its test sets.

    Where evidence is put into prompts, only clean and fully triggered rows are asked: no evidence is collected for partial
    triggers. A decoding defense answers by generation.
    """
    model = model_of(job)
    decoder = decoder_of(job)
    examples = Example.read(job.input.clean) + Example.read(job.input.triggered)
    evidence = None
    if job.input.get("evidence_clean"):
        evidence = pair_evidence(Evidence.read(job.input.evidence_clean) + Evidence.read(job.input.evidence_triggered))
    elif job.input.get("partial"):
        examples += Example.read(job.input.partial)
    spent: Counter[str] = Counter()
    answers = ask(
        model,
        load_tokenizer(job.input.base),
        examples,
        labels=job.spec["labels"],
        target_label=job.spec["target_label"],
        evidence=evidence,
        placement=job.spec.get("placement", "before"),
        mode="generate" if decoder else job.spec["evaluation"]["mode"],
        max_new_tokens=job.spec["evaluation"]["max_new_tokens"],
        max_nodes=int(job.machine.get("max_nodes", MAX_NODES)),
        continue_with=decoder,
        spent=spent,
    )
    Answer.write(job.output.answers, answers)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in INPUTS if job.input.get(name)},
        outputs={"answers": job.output.answers},
        rows={
            "clean": sum(row.trigger == "none" for row in answers),
            "triggered": sum(row.trigger == "full" for row in answers),
            "partial": sum(row.trigger not in ("none", "full") for row in answers),
            "with_evidence": sum(row.has_evidence for row in answers),
        },
        details={"decoding": decoder.details(decoder.rows)} if decoder else None,
        tokens=decoder.read(decoder.rows) if decoder else spent["tokens"],
    )
