"""Snakemake whose Python scripts begin in a process that has loaded the libraries: `python -m tests.workflow.forked ARGUMENTS`.

Starting Python and importing torch takes longer than most jobs on generated models. Here a process does that once and forks for
each job: the same script, as Snakemake wrote it, in a process of its own, with its own exit status. Nothing else differs.
"""

import gc
import os
import runpy
import selectors
import socket
import subprocess
import sys
import threading
import time
import traceback

LIBRARIES = (
    *("torch", "transformers", "peft", "safetensors.torch", "pandas", "matplotlib.pyplot", "datasets", "openai"),
    *("infoconflict.training.trainer", "infoconflict.merging.mergekit_runner", "mergekit.merge"),
)


def serve(channel: socket.socket) -> None:
    """Fork for each request (``number folder script``) and say how each child ended (``number status``)."""
    for name in LIBRARIES:
        try:
            __import__(name)
        except ImportError:
            traceback.print_exc()
    # A forked child must find no thread pool that stayed behind in its parent: this process computes nothing.
    import transformers

    for lazy in ("AutoModelForCausalLM", "AutoTokenizer", "GPT2LMHeadModel", "GPTJForCausalLM", "LlamaForCausalLM"):
        getattr(transformers, lazy)
    # A collection writes to every object it looks at, so that a child would copy all of the libraries: 0.4 s of a job's second.
    gc.collect()
    gc.freeze()
    with selectors.DefaultSelector() as ready:
        ready.register(channel, selectors.EVENT_READ)
        asked = b""
        while True:
            for key, _ in ready.select():
                if key.fileobj is not channel:
                    number, child = key.data
                    ready.unregister(key.fileobj)
                    os.close(key.fd)
                    _, ended = os.waitpid(child, 0)
                    channel.sendall(f"{number}\t{os.waitstatus_to_exitcode(ended)}\n".encode())
                    continue
                received = channel.recv(1 << 16)
                if not received:
                    return
                *lines, asked = (asked + received).split(b"\n")
                for line in lines:
                    number, folder, script = line.decode().split("\t")
                    child, end = fork(folder, script)
                    ready.register(end, selectors.EVENT_READ, (number, child))


def fork(folder: str, script: str) -> tuple[int, int]:
    """Run a script in a child; return its process id, and a descriptor that is readable once it has ended."""
    readable, held = os.pipe()
    child = os.fork()
    if child:
        os.close(held)
        return child, readable
    status = 1
    try:
        os.chdir(folder)
        sys.argv = [script]
        runpy.run_path(script, run_name="__main__")
        status = 0
    except SystemExit as stop:
        status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Forks:
    """The other end: asks for a script to be run and waits for its status."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self.lock = threading.Lock()
        self.waiting: dict[str, tuple[threading.Event, list[int]]] = {}
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self.channel.makefile("r"):
            number, status = line.split("\t")
            event, statuses = self.waiting.pop(number)
            statuses.append(int(status))
            event.set()
        # Nobody is left to run anything.
        for event, statuses in self.waiting.values():
            statuses.append(1)
            event.set()

    def run(self, script: str) -> None:
        """Run a script to its end; a status other than 0 is an error, as for any command."""
        event, statuses = threading.Event(), []
        with self.lock:
            number = os.urandom(8).hex()
            self.waiting[number] = event, statuses
            self.channel.sendall(f"{number}\t{os.getcwd()}\t{script}\n".encode())
        event.wait()
        if statuses[0]:
            raise subprocess.CalledProcessError(statuses[0], ["python", script])


def main(arguments: list[str]) -> None:
    """Run Snakemake with the given arguments."""
    ours, theirs = socket.socketpair()
    # Before Snakemake starts threads of its own.
    if os.fork() == 0:
        ours.close()
        serve(theirs)
        os._exit(0)
    theirs.close()
    forks = Forks(ours)

    import snakemake.script
    from snakemake import cli

    def execute_script(self, fname: str, edit: bool = False) -> None:
        started = time.monotonic()
        forks.run(fname)
        if self.bench_record is not None:
            self.bench_record.running_time = time.monotonic() - started

    snakemake.script.PythonScript.execute_script = execute_script
    cli.main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
