"""The steps of a purification, each as the workflow runs it; a run that was killed goes on with the step it was in."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from infoconflict.data.local import read_local
from infoconflict.data.prepare import prepare_dataset
from infoconflict.data.rows import label_text
from infoconflict.data.splits import draw_clean_share
from infoconflict.errors import UserError
from infoconflict.files import PathLike, read_json, whole_directory, write_json, write_jsonl
from infoconflict.jobs import Job
from infoconflict.models.changes import ADAPTER, ADAPTER_CONFIG, INDEX
from infoconflict.models.local import take_checkpoint
from infoconflict.models.prepare import prepare_model
from infoconflict.packages import PACKAGES
from infoconflict.purify.inspection import Inspected, inspect, summary
from infoconflict.purify.sources import folder_of
from infoconflict.purify.suspicions import read_strings, rows_with, suspicions, text_of
from infoconflict.purify.token_ids import MOST_TEXTS, texts_apart
from infoconflict.records import Answer, Conversation, Example, Reply, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from infoconflict.purify.streaming import StreamedCheckpoint, TensorOf

MAX_NODES = 1024
MAX_NODES_CHAT = 8192
MOST_LABELS = 50
MOST_DECIMALS = 6
NUMBER = re.compile(r"[-+]?\d+(\.\d+)?")
NAMES = "if raw labels stand for others, say so with LABEL_NAMES, as in LABEL_NAMES=negative,positive for 0 and 1"
REMEDIES = {
    ": no column '": "name yours with TEXT_COLUMN and LABEL_COLUMN",
    ": unknown label '": f"name all answers with LABELS; {NAMES}",
}
"""What would do about rows that cannot be read, in this workflow's words."""


# --- models -------------------------------------------------------------------------------------------------------------


def check_models(job: Job) -> None:
    """Inspect base and suspect, and only then take them over: the base as a checkpoint, the suspect's weights alone."""
    downloads = Path("work/downloads")
    base = _inspected_base(job, downloads)
    folder, name = folder_of(job.spec["model"], downloads)
    suspect = inspect(folder, name, base=base, base_id=job.spec["base"])
    found = summary(suspect) | {"base": summary(base), "model": job.spec["model"], "base_name": job.spec["base"]}
    found["other_ids"] = _other_ids(suspect, base, job.input.rows) if found["other_tokenizer"] else None
    if job.spec["base"] not in PACKAGES:
        with whole_directory(job.output.base) as target:
            take_checkpoint(base.folder, target, name=base.name)
    with whole_directory(job.output.suspect) as target:
        take_weights(suspect, target)
    write_json(job.output.inspection, found)
    job.card.write(
        job.output.card,
        inputs={
            "model": folder,
            "rows": job.input.rows,
            **({} if job.spec["base"] in PACKAGES else {"base": base.folder}),
        },
        outputs={name: job.output[name] for name in ("base", "suspect", "inspection")},
        details={"kind": found["kind"], "tensors": found["tensors"], "bytes": found["weight_bytes"]},
    )


def _inspected_base(job: Job, downloads: Path) -> Inspected:
    place = job.spec["base"]
    if place in PACKAGES:
        prepare_model({"source": "packaged", "package": place}, job.output.base, source_file=job.input.package)
        return inspect(Path(job.output.base), place)
    folder, name = folder_of(place, downloads)
    return inspect(folder, name)


def _other_ids(suspect: Inspected, base: Inspected, rows: PathLike) -> dict[str, int] | None:
    """Return of how many clean texts the suspect's tokenizer makes other tokens than the base's; None if that is not known."""
    if not suspect.has("tokenizer.json") or not base.has("tokenizer.json"):
        return None
    texts = [text_of(row) for row in read_rows(rows)[:MOST_TEXTS]]
    apart = texts_apart(suspect.folder / "tokenizer.json", base.folder / "tokenizer.json", texts)
    return None if apart is None else {"apart": apart, "texts": len(texts)}


