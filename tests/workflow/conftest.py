"""One finished run of the tiny config in a copy of the checkout, which all workflow tests look at."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = "config/tiny.yaml"
PARTS = ("Snakefile", "workflow", "config", "src", "reports", "tests/data")


@dataclass
class Checkout:
    """A copy of the repository in which Snakemake runs."""

    folder: Path

    def snakemake(self, *arguments: str, config: str = CONFIG, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Snakemake on a config and return what it said."""
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", config, *arguments],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(self.folder / "src")},
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
    return Checkout(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Run the whole tiny config once: three architectures, all attacks, defenses and merges."""
    checkout = copy_of_checkout(tmp_path_factory.mktemp("checkout"))
    checkout.snakemake()
    return checkout
