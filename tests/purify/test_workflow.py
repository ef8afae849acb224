"""The purification as Snakemake sees it: its jobs, and what an edit would run again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from infoconflict.purify.options import main

ROOT = Path(__file__).parents[2]
RULES = ("check", "rows", "strings", "train", "choose_t", "merge", "answer", "report")

pytestmark = pytest.mark.workflow


def snakemake(out, *arguments, config="purify.yaml"):
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "workflow/rules/purify.smk")]
    command += ["--directory", str(out), "--configfile", str(out / config), "--cores", "1", *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture
def out(models, tmp_path):
    given = {"MODEL": models / "adapter", "BASE": models / "base", "DATA": ROOT / "tests/data/reviews.csv"}
    assert main({name: str(value) for name, value in given.items()} | {"OUT": str(tmp_path / "out")}) == 0
    return tmp_path / "out"


def test_the_jobs_of_a_purification(out):
    done = snakemake(out, "--dry-run", "--quiet", "rules")
    assert done.returncode == 0, done.stderr
    counts = dict(line.split() for line in (done.stdout + done.stderr).splitlines() if line.startswith("purify"))
    assert counts.pop("purify") == "1"
    assert counts == {f"purify_{rule}": "4" if rule == "answer" else "1" for rule in RULES}


def test_a_mistake_in_the_config_is_one_sentence(out):
    (out / "purify.yaml").write_text("model: a\nbase: b\ndata: c\nmergee: {}\n")
    done = snakemake(out, "--dry-run")
    assert done.returncode != 0
    assert "unknown key 'mergee'; did you mean 'merge'?" in done.stdout + done.stderr


def test_a_path_that_leads_nowhere_is_one_sentence(out, models):
    for key, wrong in (("data", "no/rows.csv"), ("model", "/no/model"), ("base", f"{models}/base/config.json")):
        written = (out / "purify.yaml").read_text()
        (out / "wrong.yaml").write_text(re.sub(rf"(?m)^{key}: .*$", f"{key}: {wrong}", written))
        done = snakemake(out, "--dry-run", config="wrong.yaml")
        assert done.returncode != 0
        assert re.search(rf"wrong.yaml, {key}: {wrong} is (no|a) ", done.stdout + done.stderr), (
            done.stdout + done.stderr
        )
        assert "MissingInput" not in done.stdout + done.stderr


def test_a_hostile_model_ends_the_run_with_its_sentence(out, spoiled):
    suspect = spoiled("adapter")
    (suspect / "optimizer.pt").write_bytes(b"")
    text = (out / "purify.yaml").read_text().splitlines()
    (out / "purify.yaml").write_text("\n".join([f"model: {suspect}", *text[2:]]) + "\n")
    done = snakemake(out, "work/suspect")
    assert done.returncode != 0
    assert "purify_check: " in done.stderr
    assert "optimizer.pt: a pickle" in done.stderr
    assert not (out / "work/suspect").exists()


@pytest.fixture
def make(tmp_path):
    """Return a function that calls a target of the Makefile with the programs of this environment and the code of this checkout."""
    (tmp_path / "bin").mkdir()
    for name, words in (("python", ""), ("snakemake", "-m snakemake")):
        program = tmp_path / "bin" / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT / "src"}" exec "{sys.executable}" {words} "$@"\n')
        program.chmod(0o755)

    def call(target, **variables):
        # Nothing is installed: what marks the environment as whole counts as there and old.
        command = ["make", "--old-file", ".venv/.installed", target, f"BIN={tmp_path / 'bin'}"]
        command += [f"{name}={value}" for name, value in variables.items()]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return call


def test_make_ends_with_the_sentence_of_the_step_that_failed(make, models, spoiled, tmp_path):
    suspect = spoiled("adapter")
    (suspect / "optimizer.pt").write_bytes(b"")
    given = {
        "MODEL": suspect,
        "BASE": models / "base",
        "DATA": ROOT / "tests/data/reviews.csv",
        "OUT": tmp_path / "out",
    }
    done = make("purify", **given)
    assert done.returncode != 0
    *_, sentence, of_make = done.stderr.splitlines()
    assert sentence.startswith(f"{suspect}, optimizer.pt: a pickle or its like")
    # `make test` starts a make within make, which names its level: make[1].
    assert re.match(r"make(\[\d+\])?: \*\*\*", of_make)
    done = make("purify", **given | {"DATA": tmp_path / "none.csv"})
    *_, sentence, of_make = done.stderr.splitlines()
    assert sentence.startswith(f"make purify, data: {tmp_path / 'none.csv'} is no file")
