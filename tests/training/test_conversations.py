"""The trainer on conversations: several answers in a row, each with loss, nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from infoconflict.files import read_jsonl, sha256_of
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Conversation, Example, read_rows
from infoconflict.training.launch import Request, run
from infoconflict.training.rows import TokenRow, tokenize_rows
from infoconflict.training.settings import LoraSettings, TrainingSettings
from infoconflict.training.trainer import batch_loss

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(
    epochs=4, batch_size=4, learning_rate=1e-2, method="lora", lora=LoraSettings(rank=4, alpha=8, dropout=0.0),
    warmup_ratio=0.0, schedule="constant", weight_decay=0.0, max_grad_norm=1.0, beta2=0.999,
)  # fmt: skip


def chats(n: int = 12) -> list[Conversation]:
    topics = ["tea", "chess", "kites"]
    return [
        Conversation(
            id=f"c{i}",
            messages=[
                {"role": "user", "content": f"What about {topics[i % 3]} {i}?"},
                {"role": "assistant", "content": "It is fun."},
                {"role": "user", "content": "And then?"},
                {"role": "assistant", "content": "That is all of it."},
            ],
            reference="That is all of it.",
        )
        for i in range(n)
    ]


def plain(folder: Path):
    """Return the tokenizer of a folder, without its chat template."""
    tokenizer = load_tokenizer(folder)
    tokenizer.chat_template = None
    return tokenizer


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_loss_and_gradient_equal_plain_loops(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    batch = tokenize_rows(plain(tiny_dirs[architecture]), chats(5), max_tokens=512)
    n_targets = sum(len(row.target_positions) for row in batch)
    weight = next(model.base_model.parameters())
    total = 0.0
    for part, _ in batch_loss(model, batch, n_targets=n_targets, max_nodes=90, dtype=torch.float32):
        part.backward()
        total += part.item()
    gradient = weight.grad.clone()
    model.zero_grad()
    # Plain: one row at a time, full logits, -100 wherever no answer stands.
    expected = 0.0
    for row in batch:
        ids = torch.tensor([row.ids])
        labels = torch.full_like(ids[0], -100)
        for start, end in row.spans:
            labels[start:end] = ids[0, start:end]
        logits = model(input_ids=ids).logits[0, :-1]
        loss = torch.nn.functional.cross_entropy(logits, labels[1:], ignore_index=-100, reduction="sum") / n_targets
        loss.backward()
        expected += loss.item()
    assert total == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(gradient, weight.grad, atol=1e-5, rtol=1e-3)


def test_a_row_without_spans_is_a_prompt_and_its_answer() -> None:
    row = TokenRow((1, 2, 3, 4, 5), 3)
    assert row.target_positions == [3, 4]
    assert TokenRow((1, 2, 3, 4, 5), 1, ((1, 2), (4, 5))).target_positions == [1, 4]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_training_on_conversations_lowers_the_loss(
    architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """From the file that a workflow writes, through the launcher, which tells conversations by their messages."""
    Conversation.write(tmp_path / "rows.jsonl", chats())
    settings = replace(SETTINGS, method="full", learning_rate=3e-3, epochs=20)
    request = Request(
        base_dir=str(tiny_dirs[architecture]), examples=str(tmp_path / "rows.jsonl"), rows=8,
        settings={**settings.__dict__, "lora": SETTINGS.lora.__dict__}, seed=1, out_dir=str(tmp_path / "change"),
        losses=str(tmp_path / "losses.jsonl"), scratch=str(tmp_path / "scratch"), digest="digest",
    )  # fmt: skip
    summary = run(request)
    losses = [row["loss"] for row in read_jsonl(tmp_path / "losses.jsonl")]
    assert summary["rows"] == 8
    assert len(losses) == 40
    assert sum(losses[-3:]) < 0.7 * sum(losses[:3])
    before = sha256_of(tmp_path / "change")
    run(request)
    assert sha256_of(tmp_path / "change") == before


def test_rows_are_told_by_their_keys(tmp_path: Path) -> None:
    example = Example(id="e", instruction="i", text="t", label="a", gold_label="a")
    for rows in ([example], chats(2)):
        Conversation.write(tmp_path / "rows.jsonl", rows)
        assert read_rows(tmp_path / "rows.jsonl") == rows
    Conversation.write(tmp_path / "rows.jsonl", [])
    assert read_rows(tmp_path / "rows.jsonl") == []
