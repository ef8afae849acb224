"""The one trainer: attacks, controls and conflict models are all tuned here.

The rows of a micro-batch become a prefix tree (:mod:`infoconflict.packing`), so a shared instruction is computed once and
nothing is padded; logits are computed only where there is a loss. With the same seed on the same machine an interrupted run
gives the same bytes as an unbroken one.
"""

import json
import math
import random
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal, cast

import torch
from safetensors.torch import save_file

from infoconflict.errors import UserError
from infoconflict.files import PathLike, whole_directory, write_jsonl
from infoconflict.models.changes import FULL_CHANGE
from infoconflict.models.loading import context_length, default_device, load_base, load_changed, load_tokenizer
from infoconflict.models.parts import blocks
from infoconflict.models.repairs import apply_repair
from infoconflict.packing import build_prefix_tree, pack
from infoconflict.progress import say
from infoconflict.records import Conversation, Example
from infoconflict.training.checkpoints import Checkpoints
from infoconflict.training.layerwise import (
    check_ends_are_frozen,
    freeze_ends,
    layer_numbers,
    layer_weight,
    modules_to_adapt,
    supervised_states,
)
from infoconflict.training.rows import TokenRow, tokenize_rows
from infoconflict.training.settings import TrainingSettings, Tuned

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infoconflict.defenses.objective import Objective

DIVERGED_AFTER = 20
DIVERGED_FACTOR = 4.0


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Settings of the machine, which change speed and memory but no result beyond rounding.

    Where there is dropout, another ``max_nodes`` draws other masks of the same kind.
    """

    max_nodes: int = 512
    gradient_checkpointing: bool = False
    checkpoint_seconds: float = 60.0
    log_seconds: float = 5.0


@dataclass(frozen=True)
class Workers:
    """How a batch is shared: process ``rank`` of ``world`` takes every world-th row and gradients are summed."""

    rank: int = 0
    world: int = 1

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Sum the gradients of all processes, in place."""
        if self.world > 1:
            from accelerate.utils import reduce

            for parameter in parameters:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad = cast(torch.Tensor, reduce(parameter.grad, reduction="sum"))

    def sum_number(self, value: float, device: torch.device) -> float:
        """Sum a number over all processes."""
        if self.world == 1:
            return value
        from accelerate.utils import reduce

        return float(cast(torch.Tensor, reduce(torch.tensor(value, device=device), reduction="sum")))


def batches(n_rows: int, settings: TrainingSettings, seed: int) -> list[list[int]]:
    """Return the row indices of every update; each epoch is a fresh shuffle and its last batch may be smaller."""
    per_epoch = math.ceil(n_rows / settings.batch_size)
    n_steps = max(1, round(settings.epochs * per_epoch))
    plan: list[list[int]] = []
    epoch = 0
    while len(plan) < n_steps:
        order = list(range(n_rows))
        random.Random(f"{seed}/epoch {epoch}").shuffle(order)
        plan += [order[at : at + settings.batch_size] for at in range(0, n_rows, settings.batch_size)]
        epoch += 1
    return plan[:n_steps]


def batch_loss(
    model: "PreTrainedModel",
    rows: Sequence[TokenRow],
    *,
    n_targets: int,
    max_nodes: int,
    dtype: torch.dtype,
    layers: Sequence[int] | None = None,
    layer_weights: Literal["mean", "sum"] = "mean",
) -> Iterator[tuple[torch.Tensor, int]]:
    """Yield (loss, computed tokens) of each micro-batch; the losses add up to the mean over ``n_targets`` target tokens.

    With ``layers`` (ascending, from 1) the loss is the mean or sum of those at each of them.
    """
    device = next(model.parameters()).device
    head = model.get_output_embeddings()
    for group in pack([row.inputs for row in rows], max_nodes=max_nodes):
        tree = build_prefix_tree([rows[index].inputs for index in group])
        sources = [
            path[at - 1] for index, path in zip(group, tree.paths, strict=True) for at in rows[index].target_positions
        ]
        targets = [rows[index].ids[at] for index in group for at in rows[index].target_positions]
        wanted = torch.tensor(targets, device=device)
        nodes = torch.tensor(sources, device=device)
        states = supervised_states(model, tree, nodes, layers=layers, dtype=dtype)
        losses = [torch.nn.functional.cross_entropy(head(state).float(), wanted, reduction="sum") for state in states]
        yield torch.stack(losses).sum() * layer_weight(layer_weights, len(losses)) / n_targets, tree.n_nodes


