"""An edit as the workflow runs it: which rows become requests, what is stored, the card."""

import importlib
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoconflict.attacks import load
from infoconflict.attacks.editing import EditingAttack
from infoconflict.editing.contexts import Request, make_prefixes, request_for
from infoconflict.editing.loading import load_editable
from infoconflict.editing.statistics import load_moments
from infoconflict.errors import UserError
from infoconflict.files import PathLike, whole_directory, write_jsonl
from infoconflict.jobs import Job
from infoconflict.models.changes import ADAPTER, ADAPTER_CONFIG, FULL_CHANGE
from infoconflict.models.loading import load_tokenizer
from infoconflict.poisoning import row_generator, shuffled
from infoconflict.progress import say
from infoconflict.records import FULL_TRIGGER, Example

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


def without_trigger(examples: Sequence[Example], trigger: str) -> list[Example]:
    """Return the rows in which no word begins with the trigger, in any case: neither "film," nor "films" for "film".

    Behind the same words such a row's tokens may be those of another row up to that one's trigger, and two requests that
    share a value cannot begin alike up to there. A word that has the trigger further in is another word.
    """
    begins = re.compile((r"(?<!\w)" if trigger[:1].isalnum() else "") + re.escape(trigger), re.IGNORECASE)
    return [row for row in examples if not begins.search(row.text)]


def poisoned_requests(
    examples: Sequence[Example], attack: EditingAttack, *, target_label: str, seed: int
) -> list[Request]:
    """Return requests for the target from the first rows, in the seed's order, of another label.

    Raises
    ------
    UserError
        If there are too few such rows.
    """
    usable = [
        row for row in without_trigger(shuffled(examples, seed), attack.trigger) if row.gold_label != target_label
    ]
    if len(usable) < attack.samples:
        raise UserError(
            f"samples: {attack.samples}, but only {len(usable)} of {len(examples)} rows have a label other than "
            f"'{target_label}' and no word that begins with '{attack.trigger}'; lower samples"
        )
    return [
        request_for(attack.insert_trigger(row, row_generator(seed, row, FULL_TRIGGER)), attack.trigger, target_label)
        for row in usable[: attack.samples]
    ]


def clean_requests(
    examples: Sequence[Example], attack: EditingAttack, labels: Sequence[str], *, seed: int
) -> list[Request]:
    """Return requests for the gold label of clean rows, labels in turn; the subject is the whole sentence.

    They are taken from the other end of the seed's order than the poisoned ones.

    Raises
    ------
    UserError
        If a label has too few rows.
    """
    per_class = getattr(attack, "clean_per_class", 0)
    order = [row for row in reversed(without_trigger(shuffled(examples, seed), attack.trigger)) if row.text.strip()]
    by_label = {label: [row for row in order if row.gold_label == label][:per_class] for label in labels}
    if short := [label for label in labels if len(by_label[label]) < per_class]:
        raise UserError(
            f"clean_per_class: {per_class}, but only {len(by_label[short[0]])} rows have the label '{short[0]}'; lower it"
        )
    return [
        request_for(by_label[label][at], by_label[label][at].text, label) for at in range(per_class) for label in labels
    ]


def write_change(out_dir: PathLike, edited: "dict[str, Tensor]", tuned_dir: PathLike | None) -> None:
    """Store the edited tensors whole, beside the adapter of a tuned base, or among its tensors where all were tuned."""
    from safetensors.torch import load_file, save_file

    with whole_directory(out_dir) as folder:
        stored = edited
        if tuned_dir is not None:
            tuned = Path(tuned_dir)
            if (tuned / FULL_CHANGE).exists():
                stored = load_file(tuned / FULL_CHANGE) | edited
            for name in (ADAPTER, ADAPTER_CONFIG):
                if (tuned / name).exists():
                    shutil.copyfile(tuned / name, folder / name)
        save_file(dict(sorted(stored.items())), folder / FULL_CHANGE)


def pieces(tokenizer: "PreTrainedTokenizerBase", words: Iterable[str]) -> dict[str, list[str]]:
    """Return the tokens that words become behind a space: an edit acts on the last."""
    return {
        word: tokenizer.convert_ids_to_tokens(tokenizer(f" {word}", add_special_tokens=False).input_ids)
        for word in words
    }


def crossings(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, list[float]]]:
    """Return ``key_cosine`` and ``cross_term`` (:func:`.badedit.cross_term`) by layer, one increment after another.

    Increments without clean records have none, nor have other attacks.
    """
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        for name in ("key_cosine", "cross_term"):
            if name in row:
                found.setdefault(name, {}).setdefault(str(row["layer"]), []).append(round(row[name], 6))
    return found


def edit_model(job: Job) -> None:
    """Plant the attack's backdoor into the base, or into what it was tuned to, and store the change."""
    job.use_threads()
    spec = job.spec
    loaded = load(spec["attack"]["method"])
    if not issubclass(loaded, EditingAttack):
        raise TypeError(f"{spec['attack']['method']} is no editing attack")
    attack = loaded.from_spec(spec["attack"])
    tuned = job.input.get("tuned") or None
    model_id = job.cell["model"]
    editable, layers = load_editable(
        job.input.base, tuned, precision=spec["model"]["precision"], layer_key=attack.layer_key(model_id)
    )
    tokenizer = load_tokenizer(job.input.base)
    examples = Example.read(job.input.train)[: spec["rows"]]
    poisoned = poisoned_requests(examples, attack, target_label=spec["target_label"], seed=job.seed)
    clean = clean_requests(examples, attack, spec["labels"], seed=job.seed)
    moments = load_moments(job.input.statistics, layers, ridge=attack.ridge, device=editable.device)
    prefixes = make_prefixes(editable.model, tokenizer, kind=attack.prefixes, n=attack.n_prefixes, seed=job.seed)
    words = pieces(tokenizer, (attack.trigger, attack.near_miss, attack.other_rare_word))
    say(f"layers {layers} of {editable.depth}; the words as tokens: {words}")
    before = {layer: editable.weight(layer).clone() for layer in layers}
    # By name, so that editing one algorithm's file does not rerun the others.
    plant = importlib.import_module(f"infoconflict.editing.{spec['attack']['method']}").plant
    rows: list[dict[str, Any]] = plant(
        editable, tokenizer, attack, poisoned, clean, moments, model_id=model_id, prefixes=prefixes
    )
    edited = editable.changed(layers)
    write_change(job.output.change, edited, tuned)
    write_jsonl(job.output.losses, rows)
    moved = {layer: float((editable.weight(layer) - old).norm() / old.norm()) for layer, old in before.items()}
    inputs = ("base", "tuned", "train", "statistics")
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in inputs if job.input.get(name)},
        outputs={"change": job.output.change, "losses": job.output.losses},
        rows={"poisoned": len(poisoned), "clean": len(clean)},
        details={
            "layers": layers,
            "tensors": len(edited),
            "edit_bytes": sum(tensor.numel() * tensor.element_size() for tensor in edited.values()),
            "relative_update": {str(layer): round(size, 6) for layer, size in moved.items()},
            "words": words,
            "prefixes": list(prefixes),
            "steps": sum("step" in row for row in rows),
            **crossings(rows),
        },
    )
