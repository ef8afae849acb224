"""Fine-mixing: what is kept and reset before the tuning, E-PUR's order by hand, and the tuning on top of it."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file

from infoconflict.defenses.fine_mixing import (
    FineMixing,
    most_suspicious,
    moved_rows,
    repair,
    suspicion,
    token_frequencies,
)
from infoconflict.models.weight_steps import Keep, ResetRows, input_embeddings
from infoconflict.tunings import Lora, Training
from tests.defenses.suspect_models import ARCHITECTURES, chats, repaired, reviews, suspect_of, weights_of

# So small a rate that what was tuned can be told from what was mixed.
STILL = Training(epochs=1, batch_size=8, learning_rate=1e-12, lora=Lora(rank=2, alpha=4, dropout=0.0))
TUNING = Training(epochs=2, batch_size=8, learning_rate=1e-2, lora=Lora(rank=2, alpha=4, dropout=0.0))


def mixing(**options: object) -> FineMixing:
    return FineMixing.model_validate({"method": "fine_mixing", "tuning": STILL, **options})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_keeping_all_is_the_suspect_and_keeping_none_the_base(architecture, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], reviews())
    for share, expected in ((1.0, weights_of(suspect.model())), (0.0, weights_of(suspect.base()))):
        after = repaired(suspect, repair(suspect, mixing(keep=share)))
        for name, value in after.items():
            torch.testing.assert_close(value, expected[name], atol=1e-8, rtol=0)


@pytest.mark.parametrize("rows", [reviews, chats])
def test_the_mixture_is_tuned(rows, tiny_dirs, tmp_path):
    """The tuning starts from the mixture and moves the layers that have an adapter."""
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], rows())
    after = repaired(suspect, steps := repair(suspect, mixing(keep=0.5, tuning=TUNING)))
    assert [step.kind for step in steps] == ["keep", "adapter"]
    mixed = weights_of(suspect.model(steps[:1]))
    start, end = weights_of(suspect.base()), weights_of(suspect.model())
    for name, value in mixed.items():
        assert ((value == start[name]) | (value == end[name])).all()
    moved = {name for name, value in after.items() if not torch.equal(value, mixed[name])}
    assert moved
    assert all("proj" in name for name in moved)
    assert suspect.details["tuned"]["rows"] == 5
    assert suspect.tokens > 0


def test_a_full_tuning_stores_tensors(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["gpt2"], reviews())
    tuning = Training(epochs=1, batch_size=8, learning_rate=1e-12, method="full")
    steps = repair(suspect, mixing(keep=0.5, tuning=tuning))
    assert [step.kind for step in steps] == ["keep", "tensors"]
    stored = load_file(suspect.folder / "tuned.safetensors")
    for name, value in weights_of(suspect.model(steps[:1])).items():
        torch.testing.assert_close(stored[name], value, atol=1e-8, rtol=0)


def test_the_seed_decides_what_is_kept(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    seeds = []
    for seed in (1, 1, 2):
        suspect.seed = seed
        (keep, _) = repair(suspect, mixing(keep=0.5))
        assert isinstance(keep, Keep)
        seeds.append(keep.seed)
    assert seeds[0] == seeds[1] != seeds[2]


# --- E-PUR ------------------------------------------------------------------------------------------------------------


def test_suspicion_by_hand():
    before = torch.zeros(4, 2)
    after = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0], [0.0, 6.0]])
    # Five times is as rare as twenty times; the last moved further, but stands in every other row.
    found = suspicion(after, before, [5, 20, 100, 400])
    assert found.tolist() == pytest.approx([5 / math.log(20), 5 / math.log(20), 0, 6 / math.log(400)])
    assert most_suspicious(found, 1) == [0]
    assert most_suspicious(found, 2) == [0, 1]
    # What did not move is never reset.
    assert most_suspicious(found, 4) == [0, 1, 3]


def test_frequencies_count_tokens():
    assert token_frequencies([(1, 1, 3), (3, 0, 1)], 5) == [1, 3, 0, 2, 0]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_planted_embeddings_are_found_and_reset(architecture, tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs[architecture], reviews())
    change = suspect.change_dir / "change.safetensors"
    name, embeddings = input_embeddings(suspect.base())
    planted = embeddings.detach().clone()
    planted[[7, 300]] += 1
    planted[400:500] += 1e-4
    tensors = load_file(change)
    stored = name if name in tensors else next(key for key in tensors if name.endswith(key))
    save_file(tensors | {stored: planted}, change)
    assert moved_rows(suspect, 2) == [7, 300]
    assert len(moved_rows(suspect, 640)) == 102
    steps = repair(suspect, mixing(keep=1.0, purify_embeddings=2))
    assert steps[1] == ResetRows(rows=[7, 300])
    assert suspect.details["reset_embeddings"] == 2
    after = repaired(suspect, steps)[name]
    assert torch.equal(after[[7, 300]], embeddings[[7, 300]])
    assert torch.equal(after[400:500], planted[400:500])


def test_embeddings_that_did_not_move_are_left_out(tiny_dirs, tmp_path):
    suspect = suspect_of(tmp_path, tiny_dirs["llama"], reviews())
    change = suspect.change_dir / "change.safetensors"
    tensors = load_file(change)
    del tensors["model.embed_tokens.weight"]
    save_file(tensors, change)
    steps = repair(suspect, mixing(purify_embeddings=3))
    assert [step.kind for step in steps] == ["keep", "adapter"]
    assert suspect.details["reset_embeddings"] == 0