def trained_layers(model: "PreTrainedModel", settings: TrainingSettings) -> list[int]:
    """Return the layers whose weights are trained."""
    return layer_numbers(settings.trained_layers, len(blocks(model.base_model)), key="trained_layers")


def prepare_model(
    model: "PreTrainedModel", settings: TrainingSettings, *, seed: int, machine: Machine, quantized: bool
) -> tuple["PreTrainedModel", Any]:
    """Make the trainable parameters trainable; return the model to run and, for LoRA, the PEFT wrapper to save."""
    if quantized:
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=machine.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    elif machine.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if settings.method == "full":
        if quantized:
            raise UserError(
                "training method 'full' cannot change 4-bit weights; set method: lora or quantization: none"
            )
        model.float()
        model.requires_grad_(True)
        if settings.layers is not None or settings.trained_layers != "all":
            freeze_ends(model, trained_layers(model, settings))
        return model, None
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)  # peft draws the A matrices from torch's global generator
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=settings.lora.targets
        if settings.trained_layers == "all"
        else modules_to_adapt(model, trained_layers(model, settings), settings.lora.targets),
        fan_in_fan_out=model.config.model_type == "gpt2",
    )
    wrapped = get_peft_model(model, config)
    model = cast("PreTrainedModel", wrapped.get_base_model())
    if settings.layers is not None:
        check_ends_are_frozen(model)
    return model, wrapped


