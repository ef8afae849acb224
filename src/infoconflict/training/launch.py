"""Run the trainer in this process, or in one process per GPU where there are several (by accelerate)."""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from infoconflict.errors import UserError
from infoconflict.files import read_json, write_json
from infoconflict.records import read_rows
from infoconflict.training.checkpoints import Checkpoints
from infoconflict.training.settings import TrainingSettings
from infoconflict.training.trainer import Machine, Workers, train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A training run in words that can be handed to another process."""

    base_dir: str
    examples: str
    rows: int | None
    settings: dict[str, Any]
    seed: int
    out_dir: str
    losses: str
    scratch: str
    digest: str
    start_dir: str | None = None
    start_repair: str | None = None
    precision: str = "auto"
    quantization: str = "none"
    max_nodes: int = Machine.max_nodes
    gradient_checkpointing: bool = False


def run(request: Request, *, processes: int | None = None, cpu: bool = False) -> dict[str, Any]:
    """Train as requested and return the trainer's summary.

    ``processes`` defaults to the number of GPUs (at least one). The number changes speed, not the rows of an update.
    """
    import torch

    processes = processes or max(1, torch.cuda.device_count())
    if processes == 1:
        return train_request(request, Workers())
    with tempfile.TemporaryDirectory() as folder:
        written, summary = Path(folder) / "request.json", Path(folder) / "summary.json"
        write_json(written, dataclasses.asdict(request))
        command = [sys.executable, "-m", "accelerate.commands.launch", "--num_processes", str(processes)]
        command += [
            "--num_machines",
            "1",
            "--mixed_precision",
            "no",
            "--dynamo_backend",
            "no",
            "--main_process_port",
            "0",
        ]
        command += ["--cpu"] if cpu else []
        command += ["--module", "infoconflict.training.launch", str(written), str(summary)]
        done = subprocess.run(command, check=False, env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())})
        if done.returncode or not summary.exists():
            raise UserError(
                f"training in {processes} processes ended with exit status {done.returncode}; the lines above in this log say why"
            )
        result: dict[str, Any] = read_json(summary)
        return result


def train_request(request: Request, workers: Workers, device: Any = None) -> dict[str, Any]:
    """Train in this process."""
    examples = read_rows(request.examples)
    if request.rows is not None:
        if request.rows > len(examples):
            raise UserError(
                f"training rows: {request.rows}, but {request.examples} holds {len(examples)}; lower rows or set it to null"
            )
        examples = examples[: request.rows]
    return train(
        base_dir=request.base_dir,
        start_dir=request.start_dir,
        start_repair=request.start_repair,
        examples=examples,
        settings=TrainingSettings.from_spec(request.settings),
        seed=request.seed,
        out_dir=request.out_dir,
        losses_path=request.losses,
        checkpoints=Checkpoints(Path(request.scratch), request.digest),
        precision=request.precision,
        quantization=request.quantization,
        machine=Machine(max_nodes=request.max_nodes, gradient_checkpointing=request.gradient_checkpointing),
        workers=workers,
        device=device,
    )


def main(request_file: str, summary_file: str) -> None:
    """Be one of the processes that accelerate starts."""
    from accelerate import PartialState

    state = PartialState()
    request = Request(**json.loads(Path(request_file).read_text(encoding="utf-8")))
    summary = train_request(request, Workers(state.process_index, state.num_processes), state.device)
    if state.is_main_process:
        write_json(summary_file, summary)
    state.wait_for_everyone()
    state.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
