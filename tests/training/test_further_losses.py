"""Padded batches against rows that stand alone, and disturbances that reach where they should."""

from pathlib import Path

import pytest
import torch

from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.training.further_losses import (
    answer_loss,
    frozen,
    padded,
    perturbed,
    run_backbone,
    side_by_side,
    states_of,
)
from infoconflict.training.rows import TokenRow, tokenize_rows
from infoconflict.training.trainer import batch_loss
from tests.conftest import ARCHITECTURES
from tests.defenses.suspects import conversations, examples

CPU = torch.device("cpu")


def test_groups_hold_each_row_once_and_pad_little() -> None:
    rows = [TokenRow(tuple(range(n + 1)), 1) for n in (5, 9, 2, 30, 5, 4)]
    # Of 2 and 4 tokens; of 5 and 5; of 9; of 30, more than there is room for.
    assert side_by_side(rows, max_tokens=12) == [[2, 5], [0, 4], [1], [3]]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_padding_changes_nothing(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    tokenizer = load_tokenizer(tiny_dirs[architecture])
    for rows in (
        tokenize_rows(tokenizer, examples(5), max_tokens=512),
        tokenize_rows(tokenizer, conversations(3), max_tokens=512),
    ):
        batch = padded(rows, CPU)
        assert batch.mask.sum() == sum(len(row.inputs) for row in rows) < batch.n_tokens
        with torch.no_grad(), states_of(model, [1, 2]) as kept:
            together = run_backbone(model, batch).last_hidden_state
            layers = dict(kept)
            loss = answer_loss(model, together, batch)
            for number, row in enumerate(rows):
                alone = model.base_model(input_ids=torch.tensor([row.inputs])).last_hidden_state[0]
                torch.testing.assert_close(together[number, : len(row.inputs)], alone, atol=1e-5, rtol=1e-4)
                for layer in (1, 2):
                    torch.testing.assert_close(
                        layers[layer][number, : len(row.inputs)], kept[layer][0], atol=1e-5, rtol=1e-4
                    )
            packed = sum(
                part.item() for part, _ in batch_loss(model, rows, n_targets=1, max_nodes=500, dtype=torch.float32)
            )
        assert loss.item() == pytest.approx(packed, rel=1e-4)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_disturbance_acts_at_its_block_and_not_before(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    batch = padded(tokenize_rows(load_tokenizer(tiny_dirs[architecture]), examples(2), max_tokens=512), CPU)
    addition = torch.zeros((*batch.ids.shape, model.config.hidden_size))
    with torch.no_grad(), states_of(model, [1, 2]) as kept:
        plain = run_backbone(model, batch).last_hidden_state
        first, second = kept[1], kept[2]
        with perturbed(model, 1, addition):
            torch.testing.assert_close(run_backbone(model, batch).last_hidden_state, plain, atol=0, rtol=0)
        addition[:, 4] = 1.0
        with perturbed(model, 1, addition) as seen:
            shifted = run_backbone(model, batch).last_hidden_state
        torch.testing.assert_close(kept[1], first, atol=0, rtol=0)
        torch.testing.assert_close(seen["input"], first, atol=0, rtol=0)
        assert not torch.allclose(kept[2], second)
        # Causal: what stands before the place is as it was.
        torch.testing.assert_close(shifted[:, :4], plain[:, :4], atol=1e-6, rtol=1e-5)
        # The hook is gone.
        torch.testing.assert_close(run_backbone(model, batch).last_hidden_state, plain, atol=0, rtol=0)


def test_freezing_ends_with_the_block(tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs["llama"], device=CPU)
    one, *_ = model.parameters()
    model.requires_grad_(False)
    one.requires_grad_(True)
    model.train()
    with pytest.raises(RuntimeError), frozen(model):
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model.training
        raise RuntimeError
    assert [parameter is one for parameter in model.parameters()] == [
        parameter.requires_grad for parameter in model.parameters()
    ]
    assert model.training
