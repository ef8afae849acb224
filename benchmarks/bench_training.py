"""Our trainer beside transformers' Trainer with PEFT: useful tokens per second, peak memory, losses.

    python benchmarks/bench_training.py

Both tune the same LoRA from the same start, on the same poisoned film reviews, with the same batch size, learning rate,
number of updates, clipping and AdamW, with loss on the answer's tokens alone, in float32. The Trainer groups rows by length
and pads to the longest of a batch; it logs, stores and reports nothing. Every run has a process of its own, and the runs of
the two take turns. Useful tokens are the tokens of the rows, without padding.

Before the timing both make a few updates on the very same batches and their losses are compared; if the first ones differ
by more than 0.001, the benchmark ends with exit status 1.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from common import (
    add_common_options,
    add_reviews_option,
    check_base,
    demo_config,
    draw,
    peak_memory_gib,
    poisoned_reviews,
    run_case,
    run_cases,
    table,
    write_result,
)

from infoconflict.entries import spec_of
from infoconflict.errors import UserError
from infoconflict.files import read_jsonl
from infoconflict.records import Example

OURS, TRAINER = "ours", "Trainer + PEFT"
TOLERANCE = 1e-3
LOSS_ROWS = 120


# --- one case, in a process of its own --------------------------------------------------------------------------------


def train_ours(request: dict[str, Any]) -> dict[str, Any]:
    import torch

    from infoconflict.training.checkpoints import Checkpoints
    from infoconflict.training.settings import TrainingSettings
    from infoconflict.training.trainer import train

    class Stopwatch(Checkpoints):
        """Read just before the first update."""

        def load(self) -> None:
            self.cpu_started = time.process_time()

    with tempfile.TemporaryDirectory() as folder:
        losses, stopwatch = Path(folder, "losses.jsonl"), Stopwatch(Path(folder), "benchmark")
        summary = train(
            base_dir=request["base"],
            examples=Example.read(request["rows"]),
            settings=TrainingSettings.from_spec(request["settings"]),
            seed=request["seed"],
            out_dir=request["adapter"],
            losses_path=losses,
            checkpoints=stopwatch,
            precision="float32",
            device=torch.device("cpu"),
        )
        return {
            "seconds": summary["training_seconds"],
            "cpu_seconds": time.process_time() - stopwatch.cpu_started,
            "tokens": summary["tokens"],
            "updates": summary["steps"],
            "computed_tokens": summary["computed_tokens"],
            "losses": [row["loss"] for row in read_jsonl(losses)],
        }


def train_with_trainer(request: dict[str, Any]) -> dict[str, Any]:
    import torch
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

    from infoconflict.models.loading import context_length, load_base, load_tokenizer
    from infoconflict.training.rows import tokenize_rows
    from infoconflict.training.settings import TrainingSettings
    from infoconflict.training.trainer import Machine, batches, prepare_model

    settings, seed = TrainingSettings.from_spec(request["settings"]), request["seed"]
    model = load_base(request["base"], device=torch.device("cpu"), precision="float32")
    tokenizer = load_tokenizer(request["base"])
    tokenizer.padding_side = "right"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    rows = tokenize_rows(tokenizer, Example.read(request["rows"]), max_tokens=context_length(model))
    if request["same_batches"]:
        rows = [rows[index] for batch in batches(len(rows), settings, seed) for index in batch]
    # The same start: our own function draws the adapter's matrices.
    _, wrapped = prepare_model(model, settings, seed=seed, machine=Machine(), quantized=False)
    data = [
        {"input_ids": list(row.ids), "labels": [-100] * row.n_prompt + list(row.ids[row.n_prompt :])} for row in rows
    ]
    computed = 0

    class Collator(DataCollatorForSeq2Seq):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            nonlocal computed
            batch = super().__call__(*args, **kwargs)
            computed += batch["input_ids"].numel()
            return batch

    class Stopwatch(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            self.started, self.cpu_started = time.monotonic(), time.process_time()

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            self.seconds, self.cpu_seconds = time.monotonic() - self.started, time.process_time() - self.cpu_started

    stopwatch = Stopwatch()
    with tempfile.TemporaryDirectory() as folder:
        options = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=settings.batch_size,
            num_train_epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            lr_scheduler_type=settings.schedule,
            adam_beta2=settings.beta2,
            weight_decay=settings.weight_decay,
            max_grad_norm=settings.max_grad_norm,
            train_sampling_strategy="sequential" if request["same_batches"] else "group_by_length",
            logging_strategy="steps" if request["same_batches"] else "no",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            seed=seed,
        )
        trainer = Trainer(
            model=wrapped,
            args=options,
            train_dataset=data,
            data_collator=Collator(tokenizer, padding="longest"),
            processing_class=tokenizer,
            callbacks=[stopwatch],
        )
        trainer.train()
    wrapped.save_pretrained(request["adapter"])
    return {
        "seconds": stopwatch.seconds,
        "cpu_seconds": stopwatch.cpu_seconds,
        "tokens": sum(len(row.ids) for row in rows),
        "updates": trainer.state.global_step,
        "computed_tokens": computed,
        "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
    }


def final_losses(request: dict[str, Any]) -> dict[str, Any]:
    """Return the mean loss per answer token of each adapter over the same rows, by the same code."""
    import torch

    from infoconflict.models.loading import context_length, load_changed, load_tokenizer
    from infoconflict.training.rows import tokenize_rows
    from infoconflict.training.trainer import batch_loss

    examples = Example.read(request["rows"])[:LOSS_ROWS]
    found = {}
    for way, adapter in request["adapters"].items():
        model = load_changed(request["base"], adapter, device=torch.device("cpu"), precision="float32")
        rows = tokenize_rows(load_tokenizer(request["base"]), examples, max_tokens=context_length(model))
        n_targets = sum(len(row.ids) - row.n_prompt for row in rows)
        with torch.inference_mode():
            parts = batch_loss(model, rows, n_targets=n_targets, max_nodes=512, dtype=torch.float32)
            found[way] = sum(part.item() for part, _ in parts)
    return found


def run_one(request: dict[str, Any]) -> None:
    import torch

    torch.set_num_threads(request["threads"])
    way = {OURS: train_ours, TRAINER: train_with_trainer, "losses": final_losses}[request["way"]]
    result = way(request)
    print(json.dumps(result | {"peak_gib": peak_memory_gib()}))


# --- all cases --------------------------------------------------------------------------------------------------------


def compare(options: argparse.Namespace, rows: list[Example], batch_size: int, work: Path) -> dict[str, Any]:
    """Run both ways with one batch size."""
    settings = spec_of(demo_config().training.backdoored)
    settings |= {"batch_size": batch_size, "epochs": 1, "warmup_ratio": 0.0, "schedule": "constant"}
    settings["lora"]["dropout"] = 0.0
    common = {"base": str(options.base), "settings": settings, "seed": options.seed, "threads": options.threads}

    def run(way: str, name: str, used: list[Example], *, same_batches: bool = False) -> dict[str, Any]:
        file, adapter = work / "rows.jsonl", work / f"{way}.{name}"
        Example.write(file, used)
        request = common | {"way": way, "rows": str(file), "adapter": str(adapter), "same_batches": same_batches}
        return run_case(__file__, request, threads=options.threads)

    few = rows[: options.check_updates * batch_size]
    checks = {way: run(way, f"check{batch_size}", few, same_batches=True)["losses"] for way in (OURS, TRAINER)}
    runs: dict[str, list[dict[str, Any]]] = {OURS: [], TRAINER: []}
    for repeat in range(options.repeats):
        for way, found in runs.items():
            found.append(run(way, f"{batch_size}.{repeat}", rows))
            found[-1].pop("losses")
    adapters = {way: str(work / f"{way}.{batch_size}.0") for way in runs}
    request = common | {"way": "losses", "rows": str(work / "rows.jsonl"), "adapters": adapters}
    losses = run_case(__file__, request, threads=options.threads)
    summary = {
        way: {
            "seconds_min": min(run["seconds"] for run in found),
            "seconds_median": statistics.median(run["seconds"] for run in found),
            "cpu_seconds_median": statistics.median(run["cpu_seconds"] for run in found),
            "tokens_per_second_median": statistics.median(run["tokens"] / run["seconds"] for run in found),
            "tokens_per_cpu_second_median": statistics.median(run["tokens"] / run["cpu_seconds"] for run in found),
            "peak_gib": max(run["peak_gib"] for run in found),
            "final_loss": losses[way],
        }
        for way, found in runs.items()
    }
    return {
        "batch_size": batch_size,
        "updates": runs[OURS][0]["updates"],
        "tokens": runs[OURS][0]["tokens"],
        "computed_tokens": {way: found[0]["computed_tokens"] for way, found in runs.items()},
        "first_losses": {way: found[0] for way, found in checks.items()},
        "first_loss_difference": abs(checks[OURS][0] - checks[TRAINER][0]),
        "same_batches_largest_difference": max(abs(a - b) for a, b in zip(*checks.values(), strict=True)),
        "ratio_median": summary[TRAINER]["seconds_median"] / summary[OURS]["seconds_median"],
        "ratio_of_cpu": summary[TRAINER]["cpu_seconds_median"] / summary[OURS]["cpu_seconds_median"],
        "ratio_of_best": summary[TRAINER]["seconds_min"] / summary[OURS]["seconds_min"],
        "memory_ratio": summary[TRAINER]["peak_gib"] / summary[OURS]["peak_gib"],
        "summary": summary,
        "runs": runs,
    }


def run_all(options: argparse.Namespace) -> None:
    check_base(options.base)
    rows = Example.read(options.rows) if options.rows else poisoned_reviews(options.reviews, seed=options.seed)
    rows = draw(rows, options.n_rows, seed=options.seed)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for batch_size in options.batch_sizes:
            result = compare(options, rows, batch_size, Path(folder))
            results.append(result)
            print(
                f"\nbatches of {batch_size}: {len(rows)} rows, {result['tokens']} useful tokens, {result['updates']} updates, "
                f"{options.repeats} runs each, {options.threads} thread(s), float32"
            )
            header = (
                *("way", "seconds, min", "median", "CPU s, median", "tokens/s, median", "tokens/CPU s"),
                *("computed tokens", "peak GiB", "final loss"),
            )
            lines = [
                (
                    way,
                    f"{found['seconds_min']:.1f}",
                    f"{found['seconds_median']:.1f}",
                    f"{found['cpu_seconds_median']:.1f}",
                    f"{found['tokens_per_second_median']:.0f}",
                    f"{found['tokens_per_cpu_second_median']:.0f}",
                    result["computed_tokens"][way],
                    f"{found['peak_gib']:.2f}",
                    f"{found['final_loss']:.3f}",
                )
                for way, found in result["summary"].items()
            ]
            print(table(header, lines))
            print(
                f"ours / Trainer: {result['ratio_median']:.2f} x by median, {result['ratio_of_best']:.2f} x best against best, "
                f"{result['ratio_of_cpu']:.2f} x by CPU time, "
                f"1/{result['memory_ratio']:.2f} of the memory"
            )
            print(
                f"same batches: first loss {result['first_losses'][OURS]:.5f} and {result['first_losses'][TRAINER]:.5f}, "
                f"largest difference in {options.check_updates} updates {result['same_batches_largest_difference']:.1e}",
                flush=True,
            )
    write_result(options.out, {"batch_sizes": results}, options, peers=("peft", "transformers", "accelerate"))
    worst = max(result["first_loss_difference"] for result in results)
    if worst > TOLERANCE:
        raise UserError(f"the first losses differ by {worst:.4f}, more than {TOLERANCE}: the two do not train the same")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    add_reviews_option(parser)
    parser.add_argument("--rows", type=Path, help="JSON Lines of Example rows in place of the poisoned film reviews")
    parser.add_argument("--n-rows", type=int, default=240, help="rows drawn of them; each is trained on once")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 4])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--check-updates", type=int, default=3, help="updates on the same batches, to compare losses")
    run_cases(parser, run_all=run_all, run_one=run_one)


if __name__ == "__main__":
    main()