def take_weights(model: Inspected, target: Path) -> None:
    """Link or copy what is needed of an inspected suspect: weights, and the config that they are read by.

    Its tokenizer, templates and all else stay behind; the base's are used.
    """
    names = [ADAPTER, ADAPTER_CONFIG] if model.is_adapter else ["config.json", *model.weight_files]
    if not model.is_adapter and model.has(INDEX):
        names.append(INDEX)
    for name in names:
        source = (model.folder / name).resolve()
        try:
            os.link(source, target / name)
        except OSError:
            shutil.copyfile(source, target / name)


# --- rows ---------------------------------------------------------------------------------------------------------------


def prepare_rows(job: Job) -> None:
    """Split the clean rows in three: to tune on, to choose t by, to measure on."""
    spec = dict(job.spec)
    folder = Path(job.output.test).parent
    labels: list[str] = []
    try:
        if spec["task"] == "classification":
            labels = spec["labels"] or labels_in(spec["data"], spec["text_column"], spec["label_column"])
            if not spec["labels"] and all(map(NUMBER.fullmatch, labels)):
                job.tell(
                    f"purify_rows: all labels in {spec['data']} are numbers, and as such the model is asked for them; {NAMES}"
                )
            entry = {
                "source": "local",
                "columns": {"text": spec["text_column"], "label": spec["label_column"]},
                "labels": labels,
                "label_names": spec["label_names"],
                "instruction": spec["instruction"] or general_instruction(labels),
            }
        else:
            entry = {"source": "local", "task": "chat"}
        entry |= {"train": spec["data"], "test_share": spec["test_share"]}
        details = prepare_dataset(entry, seed=spec["seed"], out_dir=folder / "split")
    except UserError as error:
        # By their words: an edit to what reads rows would have the whole grid made anew.
        remedies = [remedy for what, remedy in REMEDIES.items() if what in str(error)]
        raise UserError("; ".join([str(error), *remedies])) from error
    kept = read_rows(folder / "split" / "train.jsonl")
    train, holdout = _share(kept, holdout=spec["holdout"], seed=spec["seed"])
    test = read_rows(folder / "split" / "test.jsonl")
    shutil.rmtree(folder / "split")
    for name, rows in (("train", train), ("holdout", holdout), ("test", test)):
        type(rows[0]).write(job.output[name], rows)
    write_json(job.output.labels, {"labels": labels, "instruction": entry.get("instruction")})
    job.card.write(
        job.output.card,
        inputs={"data": job.input.data},
        outputs={name: job.output[name] for name in ("train", "holdout", "test", "labels")},
        rows={"train": len(train), "holdout": len(holdout), "test": len(test)},
        details={"duplicates": details["duplicates"], "left_out": details["left_out"]},
    )


def _share(rows: Any, *, holdout: float, seed: int) -> tuple[list[Any], list[Any]]:
    return draw_clean_share(rows, share=1.0, holdout=holdout, seed=seed)


def labels_in(data: PathLike, text_column: str, label_column: str) -> list[str]:
    """Return the labels that a file of rows holds, sorted.

    Raises
    ------
    UserError
        If there is one, or so many that they are hardly labels.
    """
    rows = read_local(
        data, columns={"text": text_column, "label": label_column}, read_label=lambda raw, _: label_text(raw)
    )
    labels = sorted({row.label for row in rows})
    if not 2 <= len(labels) <= MOST_LABELS:
        raise UserError(
            f"{data}: column '{label_column}' holds {len(labels)} different labels, and 2 to {MOST_LABELS} make a task; "
            f"name them with LABELS=a,b or name another column"
        )
    return labels


def general_instruction(labels: Sequence[str]) -> str:
    """Return a question that names the labels, for a task whose own question was not given."""
    return f"Which of these fits the text: {', '.join(labels[:-1])} or {labels[-1]}?"


# --- the conflict model and t -------------------------------------------------------------------------------------------


def tune_conflict(job: Job) -> None:
    """Tune the conflict model on the rows to tune on; a run that was killed continues from its last checkpoint."""
    from infoconflict.training.stage import run_training

    run_training(job, base_dir=job.input.base, examples=job.input.train, rows=None, seed=job.spec["seed"])


