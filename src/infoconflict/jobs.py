"""What every workflow script shares: its log, its settings, its card, and errors that a user can read."""

import contextlib
import fcntl
import json
import os
import platform
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from infoconflict.cards import Card
from infoconflict.errors import UserError
from infoconflict.progress import say


class Job:
    """One run of a rule, seen from its script.

    ``spec`` holds the settings that decide the result (the script reads no others), ``cell`` the wildcards, ``machine`` the
    resources, which decide none.
    """

    def __init__(self, smk: Any, console: int | None = None) -> None:
        self.input, self.output = smk.input, smk.output
        self.spec: dict[str, Any] = json.loads(smk.params.spec)
        self.cell: dict[str, str] = {name: str(value) for name, value in smk.wildcards.items()}
        self.machine: dict[str, Any] = dict(smk.resources.items())
        self.threads: int = smk.threads
        self.log = str(smk.log[0])
        self.console = console
        code = smk.input.get("code", ())
        files = [code] if isinstance(code, str) else list(code)
        self.card = Card(str(smk.rule), cell=self.cell, spec=self.spec, code=files)

    @property
    def seed(self) -> int:
        """The cell's seed."""
        return int(self.cell["seed"])

    def scratch(self, digest: str) -> Path:
        """Return the folder, outside all declared outputs, where this job keeps what a later run may continue."""
        return Path("scratch") / self.card.stage / digest

    def tell(self, text: str) -> None:
        """Write a text where the user watches the run, and to the log."""
        say(text)
        if self.console is not None:
            os.write(self.console, f"{text}\n".encode())

    def use_threads(self) -> None:
        """Let torch use the threads that the job was given."""
        import torch

        torch.set_num_threads(self.threads)


@contextlib.contextmanager
def job(smk: Any) -> Iterator[Job]:
    """Run the block as the job of a script: streams go to the log, user errors end it with their sentence alone.

    It begins once no process of an earlier run is at work on the same outputs any more.
    """
    log = Path(smk.log[0])
    log.parent.mkdir(parents=True, exist_ok=True)
    console = os.dup(2)
    alone = _wait_for_earlier(log, smk.rule, console)
    with log.open("a", encoding="utf-8") as stream:
        # On the level of file descriptors, so that C libraries and child processes write to the log, too.
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    try:
        yield Job(smk, console)
        sys.stdout.flush()
    except UserError as error:
        say(f"Error: {error}")
        os.write(console, f"{smk.rule}: {error}\n".encode())
        raise SystemExit(1) from None
    except Exception:
        traceback.print_exc()
        os.write(console, f"{smk.rule}: failed; the traceback is in {log}\n".encode())
        raise SystemExit(1) from None
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        alone.close()


def _wait_for_earlier(log: Path, rule: str, console: int) -> IO[str]:
    """Return the log with a lock on it, after any other holder has ended.

    A Snakemake that is killed by force leaves its jobs behind, which go on beside those of the next run. A log belongs to one
    job, and the system frees a lock when its process ends in whatever way; children do not inherit it.
    """
    stream = log.open("a", encoding="utf-8")
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = f"{rule}: a process of an earlier run, left behind when that was killed, is still at work on this"
        os.write(
            console, f"{told}; waiting for it. Its number is in {log}: end it to go on from what it kept.\n".encode()
        )
        fcntl.flock(stream, fcntl.LOCK_EX)
    except OSError:
        # A file system without locks.
        pass
    stream.write(f"Process {os.getpid()} on {platform.node()}\n")
    stream.flush()
    return stream
