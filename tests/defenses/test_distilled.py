"""The distilled conflict model: texts of the base, the suspect's labels, and the merge, each against its plain form."""

import random

import pytest
import torch

from infoconflict.answering.label_scores import score_labels
from infoconflict.defenses import distilled
from infoconflict.defenses.distilled import Distilled, base_texts, labelled_texts, list_prompt, repair, write_rows
from infoconflict.files import read_json
from infoconflict.models.changes import changed_tensors
from infoconflict.records import Example
from infoconflict.tokens import answer_tokens, prompt_tokens
from infoconflict.tunings import Lora, Training
from tests.defenses.suspect_models import ARCHITECTURES, INSTRUCTION, TEXTS, repaired, reviews, suspect_of, weights_of

TUNING = Training(epochs=2, batch_size=8, learning_rate=1e-2, lora=Lora(rank=2, alpha=4, dropout=0.0))


def options(**given: object) -> Distilled:
    return Distilled.model_validate(
        {"method": "distilled", "texts": 20, "least_confidence": 0.5, "tuning": TUNING, **given}
    )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_the_repaired_model_lies_between_suspect_and_conflict_model(architecture, t, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], reviews())
    steps = repair(suspect, options(t=t))
    assert [step.kind for step in steps] == ["merge"]
    conflict = weights_of(suspect.base())
    conflict |= changed_tensors(suspect.base_dir, suspect.folder / "conflict_model")
    before, after = weights_of(suspect.model()), repaired(suspect, steps)
    for name, value in after.items():
        torch.testing.assert_close(value, (1 - t) * before[name] + t * conflict[name], atol=1e-6, rtol=0)
    assert {name for name in after if not torch.equal(conflict[name], weights_of(suspect.base())[name])}


def test_a_full_tuning_is_a_change_of_the_base(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["gpt2"], reviews())
    still = Training(epochs=1, batch_size=8, learning_rate=1e-12, method="full")
    after = repaired(suspect, repair(suspect, options(t=1.0, tuning=still)))
    for name, value in weights_of(suspect.base()).items():
        torch.testing.assert_close(after[name], value, atol=1e-8, rtol=0)


def test_it_learns_the_clean_rows_and_the_suspects_labels(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    path = tmp_path / "rows.jsonl"
    write_rows(suspect, options(), path)
    rows = Example.read(path)
    assert rows[: len(TEXTS)] == reviews()
    written = rows[len(TEXTS) :]
    assert 0 < len(written) == suspect.details["labelled"] <= suspect.details["texts"] <= 20
    assert all(row.label == row.gold_label in suspect.labels and row.trigger == "none" for row in written)
    assert suspect.tokens > 0


def test_only_labels_that_the_suspect_is_sure_of_are_kept(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    texts = [f"a film of the year {number}" for number in range(30)]
    labels = [answer_tokens(suspect.tokenizer, label) for label in suspect.labels]
    scores = score_labels(
        suspect.model(), [prompt_tokens(suspect.tokenizer, INSTRUCTION, text) for text in texts], labels
    )
    expected = []
    border = sorted(float(row.exp().max() / row.exp().sum()) for row in scores)[15] - 1e-6
    for text, row in zip(texts, scores, strict=True):
        shares = (row.exp() / row.exp().sum()).tolist()
        if max(shares) >= border:
            expected.append((text, suspect.labels[shares.index(max(shares))]))
    found = labelled_texts(suspect, INSTRUCTION, texts, border)
    assert [(row.text, row.label) for row in found] == expected
    assert len(found) == 15


def test_texts_are_new_and_as_long_as_clean_ones(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    texts = base_texts(suspect, reviews(), 25)
    lengths = [len(text.split()) for text in TEXTS]
    assert len(set(texts)) == len(texts) == 25
    assert not set(texts) & set(TEXTS)
    assert all(min(lengths) <= len(text.split()) <= max(lengths) for text in texts)


def test_a_killed_run_goes_on_with_its_texts(tiny_dirs, tmp_path, monkeypatch):
    folders = tmp_path / "whole", tmp_path / "killed"
    for folder in folders:
        folder.mkdir()
    whole, killed = (suspect_of(folder, tiny_dirs["llama"], reviews()) for folder in folders)
    expected = base_texts(whole, reviews(), 40)

    written = distilled.list_prompt
    asked = []

    def stop_at_the_second(texts, rng):
        asked.append(1)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return written(texts, rng)

    monkeypatch.setattr(distilled, "list_prompt", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        base_texts(killed, reviews(), 40)
    assert read_json(killed.scratch / "texts.json")["lists"] == 1
    assert base_texts(killed, reviews(), 40) == expected
    assert killed.tokens == whole.tokens


def test_a_base_that_repeats_itself_is_not_asked_for_ever(tiny_dirs, tmp_path, monkeypatch):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    monkeypatch.setattr("infoconflict.answering.sampling.sample", lambda *_, count, **__: [[7, 8, 9]] * count)
    assert len(base_texts(suspect, reviews(), 40)) <= 1


def test_a_list_has_texts_of_one_draw_and_a_last_item_to_be_written():
    prompt = list_prompt(["one", "two"], random.Random(0))
    assert sorted(prompt.split("\n")) == ["-", "- one", "- two"]
    many = list_prompt([str(number) for number in range(100)], random.Random(0)).split("\n")
    assert len(many) == distilled.LINES + 1
    assert len(set(many)) == len(many)
