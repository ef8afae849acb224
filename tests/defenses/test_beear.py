"""BEEAR: where the shift acts, what it is bounded by, that it does what it should, and that rounds can be taken up again."""

from pathlib import Path

import pytest
import torch

from infoconflict.defenses.beear import (
    BEEAR,
    Embattled,
    block_of,
    make_anchors,
    objective,
    repair,
    right_answer,
    shift_of,
    with_answer,
    within,
)
from infoconflict.errors import UserError
from infoconflict.files import sha256_of
from infoconflict.models.loading import load_tokenizer
from infoconflict.repairing.suspect import Suspect
from infoconflict.training.further_losses import frozen, padded, states_of
from infoconflict.training.rows import TokenRow
from infoconflict.training.settings import TrainingSettings, Tuned
from tests.conftest import ARCHITECTURES
from tests.defenses.suspects import LABELS, conversations, examples, logits, stop_after, suspect_of, training, weights

CPU = torch.device("cpu")
SETTINGS = TrainingSettings.from_spec(training().model_dump(mode="json"))


def options(**given: object) -> BEEAR:
    small = {"method": "beear", "anchors": 8, "inner_steps": 6, "inner_batch": 4, "tuning": training(epochs=2)}
    return BEEAR.model_validate(small | given)


def embattled(suspect: Suspect, **given: object) -> Embattled:
    """Return the objective with the suspect model in it."""
    made = objective(
        {
            "base_dir": str(suspect.base_dir),
            "clean_file": str(suspect.clean_file),
            "labels": list(suspect.labels),
            "model_id": "",
            "n_anchors": 8,
            "options": options(**given).model_dump(mode="json", exclude={"tuning"}),
        }
    )
    made.prepare(Tuned(model=suspect.model(), rows=[], settings=SETTINGS, seed=0, max_nodes=200))
    return made


def test_block() -> None:
    assert block_of(options(), "any", 30) == 9
    assert block_of(options(), "any", 2) == 1
    assert block_of(options(layer_share=0.99), "any", 2) == 1
    assert block_of(options(layers={"llama": 5}), "llama", 30) == 5
    with pytest.raises(UserError, match=r"beear: layers\.llama is 5, and the model has blocks 0 to 1"):
        block_of(options(layers={"llama": 5}), "llama", 2)


def test_worked_example_of_a_shift() -> None:
    shift = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    # Prompts of four tokens and of two; the second gets the shift's end.
    rows = [TokenRow(tuple(range(7)), 4), TokenRow(tuple(range(4)), 2)]
    laid = shift_of(shift, rows, padded(rows, CPU))
    assert laid[..., 0].tolist() == [[0, 1, 2, 3, 0, 0], [2, 3, 0, 0, 0, 0]]
    assert torch.equal(laid[..., 0], laid[..., 1])


def test_a_shift_is_kept_within_its_length() -> None:
    shift = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    torch.testing.assert_close(within(shift, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))