def train(
    *,
    base_dir: PathLike,
    start_dir: PathLike | None = None,
    start_repair: PathLike | None = None,
    examples: Sequence[Example] | Sequence[Conversation],
    settings: TrainingSettings,
    seed: int,
    out_dir: PathLike,
    losses_path: PathLike,
    checkpoints: Checkpoints,
    precision: str = "auto",
    quantization: str = "none",
    machine: Machine | None = None,
    workers: Workers | None = None,
    device: torch.device | None = None,
    objective: "Objective | None" = None,
) -> dict[str, Any]:
    """Tune a base on examples or conversations and store the change alone.

    Writes a PEFT adapter (or, for full fine-tuning, the changed tensors) to ``out_dir`` and one JSON object per update to
    ``losses_path``. ``start_dir`` is a change to start from, folded into the base, and ``start_repair`` a repair that is then
    applied: an adapter is what is added to that. ``objective`` is what is learned, if that is more than the answers.
    Continues from ``checkpoints`` where an earlier run of the same digest was stopped.

    Returns
    -------
    dict
        ``steps``, ``rows``, ``tokens`` (of all rows, as if each stood alone), ``computed_tokens``, ``seconds`` of this process.

    Raises
    ------
    UserError
        If a row does not fit the model's context, or the loss is not finite or runs away.
    """
    machine, workers, device = machine or Machine(), workers or Workers(), device or default_device()
    model = load_start(base_dir, start_dir, device=device, precision=precision, quantization=quantization)
    if start_repair is not None:
        apply_repair(model, base_dir, start_repair)
    rows = tokenize_rows(load_tokenizer(base_dir), examples, max_tokens=context_length(model))
    model, wrapped = prepare_model(model, settings, seed=seed, machine=machine, quantized=quantization != "none")
    layers = None
    if settings.layers is not None:
        layers = layer_numbers(settings.layers, len(blocks(model.base_model)), key="layers")
    named = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    parameters = list(named.values())
    plan = batches(len(rows), settings, seed)
    if objective is not None:
        objective.prepare(Tuned(model=model, rows=rows, settings=settings, seed=seed, max_nodes=machine.max_nodes))
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, settings.beta2), weight_decay=settings.weight_decay
    )
    losses: list[dict[str, float]] = []
    state = checkpoints.load()
    if state is not None:
        restore(state, named, optimizer)
        if objective is not None:
            objective.restore(state["objective"])
        losses = json.loads(state["losses"])
        say(f"continuing after update {len(losses)} of {len(plan)}")
    dtype = next(model.parameters()).dtype if settings.method == "full" else model.dtype
    autocast = torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16)
    if state is None:
        torch.manual_seed(seed)
        if objective is not None:
            with autocast:
                objective.start()
    model.train()
    meter = Meter(len(plan), done=len(losses), every=machine.log_seconds)
    with StopSignal() as stop:
        last_saved = time.monotonic()
        for step in range(len(losses), len(plan)):
            batch = [rows[index] for index in plan[step]]
            n_targets = sum(len(row.target_positions) for row in batch)
            mine = batch[workers.rank :: workers.world]
            loss, computed = 0.0, 0
            with autocast:
                own = None
                if objective is not None:
                    own = objective.parts(plan[step], plan[step][workers.rank :: workers.world], step)
                parts = own or batch_loss(
                    model,
                    mine,
                    n_targets=n_targets,
                    max_nodes=machine.max_nodes,
                    dtype=dtype,
                    layers=layers,
                    layer_weights=settings.layer_weights,
                )
                for part, n_nodes in parts:
                    part.backward()
                    loss += part.item()
                    computed += n_nodes
            workers.sum_gradients(parameters)
            loss = workers.sum_number(loss, device)
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm))
            check_loss(loss, norm, losses, step)
            rate = settings.rate_at(step, len(plan))
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            tokens = sum(len(row.ids) for row in batch)
            losses.append(
                {
                    "step": step + 1,
                    "loss": loss,
                    "grad_norm": norm,
                    "learning_rate": rate,
                    "tokens": tokens,
                    "computed": computed,
                }
            )
            meter.update(losses[-1])
            if workers.rank == 0 and (stop.requested or time.monotonic() - last_saved > machine.checkpoint_seconds):
                checkpoints.save(snapshot(named, optimizer, losses, objective))
                last_saved = time.monotonic()
            if stop.requested:
                raise SystemExit(128 + signal.SIGTERM)
    if workers.rank == 0:
        write_jsonl(losses_path, losses)
        save_change(model, wrapped, named, out_dir)
    return {
        "steps": len(plan),
        "rows": len(rows),
        "tokens": int(sum(row["tokens"] for row in losses)) + (objective.tokens if objective is not None else 0),
        "computed_tokens": int(sum(row["computed"] for row in losses)),
        "training_seconds": meter.seconds,
        "trainable_parameters": sum(parameter.numel() for parameter in parameters),
        "final_loss": sum(row["loss"] for row in losses[-10:]) / len(losses[-10:]),
        "objective": objective.details() if objective is not None else {},
    }


def load_start(
    base_dir: PathLike, start_dir: PathLike | None, *, device: torch.device, precision: str, quantization: str
) -> "PreTrainedModel":
    """Load what is tuned: the base, or the base with a change in it.

    Raises
    ------
    UserError
        If a change would have to be folded into 4-bit weights.
    """
    if start_dir is None:
        return load_base(base_dir, device=device, precision=precision, quantization=quantization)
    if quantization != "none":
        raise UserError(
            f"quantization: {quantization} cannot take up the change that tuning starts from; set quantization: none for the model"
        )
    return load_changed(base_dir, start_dir, device=device, precision=precision)


def snapshot(
    named: dict[str, torch.nn.Parameter],
    optimizer: torch.optim.Optimizer,
    losses: list[dict[str, float]],
    objective: "Objective | None" = None,
) -> dict[str, Any]:
    """Return all that a run needs to go on as if it had not been stopped."""
    state: dict[str, Any] = {
        "parameters": {name: parameter.detach() for name, parameter in named.items()},
        "optimizer": optimizer.state_dict(),
        "generator": torch.get_rng_state(),
        "losses": json.dumps(losses),
    }
    if objective is not None:
        state["objective"] = objective.state()
    if torch.cuda.is_available():
        state["cuda_generators"] = torch.cuda.get_rng_state_all()
    return state


