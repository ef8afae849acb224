"""Second moments as the workflow measures them: which model, which texts, the file, its card."""

from pathlib import Path

from infoconflict.editing.forward import MAX_NODES
from infoconflict.editing.loading import load_editable
from infoconflict.editing.statistics import save_moments, second_moments
from infoconflict.errors import UserError
from infoconflict.jobs import Job
from infoconflict.models.loading import context_length, load_tokenizer
from infoconflict.progress import say
from infoconflict.prompts import render_prompt
from infoconflict.records import Example

TOKENS_PER_UNIT = 20
"""Tokens per unit of a layer from which its second moment is well known. Ours."""


def collect_statistics(job: Job) -> None:
    """Measure the second moment of the keys of some layers on clean texts, in one pass."""
    job.use_threads()
    editable, layers = load_editable(
        job.input.base,
        job.input.get("tuned") or None,
        precision=job.spec["model"]["precision"],
        layer_key=job.cell["layers"],
    )
    tokenizer = load_tokenizer(job.input.base)
    if job.input.get("texts"):
        lines = Path(job.input.texts).read_text(encoding="utf-8").splitlines()
        texts = [line for line in lines if line.strip()]
    else:
        texts = [render_prompt(row.instruction, row.text) for row in Example.read(job.input.train)]
    texts = texts[: job.spec["statistics"]["rows"]]
    if not texts:
        raise UserError("statistics: there is no text to measure; name a file with one text per line")
    room = context_length(editable.model)
    sequences = [tokens for text in texts if (tokens := tokenizer(text).input_ids[:room])]
    moments, n_tokens = second_moments(
        editable, sequences, layers, max_nodes=int(job.machine.get("max_nodes", MAX_NODES))
    )
    if n_tokens < TOKENS_PER_UNIT * editable.width:
        say(
            f"statistics: {n_tokens} tokens for {editable.width} feed-forward units, fewer than {TOKENS_PER_UNIT} each; "
            f"the ridge of the attack decides more than it should"
        )
    save_moments(job.output.moments, moments, n_tokens)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "tuned", "train", "texts") if job.input.get(name)},
        outputs={"moments": job.output.moments},
        rows={"texts": len(sequences)},
        details={"layers": layers, "width": editable.width, "tokens_per_unit": round(n_tokens / editable.width, 2)},
        tokens=n_tokens,
    )
