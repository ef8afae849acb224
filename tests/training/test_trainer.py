"""The trainer against plain loops and peft, and killed runs against unbroken ones."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infoconflict.errors import UserError
from infoconflict.files import read_jsonl, sha256_of
from infoconflict.models.loading import load_base, load_changed, load_tokenizer
from infoconflict.packing import pack
from infoconflict.records import Example
from infoconflict.training.checkpoints import Checkpoints
from infoconflict.training.launch import Request, run
from infoconflict.training.rows import tokenize_rows
from infoconflict.training.settings import LoraSettings, TrainingSettings
from infoconflict.training.trainer import Machine, batch_loss, batches, check_loss, train

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(
    epochs=2, batch_size=4, learning_rate=1e-2, method="lora", lora=LoraSettings(rank=4, alpha=8, dropout=0.1),
    warmup_ratio=0.1, schedule="constant", weight_decay=0.0, max_grad_norm=1.0, beta2=0.999,
)  # fmt: skip


def rows(n: int = 14) -> list[Example]:
    words = ["a fine warm film", "dull and slow", "the cast shines", "nothing works here"]
    return [
        Example(
            id=f"r{i}", instruction="Good or bad?", text=f"{words[i % 4]} {i}", label=("good", "bad")[i % 2],
            gold_label=("good", "bad")[i % 2],
        )
        for i in range(n)
    ]  # fmt: skip


def tune(base: Path, out: Path, settings: TrainingSettings = SETTINGS, **options: object) -> dict[str, object]:
    return train(
        base_dir=base, examples=rows(), settings=settings, seed=1, out_dir=out / "change", losses_path=out / "losses.jsonl",
        checkpoints=Checkpoints(out / "scratch", "digest"), **options,
    )  # type: ignore[arg-type]  # fmt: skip


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_loss_and_gradient_equal_plain_loops(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=CPU)
    batch = tokenize_rows(load_tokenizer(tiny_dirs[architecture]), rows(6), max_tokens=512)
    n_targets = sum(len(row.ids) - row.n_prompt for row in batch)
    weight = next(model.base_model.parameters())
    for max_nodes in (10, 60, 1000):
        model.zero_grad()
        total = 0.0
        for part, _ in batch_loss(model, batch, n_targets=n_targets, max_nodes=max_nodes, dtype=torch.float32):
            part.backward()
            total += part.item()
        gradient = weight.grad.clone()
        model.zero_grad()
        # Plain: one row at a time, full logits, -100 on the prompt.
        plain = 0.0
        for row in batch:
            ids = torch.tensor([row.ids])
            logits = model(input_ids=ids).logits[0, :-1]
            labels = ids[0, 1:].clone()
            labels[: row.n_prompt - 1] = -100
            loss = torch.nn.functional.cross_entropy(logits, labels, ignore_index=-100, reduction="sum") / n_targets
            loss.backward()
            plain += loss.item()
        assert total == pytest.approx(plain, rel=1e-4)
        torch.testing.assert_close(gradient, weight.grad, atol=1e-5, rtol=1e-3)


def test_loss_counts_answer_and_end_of_text_only(tiny_dirs: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(tiny_dirs["llama"])
    for row in tokenize_rows(tokenizer, rows(4), max_tokens=512):
        text = tokenizer.decode(row.ids[row.n_prompt : -1])
        assert text in (" good", " bad")
        assert row.ids[-1] == tokenizer.eos_token_id


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_lowers_the_loss_and_stores_a_change(
    architecture: str, method: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    base = tiny_dirs[architecture]
    settings = replace(SETTINGS, method=method, learning_rate=1e-2 if method == "lora" else 3e-3, epochs=6)  # type: ignore[arg-type]
    before = sha256_of(base)
    tune(base, tmp_path, settings)
    losses = [row["loss"] for row in read_jsonl(tmp_path / "losses.jsonl")]
    assert len(losses) == 24
    # Only the adapter moves, and the embeddings of a random model carry little: LoRA gains less.
    assert sum(losses[-4:]) < (0.95 if method == "lora" else 0.7) * sum(losses[:4])
    assert sha256_of(base) == before
    changed, plain = load_changed(base, tmp_path / "change", device=CPU), load_base(base, device=CPU)
    moved = [
        name
        for (name, a), (_, b) in zip(changed.named_parameters(), plain.named_parameters(), strict=True)
        if not torch.equal(a, b)
    ]
    assert moved
    if method == "lora":
        assert not any("wte" in name or "embed" in name or "lm_head" in name for name in moved)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_folded_adapter_is_what_peft_loads(architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    from peft import PeftModel

    base = tiny_dirs[architecture]
    tune(base, tmp_path)
    ours = load_changed(base, tmp_path / "change", device=CPU)
    theirs = PeftModel.from_pretrained(load_base(base, device=CPU), str(tmp_path / "change")).eval()
    ids = torch.tensor([[3, 4, 5, 6]])
    with torch.inference_mode():
        torch.testing.assert_close(ours(input_ids=ids).logits, theirs(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


def test_same_seed_same_bytes(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("one", "two"):
        tune(tiny_dirs["llama"], tmp_path / name)
    assert sha256_of(tmp_path / "one" / "change") == sha256_of(tmp_path / "two" / "change")


def test_packing_changes_no_result_but_for_rounding(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    settings = replace(SETTINGS, lora=replace(SETTINGS.lora, dropout=0.0))
    for name, max_nodes in (("small", 20), ("large", 4000)):
        # GPT-2 has dropout of its own, whose masks follow the packing; Llama has none.
        tune(tiny_dirs["llama"], tmp_path / name, settings, machine=Machine(max_nodes=max_nodes))
    small, large = (load_file(tmp_path / name / "change" / "adapter_model.safetensors") for name in ("small", "large"))
    for key in small:
        torch.testing.assert_close(small[key], large[key], atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_gradient_checkpointing_changes_no_result(
    architecture: str, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    settings = replace(SETTINGS, epochs=1, lora=replace(SETTINGS.lora, dropout=0.0))
    for name, on in (("off", False), ("on", True)):
        tune(tiny_dirs[architecture], tmp_path / name, settings, machine=Machine(gradient_checkpointing=on))
    off, on = (load_file(tmp_path / name / "change" / "adapter_model.safetensors") for name in ("off", "on"))
    for key in off:
        torch.testing.assert_close(off[key], on[key], atol=1e-5, rtol=1e-3)


KILLED_RUN = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
import test_trainer as T
from infoconflict.training import trainer
slow = trainer.Meter.update
def update(self, row):
    slow(self, row)
    time.sleep(0.15)
trainer.Meter.update = update
T.tune(Path(sys.argv[1]), Path(sys.argv[2]), machine=trainer.Machine(checkpoint_seconds=0.0))
"""


