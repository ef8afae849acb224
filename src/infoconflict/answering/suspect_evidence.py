"""What a suspect model itself says in support of its answer (paper, Eq. 13), for evidence by modification."""

from infoconflict.answering.generation import generate
from infoconflict.evidence.modification import answer_and_evidence_prompt
from infoconflict.files import write_jsonl
from infoconflict.jobs import Job
from infoconflict.models.loading import default_device, load_changed, load_tokenizer
from infoconflict.records import Example


def ask_suspect(job: Job) -> None:
    """Have the backdoored model answer each question freely, with its evidence, and keep the replies."""
    model = load_changed(
        job.input.base, job.input.change, device=default_device(), precision=job.spec["model"]["precision"]
    )
    tokenizer = load_tokenizer(job.input.base)
    examples = Example.read(job.input.questions)
    queries = [answer_and_evidence_prompt(f"{row.instruction}\nInput: {row.text}") for row in examples]
    replies = generate(
        model,
        tokenizer,
        [tokenizer(query).input_ids for query in queries],
        max_new_tokens=job.spec["evidence"]["suspect_max_tokens"],
    )
    write_jsonl(
        job.output.replies,
        ({"id": row.id, "trigger": row.trigger, "reply": reply} for row, reply in zip(examples, replies, strict=True)),
    )
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "change", "questions")},
        outputs={"replies": job.output.replies},
        rows={"replies": len(replies)},
    )
