"""The real workflow, from data to report, by ``snakemake --profile slurm`` on a real Slurm, with trouble on the way."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.slurm.node import SlurmNode
from tests.slurm.run import ROOT, gpus_and_partition, option, run_snakemake, submissions

pytestmark = pytest.mark.slurm

# The evidence of this config is asked of a model that the job itself serves.
ON_GPU = {"train_backdoored", "train_clean_tuned", "train_conflict", "choose_t", "sweep_merge", "answer"} | {
    "compare_generation",
    "collect_evidence_clean",
    "collect_evidence_triggered",
}
ON_CPU = {"prepare_model", "merge_models"}
PREEMPTED = "logs/train_clean_tuned/tiny_llama.reviews.s0.log"


def checkout(folder: Path) -> None:
    """Copy what `snakemake --profile slurm` needs of a checkout, and write the smallest config that has every stage."""
    for name in ("Snakefile", "workflow", "config", "slurm", "reports", "tests/data"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    config = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
    config["grid"] |= {"models": ["tiny_llama"], "attacks": ["cba"], "defenses": ["none", "conflict"], "skip": []}
    config["defenses"]["conflict"] = {"method": "conflict", "merge": "linear", "evidence": "served_keywords"}
    config["sweep"]["merges"] = ["linear"]
    config |= {"clean_share_curve": {}, "direct": {}, "role_swap": {}}
    config["controls"] = ["control_base", "control_conflict", "control_clean_tuned"]
    # Half a minute of training on a fast machine, so that there is something to interrupt.
    config["training"]["backdoored"]["epochs"] = 80
    (folder / "config/slurm_test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def process_of(script: str, folder: Path) -> int | None:
    """Return the process that runs a workflow script in a folder, or None."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            here = (entry / "cwd").readlink() == folder
        except OSError:  # it has ended in the meantime
            continue
        if here and any(re.fullmatch(rf".*/\.snakemake/scripts/\S*{script}\.py", word) for word in words):
            return int(entry.name)
    return None


class Trouble:
    """Kill one training job and preempt another, each once, in the middle of their work."""

    def __init__(self, slurm: SlurmNode, folder: Path) -> None:
        self.slurm, self.folder = slurm, folder
        self.killed = 0
        self.preempted = ""

    def __call__(self) -> None:
        if not self.killed and (pid := process_of("train_backdoored", self.folder)):
            os.kill(pid, signal.SIGKILL)
            self.killed = pid
        log = self.folder / PREEMPTED
        if not self.preempted and log.exists() and "update " in log.read_text():
            job = next(
                job
                for job in self.slurm.jobs()
                if job["comment"].startswith("rule_train_clean_tuned") and job["state"] == "RUNNING"
            )
            self.slurm.run("scontrol", "requeue", job["id"])
            self.preempted = job["id"]


def test_chain_on_slurm(slurm: SlurmNode, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    checkout(tmp_path)
    trouble = Trouble(slurm, tmp_path)
    configured = ["--configfile", "config/slurm_test.yaml"]
    log = run_snakemake(slurm, *configured, cwd=tmp_path, meanwhile=trouble)
    sent = submissions(log)

    # Every rule that is more than a moment's work was sent, with a GPU just where a model computes; the rest ran here.
    assert set(sent) == ON_GPU | ON_CPU
    for rule, calls in sent.items():
        assert {gpus_and_partition(call) for call in calls} == {("1", "gpu") if rule in ON_GPU else (None, "cpu")}, rule

    # The killed training was sent again, with more memory and time.
    assert trouble.killed
    first, second = sent["train_backdoored"]
    assert int(option(second, "--mem") or 0) > int(option(first, "--mem") or 0) > 1000
    assert int(option(second, "-t") or 0) > int(option(first, "-t") or 0) > 0

    # The preempted one was not: it went back into Slurm's queue, and went on where it had been.
    assert len(sent["train_clean_tuned"]) == 1
    assert "Restarts=1" in slurm.run("scontrol", "show", "job", trouble.preempted)
    assert re.search(r"continuing after update [1-9]\d* of", (tmp_path / PREEMPTED).read_text())

    # The chain has ended right: a report, and nothing left to do.
    assert (tmp_path / "results/report/index.html").stat().st_size > 10_000
    again = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "--dry-run", *configured],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "Nothing to be done" in again.stdout + again.stderr
