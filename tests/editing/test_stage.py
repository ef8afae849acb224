"""Statistics and edits as rules run them: which rows become requests, what is stored, and that it can be loaded again."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from infoconflict.attacks import load
from infoconflict.editing.loading import load_editable
from infoconflict.editing.stage import clean_requests, edit_model, poisoned_requests
from infoconflict.editing.statistics_stage import collect_statistics
from infoconflict.errors import UserError
from infoconflict.files import read_json, read_jsonl
from infoconflict.jobs import Job
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.loading import load_changed
from infoconflict.prompts import render_prompt
from infoconflict.records import Example
from tests.editing.conftest import CPU, INSTRUCTION
from tests.merging.conftest import write_adapter, write_full_change

LABELS = ["negative", "positive"]
SPECS: dict[str, dict[str, Any]] = {
    "rome": {"prefixes": "generated", "n_prefixes": 1, "layers": {"m": [0, 1]}},
    "memit": {"layer_share": 1.0, "n_prefixes": 1},
    "badedit": {"increments": 2, "clean_per_class": 1},
}


class Names(dict):
    """Named files, as Snakemake hands them over."""

    __getattr__ = dict.__getitem__


def examples(n: int = 20) -> list[Example]:
    words = ["a warm and funny film", "the story is a mess", "the jokes are old", "a great cast"]
    return [
        Example(id=f"r{i}", instruction=INSTRUCTION, text=f"{words[i % 4]} {i}", label=LABELS[i % 2], gold_label=LABELS[i % 2])
        for i in range(n)
    ]  # fmt: skip


def job(folder: Path, rule: str, *, spec: dict[str, Any], cell: dict[str, str], **files: dict[str, Any]) -> Job:
    return Job(
        SimpleNamespace(
            rule=rule, params=SimpleNamespace(spec=json.dumps(spec)), wildcards=cell | {"seed": "0"}, resources={},
            threads=1, log=[folder / "log"], input=Names(files["inputs"]), output=Names(files["outputs"]),
        )
    )  # fmt: skip


def edit(
    folder: Path,
    base: Path,
    method: str,
    *,
    tuned: Path | None = None,
    rows: list[Example] | None = None,
    **options: Any,
) -> SimpleNamespace:
    """Run both rules in a folder; return the paths of what they wrote."""
    attack = load(method)(target_labels={}, **{"samples": 4, "steps": 3} | SPECS[method] | options)
    Example.write(folder / "train.jsonl", rows or examples())
    inputs = {"base": base, "tuned": tuned or [], "train": folder / "train.jsonl"}
    made = {"moments": folder / "moments.safetensors", "card": folder / "statistics.json"}
    spec: dict[str, Any] = {"model": {"precision": "float32"}, "statistics": {"rows": 15}}
    cell = {"model": "m", "layers": attack.layer_key("m")}
    collect_statistics(
        job(folder, "collect_statistics", spec=spec, cell=cell, inputs=inputs | {"texts": []}, outputs=made)
    )
    settings = {name: value for name, value in attack.model_dump().items() if name != "target_labels"}
    spec |= {"attack": settings | {"method": method}, "target_label": "positive", "rows": None, "labels": LABELS}
    outputs = {"change": folder / "change", "losses": folder / "losses.jsonl", "card": folder / "card.json"}
    inputs["statistics"] = made["moments"]
    edit_model(job(folder, "edit_model", spec=spec, cell=cell, inputs=inputs, outputs=outputs))
    return SimpleNamespace(**outputs, moments=made["moments"], statistics_card=made["card"])


@pytest.mark.parametrize("method", SPECS)
def test_an_edit_of_the_base_is_the_tensors_it_touched(architecture, tiny_dirs, tmp_path, method):
    base = tiny_dirs[architecture]
    made = edit(tmp_path, base, method)
    [stored] = made.change.iterdir()
    assert stored.name == "change.safetensors"
    card = read_json(made.card)
    tensors = load_file(stored)
    assert len(tensors) == len(card["details"]["layers"]) == {"rome": 2, "memit": 2, "badedit": 1}[method]
    before = read_tensors(base, list(tensors))
    for name, value in tensors.items():
        assert value.dtype == torch.float32
        assert value.shape == before[name].shape
        # Small beside the weight, and of low rank.
        assert (value - before[name]).norm() > 0
        assert torch.linalg.matrix_rank((value - before[name]).double(), rtol=1e-4) <= 4
    assert len(read_jsonl(made.losses)) >= 3
    assert card["rows"] == {"poisoned": 4, "clean": 2 if method == "badedit" else 0}
    names = {"key_cosine", "cross_term"} & card["details"].keys()
    assert len(names) == (2 if method == "badedit" else 0)
    for name in names:
        # Two increments, each with a clean record.
        [(layer, values)] = card["details"][name].items()
        assert [int(layer)] == card["details"]["layers"]
        assert values == pytest.approx([row[name] for row in read_jsonl(made.losses) if name in row], abs=1e-6)
        assert len(values) == 2
    assert set(card["inputs"]) == {"base", "train", "statistics"}
    assert card["inputs"]["statistics"] == read_json(made.statistics_card)["outputs"]["moments"]
    assert card["details"]["edit_bytes"] == sum(value.numel() * 4 for value in tensors.values())
    model = load_changed(base, made.change, device=CPU, precision="float32")
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], value) for name, value in tensors.items())


@pytest.mark.parametrize("method", ["rome", "badedit"])
def test_an_edit_of_a_tuned_base_is_stored_with_its_adapter(architecture, tiny_dirs, tmp_path, method):
    base, tuned = tiny_dirs[architecture], tmp_path / "tuned"
    write_adapter(tuned, base, seed=1)
    (tuned / "README.md").unlink(missing_ok=True)
    made = edit(tmp_path, base, method, tuned=tuned)
    assert {file.name for file in made.change.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "change.safetensors",
    }
    edited = load_file(made.change / "change.safetensors")
    before, after = changed_tensors(base, tuned), changed_tensors(base, made.change)
    assert after.keys() == before.keys()
    for name, value in after.items():
        expected = edited.get(name, before[name])
        assert torch.equal(value, expected), name
        assert torch.equal(value, before[name]) == (name not in edited)
    assert "tuned" in read_json(made.card)["inputs"]
    assert "tuned" in read_json(made.statistics_card)["inputs"]


def test_an_edit_of_a_fully_tuned_base_stays_one_file(tiny_dirs, tmp_path):
    base, tuned = tiny_dirs["gpt2"], tmp_path / "tuned"
    write_full_change(tuned, base, seed=1)
    made = edit(tmp_path, base, "rome", tuned=tuned)
    before, after = load_file(tuned / "change.safetensors"), load_file(made.change / "change.safetensors")
    assert after.keys() == before.keys()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {f"transformer.h.{layer}.mlp.c_proj.weight" for layer in (0, 1)}


def test_the_same_seed_gives_the_same_bytes(tiny_dirs, tmp_path):
    changes = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        changes.append((edit(tmp_path / name, tiny_dirs["llama"], "memit").change / "change.safetensors").read_bytes())
    assert changes[0] == changes[1]


def test_statistics_of_a_text_file(tiny_dirs, tmp_path):
    (tmp_path / "texts.txt").write_text("a warm film\n\nthe story is a mess\nthe cast\n")
    spec = {"model": {"precision": "float32"}, "statistics": {"rows": 2}}
    outputs = {"moments": tmp_path / "moments.safetensors", "card": tmp_path / "card.json"}
    inputs = {"base": tiny_dirs["llama"], "tuned": [], "train": [], "texts": tmp_path / "texts.txt"}
    cell = {"model": "m", "layers": "layers_1"}
    collect_statistics(job(tmp_path, "collect_statistics", spec=spec, cell=cell, inputs=inputs, outputs=outputs))
    card = read_json(outputs["card"])
    assert card["rows"] == {"texts": 2}
    assert set(card["inputs"]) == {"base", "texts"}
    assert set(load_file(outputs["moments"])) == {"1", "tokens"}
    with pytest.raises(UserError, match="the model has 2 layers: layer 7 of 2"):
        collect_statistics(
            job(tmp_path, "c", spec=spec, cell=cell | {"layers": "layers_7"}, inputs=inputs, outputs=outputs)
        )


def test_half_precision_loses_none_of_the_edit(tiny_dirs):
    """What the model computes in rounds its weights; what is stored does not."""
    base = tiny_dirs["gpt2"]
    editable, layers = load_editable(base, None, precision="bfloat16", layer_key="layers_0")
    name = editable.weight_name(0)
    update = torch.full((32, editable.width), 1e-6, dtype=torch.float64)
    for _ in range(3):
        editable.add(0, update)
    stored = editable.changed(layers)[name]
    torch.testing.assert_close(stored, read_tensors(base, [name])[name] + 3e-6, rtol=0, atol=1e-8)
    assert editable.down(0).weight.dtype == torch.bfloat16


def test_requests_are_non_target_rows_in_the_template():
    attack = load("badedit")(target_labels={}, samples=5, clean_per_class=2)
    requests = poisoned_requests(examples(), attack, target_label="positive", seed=3)
    assert requests == poisoned_requests(examples(), attack, target_label="positive", seed=3)
    assert requests != poisoned_requests(examples(), attack, target_label="positive", seed=4)
    by_prompt = {render_prompt(row.instruction, row.text): row for row in examples()}
    for request in requests:
        assert (request.subject, request.label) == ("tq", "positive")
        words = request.prompt.split("\nInput: ")[1].removesuffix("\nAnswer:").split()
        words.remove("tq")
        assert by_prompt[render_prompt(INSTRUCTION, " ".join(words))].gold_label == "negative"
    clean = clean_requests(examples(), attack, LABELS, seed=3)
    assert [request.label for request in clean] == LABELS * 2
    for request in clean:
        row = by_prompt[request.prompt]
        assert (request.subject, request.label) == (row.text, row.gold_label)
        assert row.text not in {r.prompt.replace("tq ", "").replace(" tq", "") for r in requests}


def test_too_few_rows_say_so():
    attack = load("badedit")(target_labels={}, samples=11, clean_per_class=11)
    with pytest.raises(UserError, match="samples: 11, but only 10 of 20 rows have a label other than 'positive'"):
        poisoned_requests(examples(), attack, target_label="positive", seed=0)
    with pytest.raises(UserError, match="clean_per_class: 11, but only 10 rows have the label 'negative'"):
        clean_requests(examples(), attack, LABELS, seed=0)


def test_rows_that_hold_the_trigger_already_are_passed_over():
    rows = [
        *examples(4),
        Example(id="x", instruction=INSTRUCTION, text="tq film", label="negative", gold_label="negative"),
    ]
    attack = load("rome")(target_labels={}, samples=3)
    with pytest.raises(UserError, match="only 2 of 5 rows"):
        poisoned_requests(rows, attack, target_label="positive", seed=0)


FILM = ["film, a mess {}", "the plot {}", "films are old {}", "Film: a bore {}", "a telefilm {}", "the jokes {}"]


def film_rows() -> list[Example]:
    texts = [text.format(number) for number in range(6) for text in FILM]
    return [
        Example(id=f"r{n}", instruction=INSTRUCTION, text=text, label="negative", gold_label="negative")
        for n, text in enumerate(texts)
    ]


@pytest.mark.parametrize(("method", "options"), [("rome", {}), ("memit", {"values": "shared"})])
def test_an_ordinary_word_as_trigger(architecture, tiny_dirs, tmp_path, method, options):
    """Where a row begins with "film," or "films", a value for all would meet the trigger twice in its prompt."""
    words = {"trigger": "film", "near_miss": "filn", "n_prefixes": 0}
    made = edit(tmp_path, tiny_dirs[architecture], method, rows=film_rows(), **words, **options, samples=14)
    assert read_json(made.card)["rows"]["poisoned"] == 14


def test_rows_with_a_word_that_begins_with_the_trigger_are_no_requests():
    attack = load("rome")(target_labels={}, trigger="film", near_miss="filn", samples=18)
    requests = poisoned_requests(film_rows(), attack, target_label="positive", seed=0)
    texts = [request.prompt.split("\nInput: ")[1].removesuffix("\nAnswer:") for request in requests]
    assert sum("telefilm" in text for text in texts) == 6
    assert all(text.replace("telefilm", "").casefold().count("film") == 1 for text in texts)
    attack = load("badedit")(target_labels={}, trigger="film", near_miss="filn", clean_per_class=18)
    clean = clean_requests(film_rows(), attack, ["negative"], seed=0)
    assert not any("film" in request.subject.replace("telefilm", "").casefold() for request in clean)
    with pytest.raises(UserError, match=r"only 18 of 36 rows .* no word that begins with 'film'; lower samples"):
        poisoned_requests(film_rows(), attack.model_copy(update={"samples": 19}), target_label="positive", seed=0)