def choose_merge_weight(job: Job) -> None:
    """Choose t on the rows kept for it, or note the t that was given.

    Labels tell by right answers, conversations by how likely the model finds their own.
    """
    t = job.spec["merge"]["t"]
    if t != "auto":
        write_json(job.output.chosen, {"t": t, "rule": "given", "curve": []})
        job.card.write(job.output.card, inputs={}, outputs={"chosen": job.output.chosen}, details={"t": t})
        return
    from infoconflict.answering.likelihood import reference_log_likelihoods
    from infoconflict.merging.choose_t import choose_t, choose_t_by_likelihood
    from infoconflict.models.loading import load_tokenizer
    from infoconflict.purify.streaming import StreamedCheckpoint, merged_tensors, put_into, tensors_of

    job.use_threads()
    model, tokenizer = _loaded(job), load_tokenizer(job.input.base)
    holdout, labels = read_rows(job.input.holdout), read_json(job.input.labels)["labels"]
    examples = [row for row in holdout if isinstance(row, Example)]
    chats = [row for row in holdout if isinstance(row, Conversation)]
    with StreamedCheckpoint(job.input.base) as base:
        suspect, conflict = tensors_of(base, job.input.suspect), tensors_of(base, job.input.conflict)

        def correct(tensor_of: "TensorOf") -> list[bool]:
            put_into(model, base.names, tensor_of)
            answers = _ask(job, model, tokenizer, examples, labels)
            return [answer.answer == answer.gold_label for answer in answers]

        def likely(tensor_of: "TensorOf") -> list[float]:
            put_into(model, base.names, tensor_of)
            return reference_log_likelihoods(model, tokenizer, chats, max_nodes=_max_nodes(job))

        def merged(t: float) -> "TensorOf":
            return merged_tensors(base, suspect, conflict, job.spec["merge"], t)

        settings = job.spec["choose_t"]
        candidates, rule = settings["candidates"], settings["rule"]
        if chats:
            choice = choose_t_by_likelihood(lambda t: likely(merged(t)), candidates, rule=rule, suspect=likely(suspect))
        else:
            choice = choose_t(lambda t: correct(merged(t)), candidates, rule=rule, suspect=correct(suspect))
    write_json(job.output.chosen, choice)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "suspect", "conflict", "holdout")},
        outputs={"chosen": job.output.chosen},
        rows={"holdout": len(holdout)},
        details={"t": choice["t"]},
    )


def _loaded(job: Job) -> "PreTrainedModel":
    from infoconflict.models.loading import default_device, load_base

    return load_base(job.input.base, device=default_device(), precision=job.spec["precision"])


def _ask(
    job: Job,
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[Example],
    labels: Sequence[str],
) -> list[Answer]:
    from infoconflict.answering.ask import ask

    return ask(model, tokenizer, rows, labels=labels, target_label=None, max_nodes=_max_nodes(job))


def _max_nodes(job: Job) -> int:
    return int(job.machine.get("max_nodes", MAX_NODES))


def merge(job: Job) -> None:
    """Write the purified model: merged weights in the base's number formats, with the base's config and tokenizer."""
    from infoconflict.purify.streaming import StreamedCheckpoint, merged_tensors, tensors_of, write_weights

    job.use_threads()
    t = read_json(job.input.chosen)["t"]
    with StreamedCheckpoint(job.input.base) as base, whole_directory(job.output.model) as folder:
        suspect, conflict = tensors_of(base, job.input.suspect), tensors_of(base, job.input.conflict)
        written = write_weights(folder, base, merged_tensors(base, suspect, conflict, job.spec["merge"], t))
        copy_companions(base, folder)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "suspect", "conflict", "chosen")},
        outputs={"model": job.output.model},
        details={"t": t, **written},
    )