@pytest.mark.parametrize("rows", [examples(), conversations()])
def test_anchors(rows: list, tiny_dirs: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(tiny_dirs["llama"])
    candidates = [right_answer(rows[0]), "another answer"]
    made = make_anchors(tokenizer, rows, candidates, max_tokens=512)
    assert list(made.unwanted) == candidates
    # A candidate is tried where it is wrong.
    assert list(made.unwanted[candidates[0]]) == [n for n, row in enumerate(rows) if right_answer(row) != candidates[0]]
    assert len(made.unwanted["another answer"]) == len(rows) == len(made.right)
    for number, row in made.unwanted["another answer"].items():
        right = made.right[number]
        # The same question, and one answer to learn.
        assert row.ids[: row.n_prompt] == right.ids[: right.n_prompt]
        learned = tokenizer.decode([row.ids[at] for at in row.target_positions], skip_special_tokens=True)
        assert learned.strip() == "another answer"
        learned = tokenizer.decode([right.ids[at] for at in right.target_positions], skip_special_tokens=True)
        assert learned.strip() == right_answer(rows[number])
    assert right_answer(with_answer(rows[0], "x")) == "x"
    with pytest.raises(UserError, match="all anchors have the only answer"):
        make_anchors(tokenizer, rows[:1], [right_answer(rows[0])], max_tokens=512)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_shift_no_difference(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    made = embattled(suspect_of(tiny_dirs[architecture], tmp_path))
    rows = made.anchors.right
    shift = torch.zeros((5, 32))
    plain = 0.0
    for row in rows:
        said = logits(made.model, torch.tensor([row.inputs]))[0].log_softmax(-1)
        plain -= sum(said[at - 1, row.ids[at]].item() for at in row.target_positions)
    with torch.no_grad():
        assert sum(part.item() for part, _ in made.shifted(rows, shift)) == pytest.approx(plain, rel=1e-4)
        # A shift of the second block leaves the first one's states.
        kept = []
        # Not the same in all channels: a layer norm would not see that.
        for one in (shift, torch.linspace(-1, 1, 160).reshape(5, 32)):
            with states_of(made.model, [1, 2]) as states:
                loss = sum(part.item() for part, _ in made.shifted(rows[:1], one))
                kept.append((states[1].clone(), states[2].clone(), loss))
    assert made.block == 1
    assert torch.equal(kept[0][0], kept[1][0])
    assert not torch.allclose(kept[0][1], kept[1][1])
    assert kept[0][2] != kept[1][2]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("task", ["labels", "chats"])
def test_the_inner_level_brings_out_what_is_unwanted(
    architecture: str, task: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    suspect = suspect_of(tiny_dirs[architecture], tmp_path, examples() if task == "labels" else conversations())
    made = embattled(suspect, inner_rate=0.3)
    before = {name: value.clone() for name, value in weights(made.model).items()}
    made.entrap(0)
    (found,) = made.rounds
    assert found["inner_loss"] < found["inner_loss_without_shift"]
    assert found["unwanted"] in (LABELS if task == "labels" else BEEAR(method="beear").guesses)
    assert made.shift is not None
    assert made.shift.shape == (5, 32)
    assert not made.shift.requires_grad
    assert (made.shift.norm(dim=1) <= 4.001 * made.mean_length()).all()
    # The model is as it was, and has no gradients.
    for name, parameter in made.model.named_parameters():
        assert torch.equal(parameter, before[name])
        assert parameter.grad is None


def test_the_lowest_inner_loss_wins(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    made = embattled(suspect_of(tiny_dirs["llama"], tmp_path))
    made.entrap(3)
    losses = {}
    with frozen(made.model):
        for candidate in LABELS:
            shift = made.sought(candidate, 3, 4 * made.mean_length())
            with torch.no_grad():
                asked = made.sample(candidate, "round 3")
                losses[candidate] = sum(part.item() for part in made.inner_loss(candidate, asked, shift))
    best = min(losses, key=losses.__getitem__)
    assert made.rounds == [
        {
            "unwanted": best,
            "inner_loss": pytest.approx(losses[best]),
            "inner_loss_without_shift": made.rounds[0]["inner_loss_without_shift"],
        }
    ]


def test_the_clamp_holds_small_shifts(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    made = embattled(suspect_of(tiny_dirs["llama"], tmp_path), clamp=1e-3)
    made.entrap(0)
    assert made.shift is not None
    torch.testing.assert_close(made.shift.norm(dim=1), torch.full((5,), 1e-3 * made.mean_length()))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_outer_loss_and_its_shares(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    made = embattled(suspect_of(tiny_dirs[architecture], tmp_path))
    made.entrap(0)
    assert made.shift is not None
    batch = [5, 0, 7, 2]
    with torch.no_grad():
        whole = sum(part.item() for part, _ in made.parts(batch, batch, 0))
        shared = [made.parts(batch, mine, 0) for mine in (batch[::2], batch[1::2])]
        assert sum(part.item() for parts in shared for part, _ in parts) == pytest.approx(whole, rel=1e-4)
        rows = [made.anchors.right[index] for index in batch]
        under = sum(part.item() for part, _ in made.shifted(rows, made.shift))
        under /= sum(len(row.target_positions) for row in rows)
        # Rows behind the anchors stand beside them, without a shift.
        others = made.others[:4]
        beside = sum(part.item() for part, _ in made.shifted(others, torch.zeros_like(made.shift)))
        beside /= sum(len(row.target_positions) for row in others)
    assert whole == pytest.approx(under + beside, rel=1e-4)
    assert len(made.rounds) == 1


def test_without_a_rate_it_is_the_identity(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    suspect = suspect_of(tiny_dirs["gpt2"], tmp_path)
    steps = repair(suspect, options(inner_weight=0.0, tuning=training(learning_rate=1e-30)))
    assert torch.equal(logits(suspect.model(steps)), logits(suspect.model()))


@pytest.mark.parametrize("task", ["labels", "chats"])
@pytest.mark.parametrize("n_saved", [1, 2, 3])
def test_a_killed_run_goes_on(
    task: str, n_saved: int, tiny_dirs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two rounds of two updates.
    rows = examples() if task == "labels" else conversations()
    given = options(inner_steps=2)
    whole = suspect_of(tiny_dirs["llama"], tmp_path, rows, run="whole")
    steps = repair(whole, given)
    broken = suspect_of(tiny_dirs["llama"], tmp_path, rows, run="broken")
    stop_after(monkeypatch, n_saved)
    with pytest.raises(KeyboardInterrupt):
        repair(broken, given)
    monkeypatch.undo()
    repair(broken, given)
    assert sha256_of(broken.folder) == sha256_of(whole.folder)
    assert (broken.details, broken.tokens) == (whole.details, whole.tokens)
    assert len(whole.details["tuned"]["rounds"]) == 2
    assert not torch.equal(logits(whole.model(steps)), logits(whole.model()))


def margins(suspect: Suspect, model: torch.nn.Module) -> list[tuple[float, float]]:
    """Return CE(unwanted) - CE(right) for each label, without a shift and under one sought against this model."""
    made = embattled(suspect, inner_rate=0.3, inner_batch=8, inner_weight=1.0)
    made.model = model  # type: ignore[assignment]
    found = []
    with frozen(made.model):
        for label in LABELS:
            asked = list(made.anchors.unwanted[label])
            shift = made.sought(label, 0, 4 * made.mean_length())
            with torch.no_grad():
                plain, shifted = (
                    sum(part.item() for part in made.inner_loss(label, asked, one))
                    for one in (torch.zeros_like(shift), shift)
                )
            found.append((plain, shifted))
    return found


def test_the_model_holds_out_against_shifts(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    tuning = training(epochs=30, learning_rate=7e-3, method="full")
    suspect = suspect_of(tiny_dirs["llama"], tmp_path, examples(16))
    steps = repair(suspect, options(inner_rate=0.5, inner_steps=3, tuning=tuning))
    tuned = suspect.tune(tuning, name="other")
    held, plain = (margins(suspect, suspect.model(one)) for one in (steps, [tuned]))
    # Both have learned the labels; only the one does not lose them again.
    assert min(before for before, _ in [*held, *plain]) > 2
    assert min(after for _, after in held) > 2
    assert max(after for _, after in plain) < 1.5
