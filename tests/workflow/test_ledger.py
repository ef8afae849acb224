"""`snakemake ledger` before anything ran, and with what was spent beside it; a large run says it before it starts."""

import os
import re
import subprocess
import sys

import pytest

from infoconflict.files import write_json
from tests.workflow.conftest import copy_of_checkout

DEMO, TINY = "config/config.yaml", "config/tiny.yaml"


def said_by_snakemake(folder, config, target):
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


@pytest.mark.workflow
def test_predicted_and_spent(tmp_path):
    copy_of_checkout(tmp_path)

    def answers():
        said = said_by_snakemake(tmp_path, DEMO, "ledger")
        assert not list(tmp_path.glob("results/*"))[1:], "only the planted card is there"
        (row,) = re.findall(r"^answer .*$", said, flags=re.MULTILINE)
        return row.split()

    # Four defenses and three controls.
    assert answers()[:3] == ["answer", "7", "0"]
    cell = {"model": "smollm2_135m", "dataset": "film_reviews", "attack": "cba", "defense": "none", "seed": "0"}
    card = {"stage": "answer", "cell": cell, "cost": {"seconds": 7200, "stored_bytes": 10**9}}
    write_json(tmp_path / "results/answers/smollm2_135m/film_reviews/cba/none/s0/card.json", card)
    row = answers()
    assert row[:3] == ["answer", "7", "1"]
    # Spent, left (six more at the same pace), GB predicted and stored.
    assert row[5:9] == ["2.0", "12.0", "0.0", "1.0"]


@pytest.mark.workflow
def test_a_large_run_says_it_before_it_starts(tmp_path):
    copy_of_checkout(tmp_path)
    ledger = tmp_path / "src/infoconflict/ledger.py"
    ledger.write_text(re.sub(r"^LARGE_RUN_HOURS = .*$", "LARGE_RUN_HOURS = 0", ledger.read_text(), flags=re.MULTILINE))
    said = said_by_snakemake(tmp_path, TINY, "results/clean_share/reviews/s0/card.json")
    (row,) = re.findall(r"^all .*$", said, flags=re.MULTILINE)
    assert row.split()[:3] == ["all", "2", "0"]
