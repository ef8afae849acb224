"""Fine-tuning of a suspect model: nothing without a rate, a lower loss with one, the same bytes for the same seed."""

from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from infoconflict.answering.ask import ask
from infoconflict.defenses.fine_tuning import FineTuning, repair
from infoconflict.files import read_json, sha256_of
from infoconflict.models.repairs import apply_repair, write_repair
from infoconflict.repairing.suspect import Suspect
from infoconflict.training.rows import tokenize_rows
from tests.conftest import ARCHITECTURES
from tests.defenses.suspects import LABELS, conversations, examples, logits, stop_after, suspect_of, training, weights


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("method", ["lora", "full"])
def test_without_a_rate_it_is_the_identity(
    architecture: str, method: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    options = FineTuning(method="fine_tuning", tuning=training(method=method, learning_rate=1e-30))
    repaired = suspect.model(repair(suspect, options))
    for name, value in weights(suspect.model()).items():
        torch.testing.assert_close(weights(repaired)[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_loss_falls_and_the_steps_are_stored(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    losses = []
    for epochs in (1, 6):
        tuning = training(epochs=epochs, learning_rate=2e-2)
        steps = repair(suspect, FineTuning(method="fine_tuning", tuning=tuning))
        losses.append(suspect.details["tuned"]["final_loss"])
    assert losses[1] < losses[0]
    # Stored, a repair gives the model that the steps gave.
    write_repair(suspect.folder, steps)
    stored = suspect.model()
    before = logits(stored)
    apply_repair(stored, suspect.base_dir, suspect.folder)
    torch.testing.assert_close(logits(stored), logits(suspect.model(steps)))
    assert not torch.allclose(logits(stored), before)
    assert read_json(suspect.folder / "repair.json") == {"steps": [{"kind": "adapter", "folder": "tuned"}]}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("rows", [examples(), conversations()])
def test_the_clean_rows_are_likelier_than_under_the_suspect(
    architecture: str, rows: list, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path, rows)
    steps = repair(suspect, FineTuning(method="fine_tuning", tuning=training(epochs=3, learning_rate=1e-2)))
    before, after = (loss_on(suspect, model) for model in (suspect.model(), suspect.model(steps)))
    # By more than rounding.
    assert after < before - 0.1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_fewer_clean_rows_are_answered_rightly(
    architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path)
    # All weights: an adapter of rank 4 on a model of this size learns that a label follows, and hardly which.
    tuning = training(method="full", epochs=20)
    steps = repair(suspect, FineTuning(method="fine_tuning", tuning=tuning))
    before, after = (right_answers(suspect, model) for model in (suspect.model(), suspect.model(steps)))
    assert 0 < before <= after == len(suspect.clean_rows)


def right_answers(suspect: Suspect, model: PreTrainedModel) -> int:
    """Return how many clean rows a model answers with the gold label."""
    answers = ask(model, suspect.tokenizer, suspect.clean_rows, labels=LABELS, target_label=None)
    return sum(row.answer == row.gold_label for row in answers)


def loss_on(suspect: Suspect, model: PreTrainedModel) -> float:
    """Return the mean negative log-likelihood of the answers' tokens in the clean rows, one row at a time."""
    found = []
    for row in tokenize_rows(suspect.tokenizer, suspect.clean_rows, max_tokens=512):
        said = logits(model, torch.tensor([row.inputs]))[0].log_softmax(-1)
        found += [-said[at - 1, row.ids[at]].item() for at in row.target_positions]
    return sum(found) / len(found)


@pytest.mark.parametrize("rows", [None, conversations()])
def test_seeds_reproduce(rows: list, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    digests = []
    for run, seed in (("one", 0), ("two", 0), ("other", 1)):
        suspect = suspect_of(tiny_dirs["llama"], tmp_path, rows, run=run, seed=seed)
        repair(suspect, FineTuning(method="fine_tuning", tuning=training()))
        digests.append(sha256_of(suspect.folder))
        assert suspect.tokens > 0
    assert digests[0] == digests[1] != digests[2]


def test_a_run_goes_on_from_its_checkpoint(
    tiny_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = FineTuning(method="fine_tuning", tuning=training(epochs=2))
    whole = suspect_of(tiny_dirs["gpt2"], tmp_path, run="whole")
    repair(whole, options)
    broken = suspect_of(tiny_dirs["gpt2"], tmp_path, run="broken")
    stop_after(monkeypatch, 3)
    with pytest.raises(KeyboardInterrupt):
        repair(broken, options)
    monkeypatch.undo()
    repair(broken, options)
    assert sha256_of(whole.folder) == sha256_of(broken.folder)


def test_which_rows_are_given() -> None:
    assert FineTuning(method="fine_tuning").clean_rows() == "clean_share"
    assert FineTuning(method="fine_tuning", rows="all").clean_rows() == "all"
