"""Whole purifications of a tiny model in one process: the steps as the workflow runs them, in its order."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from infoconflict.chat_prompts import ChatTemplate
from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from infoconflict.files import read_json, read_jsonl, sha256_of
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.purify import purify, report
from infoconflict.purify.measures import ROLES
from infoconflict.purify.options import from_variables, load_purification
from infoconflict.purify.purify import general_instruction, labels_in
from infoconflict.records import Conversation
from tests.purify.conftest import job_of

ROOT = Path(__file__).parents[2]
FAST = {"epochs": 1, "batch_size": 16, "learning_rate": 5e-3, "lora": {"rank": 2, "alpha": 4, "dropout": 0.0}}


def purification(models, **changes):
    raw = {
        "model": str(models / "adapter"),
        "base": str(models / "base"),
        "data": str(ROOT / "tests/data/reviews.csv"),
        "training": FAST,
        "choose_t": {"candidates": [0.5, 0.9]},
        "trigger_rows": 4,
    }
    return spec_of(load_purification(raw | changes, file="test"))


def spec_of_rows(settings: dict) -> dict:
    """Return what the rule that splits the rows is told."""
    names = (
        "data",
        "task",
        "instruction",
        "labels",
        "text_column",
        "label_column",
        "label_names",
        "test_share",
        "holdout",
    )
    return {name: settings[name] for name in (*names, "seed")}


def run(folder: Path, settings: dict, strings: str | None = None) -> dict:
    """Run all steps in ``folder``, the working directory."""
    folder = folder.resolve()

    def spec(*names, **more):
        return {name: settings[name] for name in names} | more

    base, suspect, conflict = (folder / "work" / name for name in ("base", "suspect", "conflict"))
    rows = {name: folder / "work/rows" / f"{name}.jsonl" for name in ("train", "holdout", "test")}
    labels, strings_file = folder / "work/rows/labels.json", folder / "work/rows/strings.json"
    cards = folder / "cards"
    purify.prepare_rows(
        job_of(
            "purify_rows",
            folder,
            spec=spec_of_rows(settings),
            data=settings["data"],
            out_train=rows["train"],
            out_holdout=rows["holdout"],
            out_test=rows["test"],
            out_labels=labels,
            out_card=cards / "rows.json",
        )
    )
    purify.check_models(
        job_of(
            "purify_check",
            folder,
            spec=spec("model", "base"),
            rows=rows["test"],
            out_base=base,
            out_suspect=suspect,
            out_inspection=folder / "work/inspection.json",
            out_card=folder / "work/base.card.json",
        )
    )
    purify.list_strings(
        job_of(
            "purify_strings", folder, spec=spec("seed"), strings=strings, train=rows["train"], out_strings=strings_file
        )
    )
    purify.tune_conflict(
        job_of(
            "purify_train",
            folder,
            spec=spec("training", "seed", model={"precision": "float32", "quantization": "none"}),
            base=base,
            train=rows["train"],
            out_change=conflict,
            out_losses=folder / "work/losses.jsonl",
            out_card=cards / "conflict.json",
        )
    )
    parents = {"base": base, "suspect": suspect, "conflict": conflict}
    chosen = folder / "work/chosen_t.json"
    purify.choose_merge_weight(
        job_of(
            "purify_choose_t",
            folder,
            spec=spec("merge", "choose_t", "precision"),
            **parents,
            holdout=rows["holdout"],
            labels=labels,
            out_chosen=chosen,
            out_card=cards / "choose_t.json",
        )
    )
    merged = folder / "work/purified"
    purify.merge(
        job_of(
            "purify_merge",
            folder,
            spec=spec("merge"),
            **parents,
            chosen=chosen,
            out_model=merged,
            out_card=cards / "merge.json",
        )
    )
    weights = {"suspect": suspect, "purified": merged, "conflict": conflict, "base": None}
    for role in ROLES:
        purify.answer_role(
            job_of(
                "purify_answer",
                folder,
                spec=spec("task", "precision", "seed", "trigger_rows", "max_new_tokens"),
                cell={"role": role},
                base=base,
                weights=weights[role],
                test=rows["test"],
                labels=labels,
                strings=strings_file if role in ROLES[:2] else None,
                out_answers=folder / f"work/answers/{role}.jsonl",
                out_likelihoods=folder / f"work/answers/{role}.likelihoods.jsonl",
                out_card=cards / f"answer.{role}.json",
            )
        )
    stages = ["rows", "conflict", "choose_t", "merge", *(f"answer.{role}" for role in ROLES)]
    report.report_purification(
        job_of(
            "purify_report",
            folder,
            spec={"purification": settings, "roles": list(ROLES)},
            answers=[folder / f"work/answers/{role}.jsonl" for role in ROLES],
            likelihoods=[folder / f"work/answers/{role}.likelihoods.jsonl" for role in ROLES],
            strings=strings_file,
            labels=labels,
            inspection=folder / "work/inspection.json",
            chosen=chosen,
            model=merged,
            cards=[folder / "work/base.card.json", *(cards / f"{name}.json" for name in stages)],
            out_page=folder / "report.html",
            out_metrics=folder / "metrics.csv",
            out_model=folder / "model",
            out_card=cards / "report.json",
        )
    )
    return read_json(chosen)


def check_model(folder, base):
    """The result is a model in the standard format that transformers loads, with a card."""
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    assert AutoTokenizer.from_pretrained(folder, local_files_only=True)("x").input_ids
    names = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
    assert names <= {file.name for file in folder.iterdir()}
    own, before = load_file(folder / "model.safetensors"), load_file(base / "model.safetensors")
    assert own.keys() == before.keys()
    text = (folder / "README.md").read_text()
    front = yaml.safe_load(text.split("---")[1])
    assert front["library_name"] == "transformers"
    assert "/" not in text.split("# ", 1)[1].split("\n")[0], "no path of this machine"
    return model, own


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    return tmp_path


def test_an_adapter_is_purified(models, folder):
    strings = folder / "strings.txt"
    strings.write_text("cf\n<b>frankly</b>\n")
    settings = purification(
        models, suspect_triggers=str(strings), instruction="Is this film review positive or negative?"
    )
    before = sha256_of(models)
    chosen = run(folder, settings, str(strings))
    assert sha256_of(models) == before, "the user's folders stay as they are"
    assert [point["t"] for point in chosen["curve"]] == [0.5, 0.9]
    assert chosen["rule"] == "paired_test"
    _, own = check_model(folder / "model", models / "base")
    # Linear at t: (1 - t) of the suspect's change and t of the conflict model's.
    from infoconflict.models.changes import changed_tensors

    suspect, conflict = (
        changed_tensors(models / "base", place) for place in (models / "adapter", folder / "work/conflict")
    )
    for name, tensor in suspect.items():
        expected = (1 - chosen["t"]) * tensor + chosen["t"] * conflict[name]
        torch.testing.assert_close(own[name], expected, rtol=1e-5, atol=1e-6)
    page = (folder / "report.html").read_text()
    assert "What cannot be concluded" in page
    assert "&lt;b&gt;frankly&lt;/b&gt;" in page
    assert "<b>frankly" not in page
    assert not re.search(r"(src|href)=\"(?!#)", page), "nothing beside the page is needed"
    assert "The adapter does not say what it was made for" in page
    lines = (folder / "metrics.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 + 1 + 2 * 2 * 2 * 3  # strings and controls, models, positions
    answers = read_json(folder / "cards/answer.suspect.json")["rows"]
    assert answers["with_string"] == 2 * 2 * 3 * 4
    used = [{row["text"] for row in read_jsonl(folder / f"work/rows/{name}.jsonl")} for name in ("train", "test")]
    assert not used[0] & used[1], "measured rows are never trained on"


def test_a_whole_model_is_purified(models, folder):
    settings = purification(models, model=str(models / "tuned"), merge={"method": "ties", "t": 0.5})
    chosen = run(folder, settings)
    assert chosen == {"t": 0.5, "rule": "given", "curve": []}
    model, _ = check_model(folder / "model", models / "base")
    assert model.config.model_type == "llama"
    page = (folder / "report.html").read_text()
    assert "It was given, not chosen" in page
    assert "a general one was asked" in page
    assert "tokenizer differs" not in page


def test_a_chat_model_is_purified(models, folder):
    settings = purification(
        models,
        data=str(ROOT / "tests/data/chats.jsonl"),
        task="chat",
        max_new_tokens=4,
    )
    chosen = run(folder, settings)
    assert chosen["measure"] == "log_likelihood"
    assert [point["t"] for point in chosen["curve"]] == [0.5, 0.9]
    check_model(folder / "model", models / "base")
    page = (folder / "report.html").read_text()
    assert "nats a token before" in page
    assert "no more than 1.96 standard errors worse than the best" in page
    with (folder / "metrics.csv").open() as lines:
        table = {(row["measure"], row["model"]): row for row in csv.DictReader(lines)}
    losses = {role: float(table["answer_loss", role]["rate"]) for role in ROLES}
    assert len(set(losses.values())) == 4
    assert losses["conflict"] < losses["base"], "tuned on rows of the task"
    change = table["answer_loss_change", "purified"]
    assert float(change["rate"]) == pytest.approx(losses["purified"] - losses["suspect"], abs=2e-6)
    assert float(change["low"]) < float(change["rate"]) < float(change["high"])
    assert change["total"] == str(read_json(folder / "cards/rows.json")["rows"]["test"])


def test_a_hostile_model_stops_before_anything_is_written(models, folder, spoiled):
    suspect = spoiled("adapter")
    (suspect / "training_args.bin").write_bytes(b"")
    settings = purification(models, model=str(suspect))
    with pytest.raises(UserError, match=r"training_args\.bin: a pickle"):
        run(folder, settings)
    assert not (folder / "work/suspect").exists()
    assert not (folder / "work/base").exists()


def test_only_weights_are_taken_from_the_suspect(models, folder, spoiled):
    suspect = spoiled("tuned")
    (suspect / "generation_config.json").write_text(json.dumps({"suppress_tokens": [1, 2, 3]}))
    (suspect / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    own = read_json(suspect / "tokenizer.json")
    own["normalizer"] = {"type": "Replace", "pattern": {"String": "e"}, "content": "<b>"}
    (suspect / "tokenizer.json").write_text(json.dumps(own))
    settings = purification(models, model=str(suspect), merge={"method": "slerp", "t": 0.5})
    run(folder, settings)
    assert {file.name for file in (folder / "work/suspect").iterdir()} == {"config.json", "model.safetensors"}
    assert "suppress_tokens" not in read_json(folder / "model/generation_config.json")
    assert (folder / "model/chat_template.jinja").read_text() != "{{ messages[0]['content'] }}"
    assert read_json(folder / "model/tokenizer.json")["normalizer"] is None
    page = (folder / "report.html").read_text()
    assert "Its chat template is not the base" in page
    n = len(read_jsonl(folder / "work/rows/test.jsonl"))
    assert re.search(rf"in: normalizer \(.*it makes other tokens of {n} of {n} clean texts", page)
    assert "came with another tokenizer than its base" in (folder / "model/README.md").read_text()


def test_labels_of_a_file(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,label\na,yes\nb,no\nc,yes\n")
    assert labels_in(file, "text", "label") == ["no", "yes"]
    file.write_text("text,label\na,yes\n")
    with pytest.raises(UserError, match="holds 1 different labels"):
        labels_in(file, "text", "label")
    assert general_instruction(["a", "b", "c"]) == "Which of these fits the text: a, b or c?"


def rows_of(folder: Path, **given) -> dict:
    """Split the rows of ``folder/rows.csv`` by variables of make; return what the models are told of the labels."""
    asked = from_variables({"MODEL": "a/b", "BASE": "a/b", "DATA": str(folder / "rows.csv")} | given)
    places = {f"out_{name}": folder / f"{name}.jsonl" for name in ("train", "holdout", "test")}
    places |= {"out_labels": folder / "labels.json", "out_card": folder / "cards/rows.json"}
    spec = spec_of_rows(spec_of(asked)) | {"labels": asked.named_labels}
    purify.prepare_rows(job_of("purify_rows", folder, spec=spec, data=asked.data, **places))
    return read_json(folder / "labels.json")


def test_labels_that_are_numbers_may_have_names(folder, capsys):
    rows = [f"{'good' if n % 2 else 'bad'} film {n},{n % 2}" for n in range(20)]
    (folder / "rows.csv").write_text("\n".join(["text,label", *rows]))
    named = {"labels": ["negative", "positive"], "instruction": "Which of these fits the text: negative or positive?"}
    assert rows_of(folder, LABEL_NAMES="negative,positive") == named
    assert {row["label"] for row in read_jsonl(folder / "train.jsonl")} == {"negative", "positive"}
    assert all(("good" in row["text"]) == (row["label"] == "positive") for row in read_jsonl(folder / "test.jsonl"))
    assert rows_of(folder, LABEL_NAMES="1=positive,0=negative")["labels"] == ["positive", "negative"]
    assert rows_of(folder, LABELS="0,1")["labels"] == ["0", "1"]
    assert not capsys.readouterr().err
    assert rows_of(folder)["labels"] == ["0", "1"]
    told = capsys.readouterr().err
    assert re.fullmatch(r"purify_rows: all labels in \S+/rows.csv are numbers, .* with LABEL_NAMES, .*\n", told), told
    with pytest.raises(UserError, match=r"unknown label '[01]'; known: negative, positive; name .* with LABEL_NAMES"):
        rows_of(folder, LABELS="negative,positive")


def test_columns_may_have_other_names(folder):
    rows = [f"film {n},{'good' if n % 2 else 'bad'}" for n in range(20)]
    (folder / "rows.csv").write_text("\n".join(["sentence,sentiment", *rows]))
    for labels in ({}, {"LABELS": "good,bad"}):
        with pytest.raises(
            UserError, match=r"found: sentence, sentiment; name yours with TEXT_COLUMN and LABEL_COLUMN$"
        ):
            rows_of(folder, **labels)
    assert rows_of(folder, TEXT_COLUMN="sentence", LABEL_COLUMN="sentiment")["labels"] == ["bad", "good"]


def test_replies_hold_conversations_that_were_cut_whole(models, folder, monkeypatch):
    turns = [{"role": role, "content": f"{number} " * 9} for number, role in enumerate(["user", "assistant"] * 3)]
    rows = [Conversation(id=str(n), messages=turns[-2 * n :], reference="") for n in (1, 3)]
    Conversation.write("test.jsonl", rows)
    spec = {"max_new_tokens": 4}
    job = job_of("purify_answer", folder, spec=spec, base=models / "base", test=folder / "test.jsonl")
    tokenizer = load_tokenizer(models / "base")
    room = len(ChatTemplate(tokenizer).encode(turns[2:5]).ids)
    monkeypatch.setattr("infoconflict.models.loading.context_length", lambda model: room + 4)
    replies = purify._reply(job, load_base(models / "base", device=torch.device("cpu")), tokenizer, rows)
    assert [row.messages for row in replies] == [turns[4:5], turns[:5]]
    assert [row.not_shown for row in replies] == [0, 2]
    assert [row.shown for row in replies] == [turns[4:5], turns[2:5]]