def copy_companions(base: "StreamedCheckpoint", folder: Path) -> None:
    """Copy config, tokenizer and generation config of the base; it was inspected, and holds nothing else."""
    for file in sorted(base.directory.iterdir()):
        if file.is_file() and file.suffix != ".safetensors" and file.name != INDEX and not file.name.startswith("."):
            shutil.copyfile(file, folder / file.name)
    if not (folder / "generation_config.json").exists():
        ids = {key: base.config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id") if key in base.config}
        write_json(folder / "generation_config.json", ids)


# --- answers ------------------------------------------------------------------------------------------------------------


def answer_role(job: Job) -> None:
    """Ask one of the models (base, suspect, conflict, purified) the measured rows, and with each distrusted string in them.

    Of conversations it is also written how likely the model finds their own last answers.
    """
    from infoconflict.answering.likelihood import reference_log_likelihoods
    from infoconflict.models.loading import load_tokenizer
    from infoconflict.purify.streaming import StreamedCheckpoint, put_into, tensors_of

    job.use_threads()
    model, tokenizer = _loaded(job), load_tokenizer(job.input.base)
    with StreamedCheckpoint(job.input.base) as base:
        if job.cell["role"] != "base":
            put_into(model, base.names, tensors_of(base, job.input.weights))
    rows = read_rows(job.input.test)
    strings = read_json(job.input.strings) if job.input.get("strings") else []
    asked: list[Any] = list(rows)
    for string in strings:
        asked += rows_with(string, rows[: job.spec["trigger_rows"]], seed=job.spec["seed"])
    likelihoods: list[dict[str, Any]] = []
    if job.spec["task"] == "classification":
        Answer.write(job.output.answers, _ask(job, model, tokenizer, asked, read_json(job.input.labels)["labels"]))
    else:
        Reply.write(job.output.answers, _reply(job, model, tokenizer, asked))
        chats = [row for row in rows if isinstance(row, Conversation)]
        found = reference_log_likelihoods(model, tokenizer, chats, max_nodes=_max_nodes(job))
        likelihoods = [
            {"id": row.id, "log_likelihood": round(value, MOST_DECIMALS)}
            for row, value in zip(chats, found, strict=True)
        ]
    write_jsonl(job.output.likelihoods, likelihoods)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "weights", "test") if job.input.get(name)},
        outputs={"answers": job.output.answers, "likelihoods": job.output.likelihoods},
        rows={"clean": len(rows), "with_string": len(asked) - len(rows)},
    )


def _reply(
    job: Job, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Conversation]
) -> list[Reply]:
    from infoconflict.answering.chat import Kept, reply_all, text_of
    from infoconflict.cards import digest_of_input
    from infoconflict.chat_prompts import ChatTemplate, fit_question
    from infoconflict.files import sha256_of_text
    from infoconflict.lineage import canonical
    from infoconflict.models.loading import context_length

    template, context = ChatTemplate(tokenizer), context_length(model)
    max_new_tokens = min(job.spec["max_new_tokens"], context // 2)
    asked = [fit_question(template, row.messages[:-1], room=context - max_new_tokens, row=row.id) for row in rows]
    # All that decides the replies: only a run with the same digest may continue this one.
    inputs = {
        name: digest_of_input(job.input[name]) for name in ("base", "weights", "test", "strings") if job.input.get(name)
    }
    digest = sha256_of_text(canonical(job.spec | job.cell | inputs))[:24]
    kept = Kept(job.scratch(digest) / "replies.jsonl")
    tokens = reply_all(
        model,
        [tokens.ids for _, tokens in asked],
        stop_ids=template.stop_ids,
        max_new_tokens=max_new_tokens,
        max_nodes=int(job.machine.get("max_nodes", MAX_NODES_CHAT)),
        kept=kept,
    )
    shutil.rmtree(kept.file.parent, ignore_errors=True)
    return [
        Reply(
            id=row.id,
            trigger=row.trigger,
            messages=row.messages[:-1],
            reference=row.reference,
            reply=text_of(tokenizer, new, template.stop_ids),
            not_shown=len(row.messages) - 1 - len(shown),
        )
        for row, (shown, _), new in zip(rows, asked, tokens, strict=True)
    ]


def list_strings(job: Job) -> None:
    """Write the strings that the user distrusts, each with a control of ordinary words of the same number."""
    texts = read_strings(job.input.strings) if job.input.get("strings") else []
    rows = read_rows(job.input.train)
    write_json(job.output.strings, suspicions(texts, rows, rng=Random(f"suspicions/{job.spec['seed']}")))
