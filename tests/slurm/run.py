"""Run Snakemake with the Slurm profile, and look at the jobs it sent."""

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.slurm.node import SlurmNode

ROOT = Path(__file__).parents[2]
OVERLAY = Path(__file__).with_name("overlay")


def run_snakemake(
    node: SlurmNode, *words: str, cwd: Path, meanwhile: Callable[[], None] = lambda: None, timeout_s: float = 2400
) -> str:
    """Run ``snakemake --profile slurm`` with the overlay behind it, and return its verbose log.

    ``meanwhile`` is called ten times a second until the run ends. A failed or late run is an AssertionError that shows
    the end of the log.
    """
    log = cwd / "snakemake.log"
    command = [sys.executable, "-m", "snakemake", "--profile", "slurm", "--profile", str(OVERLAY), *words]
    process = node.popen(command, cwd=cwd, log=log)
    deadline = time.monotonic() + timeout_s
    try:
        while process.poll() is None and time.monotonic() < deadline:
            meanwhile()
            time.sleep(0.1)
    finally:
        process.kill()
        process.wait()
    text = log.read_text()
    assert process.returncode == 0, "\n".join([*text.splitlines()[-120:], *map(str, node.jobs()), node.logs()])
    return text


def submissions(log: str) -> dict[str, list[str]]:
    """Return the sbatch options of a verbose log by rule, in the order of sending."""
    found: dict[str, list[str]] = {}
    for call in re.findall(r"sbatch call: (sbatch .*?) --wrap", log):
        rule = re.search(r"--comment rule_([a-z_]+?)(_wildcards_\S*)? ", call)
        assert rule, f"a submission without a rule: {call}"
        found.setdefault(rule[1], []).append(call)
    return found


def option(call: str, name: str) -> str | None:
    """Return the value of an sbatch option, written ``--name value``, ``--name=value`` or ``-n value``, or None."""
    match = re.search(rf"(?<!\S){re.escape(name)}[ =](\S+)", call)
    return match[1].strip("'") if match else None


def gpus_and_partition(call: str) -> tuple[str | None, str | None]:
    """Return what an sbatch line asks for: GPUs and partition."""
    return option(call, "--gpus"), option(call, "-p")