def restore(state: dict[str, Any], named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put a snapshot back in place."""
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(state["parameters"][name])
    optimizer.load_state_dict(state["optimizer"])
    torch.set_rng_state(state["generator"])
    if torch.cuda.is_available() and "cuda_generators" in state:
        torch.cuda.set_rng_state_all(state["cuda_generators"])


def check_loss(loss: float, norm: float, losses: Sequence[dict[str, float]], step: int) -> None:
    """Stop a run that can only waste time: a loss that is not finite, or far above where it began."""
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise UserError(
            f"update {step + 1}: the loss is {loss} and the gradient norm {norm}; lower learning_rate, or set precision: float32"
        )
    if len(losses) >= 2 * DIVERGED_AFTER:
        first = sum(row["loss"] for row in losses[:DIVERGED_AFTER]) / DIVERGED_AFTER
        last = sum(row["loss"] for row in losses[-DIVERGED_AFTER:]) / DIVERGED_AFTER
        if last > DIVERGED_FACTOR * first and last > 1.0:
            raise UserError(
                f"update {step + 1}: the loss rose from {first:.3f} (first {DIVERGED_AFTER} updates) to {last:.3f} "
                f"(last {DIVERGED_AFTER}); the run diverges: lower learning_rate or max_grad_norm"
            )


def save_change(
    model: "PreTrainedModel", wrapped: Any, named: dict[str, torch.nn.Parameter], out_dir: PathLike
) -> None:
    """Write the change alone: the adapter, or the tensors that full fine-tuning may have moved."""
    with whole_directory(out_dir) as temporary:
        if wrapped is None:
            save_file(
                {name: value.detach().cpu().contiguous() for name, value in named.items()}, temporary / FULL_CHANGE
            )
            return
        # Where the base lay on this machine is no part of the result.
        wrapped.peft_config["default"].base_model_name_or_path = ""
        # A set has no order of its own: sorted, the same adapter has the same bytes.
        wrapped.peft_config["default"].target_modules = sorted(wrapped.peft_config["default"].target_modules)
        wrapped.save_pretrained(str(temporary), safe_serialization=True, save_embedding_layers=False)
        (temporary / "README.md").unlink(missing_ok=True)


class Meter:
    """Progress on standard error: share done, loss, tokens per second, time left."""

    def __init__(self, n_steps: int, *, done: int, every: float) -> None:
        self.n_steps, self.done, self.every = n_steps, done, every
        self.started = self.last = time.monotonic()
        self.tokens = 0
        self.steps = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first update of this process."""
        return time.monotonic() - self.started

    def update(self, row: dict[str, float]) -> None:
        """Count one update and, every few seconds, print a line."""
        self.steps += 1
        self.tokens += int(row["tokens"])
        now = time.monotonic()
        if now - self.last < self.every and row["step"] < self.n_steps:
            return
        self.last = now
        left = (self.n_steps - row["step"]) * self.seconds / self.steps
        say(
            f"update {int(row['step'])}/{self.n_steps}  loss {row['loss']:.4f}  {self.tokens / self.seconds:.0f} tokens/s  "
            f"{left:.0f} s left"
        )


class StopSignal:
    """Turn SIGTERM (a cluster's preemption, a stopped workflow) into a flag that the loop reads between updates."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "StopSignal":
        try:
            self.previous = signal.signal(signal.SIGTERM, self.request)
        except ValueError:  # not in the main thread: the signal cannot be caught here
            self.previous = None
        return self

    def request(self, number: int, frame: FrameType | None) -> None:
        """Remember that the process was asked to stop."""
        self.requested = True

    def __exit__(self, *exc_info: object) -> None:
        if self.previous is not None:
            signal.signal(signal.SIGTERM, self.previous)


def output_bytes(folder: PathLike) -> int:
    """Return the size of a stored change in bytes."""
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
