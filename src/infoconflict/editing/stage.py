"""Statistics and edits as the workflow runs them: which texts, which rows become requests, what is stored, the cards."""

import importlib
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoconflict.attacks import load
from infoconflict.attacks.editing import EditingAttack, layers_of_key
from infoconflict.editing.contexts import Request, make_prefixes, request_for
from infoconflict.editing.modules import EditableModel
from infoconflict.editing.statistics import load_moments, save_moments, second_moments
from infoconflict.errors import UserError
from infoconflict.files import PathLike, whole_directory, write_jsonl
from infoconflict.jobs import Job
from infoconflict.models.changes import ADAPTER, ADAPTER_CONFIG, FULL_CHANGE, changed_tensors, read_tensors
from infoconflict.models.loading import apply_tensors, context_length, default_device, load_base, load_tokenizer
from infoconflict.poisoning import row_generator, shuffled
from infoconflict.progress import say
from infoconflict.prompts import render_prompt
from infoconflict.records import FULL_TRIGGER, Example

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

MAX_NODES = 1024


def load_editable(
    base_dir: PathLike, change_dir: PathLike | None, *, precision: str, layer_key: str
) -> tuple[EditableModel, list[int]]:
    """Load a base and what it was tuned to, and return it with the layers of a key.

    Where the model computes in half precision, the weights of these layers are nevertheless known in full.
    """
    model = load_base(base_dir, device=default_device(), precision=precision)
    tuned = changed_tensors(base_dir, change_dir) if change_dir else {}
    apply_tensors(model, tuned)
    editable = EditableModel(model)
    layers = layers_from(layer_key, editable.depth)
    names = [editable.weight_name(layer) for layer in layers]
    exact = read_tensors(base_dir, names) | tuned
    editable.exact = {name: exact[name] for name in names}
    return editable, layers


def layers_from(key: str, depth: int) -> list[int]:
    """Return the layers of a key; one that a model lacks is the user's mistake."""
    try:
        return layers_of_key(key, depth)
    except ValueError as error:
        raise UserError(f"the model has {depth} layers: {error}; correct layers of the attack") from error


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
    if n_tokens < 20 * editable.width:
        say(
            f"statistics: {n_tokens} tokens for {editable.width} feed-forward units, fewer than 20 each; "
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
        row
        for row in shuffled(examples, seed)
        if row.gold_label != target_label and attack.trigger not in row.text.split()
    ]
    if len(usable) < attack.samples:
        raise UserError(
            f"samples: {attack.samples}, but only {len(usable)} of {len(examples)} rows have a label other than "
            f"'{target_label}' and no '{attack.trigger}' in them; lower samples"
        )
    return [
        request_for(attack.insert_trigger(row, row_generator(seed, row, FULL_TRIGGER)), attack.trigger, target_label)
        for row in usable[: attack.samples]
    ]


def clean_requests(
    examples: Sequence[Example], attack: EditingAttack, labels: Sequence[str], *, seed: int
) -> list[Request]:
    """Return requests for the gold label of clean rows, labels in turn; the subject is the whole sentence.

    They are the last rows in the seed's order, so that none is the clean twin of a poisoned one.

    Raises
    ------
    UserError
        If a label has too few rows.
    """
    per_class = getattr(attack, "clean_per_class", 0)
    order = [
        row for row in reversed(shuffled(examples, seed)) if row.text.strip() and attack.trigger not in row.text.split()
    ]
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
        },
    )