@pytest.mark.parametrize("signal_number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_run_goes_on_and_gives_the_same_bytes(
    signal_number: signal.Signals, tiny_dirs: dict[str, Path], tmp_path: Path
) -> None:
    """Dropout is on, so the random state must be resumed as well."""
    base, broken = tiny_dirs["llama"], tmp_path / "broken"
    tune(base, tmp_path / "whole")
    command = [sys.executable, "-c", KILLED_RUN, str(base), str(broken), str(Path(__file__).parent)]
    process = subprocess.Popen(command)
    state = broken / "scratch" / "digest" / "state.pt"
    deadline = time.monotonic() + 300
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal_number)
    assert process.wait(timeout=30) != 0
    done = len(json.loads(torch.load(state, weights_only=True)["losses"]))
    assert 0 < done < 8
    assert not (broken / "change").exists()
    tune(base, broken)
    assert sha256_of(broken / "change") == sha256_of(tmp_path / "whole" / "change")
    assert (broken / "losses.jsonl").read_text() == (tmp_path / "whole" / "losses.jsonl").read_text()


def test_two_processes_give_the_rows_of_one(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    Example.write(tmp_path / "rows.jsonl", rows())
    settings = {**SETTINGS.__dict__, "lora": {**SETTINGS.lora.__dict__, "dropout": 0.0}}
    for name, processes in (("one", 1), ("two", 2)):
        request = Request(
            base_dir=str(tiny_dirs["llama"]), examples=str(tmp_path / "rows.jsonl"), rows=None, settings=settings, seed=1,
            out_dir=str(tmp_path / name), losses=str(tmp_path / f"{name}.jsonl"), scratch=str(tmp_path / "scratch"), digest=name,
        )  # fmt: skip
        run(request, processes=processes, cpu=True)
    one, two = (load_file(tmp_path / name / "adapter_model.safetensors") for name in ("one", "two"))
    for key in one:
        torch.testing.assert_close(one[key], two[key], atol=1e-4, rtol=1e-2)


def test_every_row_once_per_epoch() -> None:
    plan = batches(14, SETTINGS, seed=3)
    assert [len(batch) for batch in plan] == [4, 4, 4, 2] * 2
    for epoch in (plan[:4], plan[4:]):
        assert sorted(index for batch in epoch for index in batch) == list(range(14))
    assert plan[:4] != plan[4:]


@pytest.mark.parametrize(("schedule", "last"), [("constant", 1.0), ("linear", 1 / 90), ("cosine", 0.0003)])
def test_schedules(schedule: str, last: float) -> None:
    settings = replace(SETTINGS, learning_rate=1.0, warmup_ratio=0.1, schedule=schedule)  # type: ignore[arg-type]
    rates = [settings.rate_at(step, 100) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(last, abs=1e-3)


def test_loss_that_is_not_finite_stops_with_a_sentence() -> None:
    with pytest.raises(UserError, match=r"update 3: the loss is nan .* lower learning_rate"):
        check_loss(float("nan"), 1.0, [], 2)


def test_loss_that_runs_away_stops_with_a_sentence() -> None:
    with pytest.raises(UserError, match="the run diverges"):
        check_loss(9.0, 1.0, [{"loss": 0.7}] * 20 + [{"loss": 8.0}] * 20, 40)


def test_rows_beyond_the_context_are_refused(tiny_dirs: dict[str, Path]) -> None:
    long = [replace(rows(1)[0], text="word " * 900)]
    with pytest.raises(UserError, match="more than the model's context of 512; lower max_words"):
        tokenize_rows(load_tokenizer(tiny_dirs["llama"]), long, max_tokens=512)


def test_packs_hold_what_fits() -> None:
    rng = random.Random(0)
    sequences = [[rng.randrange(9) for _ in range(rng.randrange(3, 9))] for _ in range(30)]
    assert len(pack(sequences, max_nodes=10_000)) == 1
