"""What every workflow script shares: its log, its errors, and that it is alone at its work."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

# A script as Snakemake runs it, whose work is to wait for a line.
SCRIPT = textwrap.dedent("""
    import sys
    from types import SimpleNamespace as Given

    from infoconflict.errors import UserError
    from infoconflict.jobs import job


    class Named(dict):
        pass


    empty = dict.fromkeys(["input", "output", "wildcards", "resources"], Named())
    smk = Given(rule="train", params=Given(spec="{}"), threads=1, log=[sys.argv[1]], **empty)
    with job(smk):
        print("in the log")
        with open(sys.argv[2], "a") as done:
            done.write("begun\\n")
        line = sys.stdin.readline()
        if "wrong" in line:
            raise UserError("data.csv: is empty; name another")
        if "broken" in line:
            raise ZeroDivisionError
""")


@pytest.fixture
def start(tmp_path):
    """Start a script; whatever is still running at the end is ended."""
    (tmp_path / "script.py").write_text(SCRIPT)
    started = []

    def run() -> subprocess.Popen[str]:
        command = [sys.executable, tmp_path / "script.py", tmp_path / "logs/train.log", tmp_path / "done"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        started.append(subprocess.Popen(command, text=True, cwd=Path.cwd(), **pipes))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.communicate()


def begun(folder: Path) -> int:
    done = folder / "done"
    return done.read_text().count("begun") if done.exists() else 0


def wait_until_begun(folder: Path, process: subprocess.Popen[str]) -> None:
    while not begun(folder):
        assert process.poll() is None, process.stderr.read()


@pytest.mark.parametrize("end", ["killed", "done"])
def test_a_process_left_behind_is_waited_for(start, tmp_path, end):
    first = start()
    wait_until_begun(tmp_path, first)
    second = start()
    told = second.stderr.readline()
    assert re.match(r"train: a process of an earlier run, .* Its number is in .*train\.log: end it to go on", told)
    time.sleep(0.5)
    assert begun(tmp_path) == 1
    if end == "killed":
        number = int(re.search(r"Process (\d+) on ", (tmp_path / "logs/train.log").read_text())[1])
        assert number == first.pid
        os.kill(number, signal.SIGKILL)
    else:
        first.communicate("go on\n")
    assert second.communicate("go on\n") == ("", "")
    assert second.returncode == 0
    assert begun(tmp_path) == 2


@pytest.mark.parametrize(
    ("line", "console", "log"),
    [
        ("fine", r"", r"Process \d+ on .*\nin the log\n"),
        ("wrong", r"train: data\.csv: is empty; name another\n", r".*\nError: data\.csv: is empty; name another\n"),
        ("broken", r"train: failed; the traceback is in .*train\.log\n", r".*\nTraceback.*ZeroDivisionError\n"),
    ],
)
def test_the_log_has_all_and_the_console_a_sentence(start, tmp_path, line, console, log):
    process = start()
    told = process.communicate(f"{line}\n")
    assert told[0] == ""
    assert re.fullmatch(console, told[1])
    assert re.fullmatch(log, (tmp_path / "logs/train.log").read_text(), re.DOTALL)
    assert process.returncode == (line != "fine")
