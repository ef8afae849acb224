"""One finished run of the tiny config in a copy of the checkout, which all workflow tests look at."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from infoconflict.config.loading import read_config
from infoconflict.grid import build_grid
from tests.workflow.planning import forked_snakemake

ROOT = Path(__file__).parents[2]
TINY = "config/tiny.yaml"
# A part of the tiny grid, which is planned quickly; its results are a part of the whole grid's.
CONFIG = "config/chain.yaml"
PARTS = ("Snakefile", "workflow", "config", "src", "reports", "tests/data")


@dataclass
class Checkout:
    """A copy of the repository in which Snakemake runs; ``ran_in`` is where its results were made."""

    folder: Path
    ran_in: Path | None = None

    def snakemake(self, *arguments: str, config: str = CONFIG, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on a config and return what it said; jobs begin with their libraries loaded."""
        # The default scheduler solves a linear program before each job.
        line = ["--cores", "2", "--scheduler", "greedy", "--configfile", config, *arguments]
        if "-n" in arguments:
            done = forked_snakemake(line, self.folder)
        else:
            program = "snakemake" if "--report" in arguments else "tests.workflow.forked"
            done = subprocess.run(
                [sys.executable, "-m", program, *line],
                cwd=self.folder,
                env=os.environ | {"PYTHONPATH": f"{self.folder / 'src'}{os.pathsep}{ROOT}"},
                capture_output=True,
                text=True,
                check=False,
            )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def planned(self, *arguments: str, config: str = CONFIG) -> dict[str, int]:
        """Return how many jobs of each rule a dry run would start."""
        said = self.snakemake("-n", "--quiet", "rules", *arguments, config=config)
        table = re.findall(r"^(\w+) +(\d+)$", said.stdout + said.stderr, flags=re.MULTILINE)
        return {rule: int(count) for rule, count in table if rule not in ("all", "total")}


def copy_of_checkout(folder: Path) -> Checkout:
    """Copy what a run needs; results stay behind."""
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / part)
    part_of_grid = yaml.safe_load((ROOT / "tests/workflow/chain.yaml").read_text())
    whole = yaml.safe_load((ROOT / TINY).read_text())
    (folder / CONFIG).write_text(yaml.safe_dump(whole | part_of_grid, sort_keys=False))
    return Checkout(folder)


def said_by_snakemake(folder: Path, config: str, target: str) -> str:
    """Run a target that needs no library of models, so that loading them beforehand would only cost time."""
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", target, "--cores", "1", "--quiet", "all", "--configfile", config],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def run_all(checkout: Checkout) -> str:
    """Answer the whole tiny grid, then do all that its part asks for; return what was said if it failed."""
    grid = build_grid(read_config(checkout.folder / TINY))
    answers = [
        f"results/answers/{cell.model}/{cell.dataset}/{cell.attack}/{cell.defense}/s{cell.seed}/answers.jsonl"
        for cell in (*grid.cells, *grid.controls())
    ]
    for config, targets in ((TINY, answers), (CONFIG, [])):
        done = checkout.snakemake("--quiet", "rules", "--", *targets, config=config, check=False)
        if done.returncode:
            return done.stdout + done.stderr
    return ""


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Run the whole tiny config once: three architectures, all attacks, defenses and merges."""
    if folder := os.environ.get("INFOCONFLICT_FINISHED"):
        # For work on these tests: a copy of a checkout that has finished, which they may edit.
        return Checkout(Path(folder), ran_in=Path(folder))
    own = tmp_path_factory.mktemp("checkout")
    if "PYTEST_XDIST_WORKER" not in os.environ:
        failed = run_all(copy_of_checkout(own))
        assert not failed, failed
        return Checkout(own, ran_in=own)
    # Several processes: the first to come runs it, each edits a copy.
    shared = own.parents[1] / "finished"
    said = shared.with_suffix(".txt")
    with shared.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not said.exists():
            shared.mkdir()
            said.write_text(run_all(copy_of_checkout(shared)))
    assert not said.read_text(), said.read_text()
    shutil.copytree(shared, own, dirs_exist_ok=True)
    return Checkout(own, ran_in=shared)
