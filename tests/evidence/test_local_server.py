"""The real `transformers serve`, on a generated two-layer model; and what happens when things go wrong around it."""

import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from infoconflict.errors import UserError
from infoconflict.evidence.collect import collect_evidence
from infoconflict.evidence.local_server import local_server
from infoconflict.records import Evidence, Example


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that ended and waits for its parent to look does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def ends_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_running(pid)


def test_evidence_from_a_real_server(tiny_dirs: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        Example(id=str(n), instruction="Good?", text=f"a film of {word}", label="joy", gold_label="joy")
        for n, word in enumerate(["rivers", "actors", "storms", "letters"])
    ]
    provider = {"kind": "local_server", "model": "tiny_llama", "temperature": 0.7, "max_tokens": 8, "concurrency": 4}
    summary = collect_evidence(
        [(rows, tmp_path / "evidence.jsonl")],
        options={"branch": "construction", "provider": provider | {"max_retries": 1, "timeout_s": 60}},
        labels=["joy", "anger"],
        scratch=tmp_path / "scratch",
        model_dir=tiny_dirs["llama"],
        server_log=tmp_path / "server.log",
    )
    found = Evidence.read(tmp_path / "evidence.jsonl")
    # An untrained model says anything; what counts is that it was asked and that it answered.
    assert {row.status for row in found} <= {"ok", "garbled", "empty", "label_leak"}
    assert all(row.completion_tokens > 0 and row.prompt_tokens > 0 and row.attempts > 0 for row in found)
    assert len({row.reply for row in found}) > 1
    assert {row.model for row in found} == {"tiny_llama"}  # a name of the config, no path of this machine
    assert summary["continuous_batching"] is True
    log = (tmp_path / "server.log").read_text()
    assert "CB: True" in log
    process = int(log.rpartition("Finished server process [")[2].split("]")[0])  # it ended of itself, when asked to
    assert not is_running(process)


# It names its server's process, then waits to be ended.
PARENT = """
import sys, time
from infoconflict.evidence.local_server import local_server
with local_server(sys.argv[1], sys.argv[2]) as server:
    print(server.pid, flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("way", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_parent_leaves_no_server(
    way: signal.Signals, tmp_path: Path, fake_serve: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # a killed parent does leave its folder of links
    arguments = [sys.executable, "-c", PARENT, str(fake_serve), str(tmp_path / "server.log")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline().split()[0])
        assert is_running(pid)
        parent.send_signal(way)
    assert ends_within(pid, 60)


def test_an_error_in_the_block_stops_the_server(tmp_path: Path, fake_serve: Path) -> None:
    pids = []

    def fail_inside() -> None:
        with local_server(fake_serve, tmp_path / "server.log") as server:
            pids.append(server.pid)
            assert urllib.request.urlopen(f"{server.base_url}/models").status == 200
            raise RuntimeError("inside the block")

    with pytest.raises(RuntimeError, match="inside"):
        fail_inside()
    assert not is_running(pids[0])


def test_a_server_that_will_not_go_is_forced(tmp_path: Path, fake_serve: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SERVE", "stubborn")
    monkeypatch.setattr("infoconflict.evidence.local_server.GRACE_S", 0.5)
    with local_server(fake_serve, tmp_path / "server.log") as server:
        pass
    assert not is_running(server.pid)


def test_a_server_without_continuous_batching_is_tried_next(
    tmp_path: Path, fake_serve: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAKE_SERVE", "no batching")
    with local_server(fake_serve, tmp_path / "server.log") as server:
        assert not server.continuous_batching
    assert "trying without" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("fault", "message"), [("crash", "ended with status 3.*no such thing"), ("refuse", "answers with status 500")]
)
def test_a_server_that_does_not_come_up_is_explained(
    fault: str, message: str, tmp_path: Path, fake_serve: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_SERVE", fault)
    with pytest.raises(UserError, match=message) as caught, local_server(fake_serve, tmp_path / "server.log"):
        pass
    assert "server.log" in str(caught.value)


def test_a_server_that_hangs_is_given_up(tmp_path: Path, fake_serve: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_SERVE", "hang")
    with (
        pytest.raises(UserError, match=r"within 1 s"),
        local_server(fake_serve, tmp_path / "server.log", start_timeout_s=1.0, continuous_batching=False),
    ):
        pass


def test_an_absent_checkpoint_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no checkpoint"), local_server(tmp_path, tmp_path / "log"):
        pass


def test_keys_and_proxies_do_not_reach_the_server(
    tmp_path: Path, fake_serve: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with local_server(fake_serve, tmp_path / "server.log", threads=3):
        pass
    log = (tmp_path / "server.log").read_text()
    assert "HF_HUB_OFFLINE=1" in log
    assert "OMP_NUM_THREADS=3" in log
    assert "sk-very-secret" not in log
    assert "https_proxy" not in log


# Stands in for the command line of transformers, so that faults take seconds. The stand-in is found first because
# PYTHONPATH stands before installed packages.
FAKE = """
import http.server, json, os, signal, sys, time
def main():
    fault = os.environ.get("FAKE_SERVE", "")
    print(*(f"{k}={v}" for k, v in sorted(os.environ.items())), sep="\\n", flush=True)
    assert sys.argv[:3] == ["transformers", "serve", "model"], sys.argv
    settings = json.load(open("model/generation_config.json"))
    assert settings == {"eos_token_id": 2, "do_sample": True}, settings
    if fault == "hang":
        time.sleep(600)
    if fault == "crash" or (fault == "no batching" and "--continuous-batching" in sys.argv):
        print("no such thing")
        sys.exit(3)
    if fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.do_POST()
        def do_POST(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(500 if fault == "refuse" else 200)
            self.end_headers()
            self.wfile.write(json.dumps({"choices": []}).encode())
    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    print(f"Uvicorn running on http://127.0.0.1:{server.server_address[1]} (Press CTRL+C to quit)", flush=True)
    server.serve_forever()
"""


@pytest.fixture
def fake_serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a stand-in for the command into the path, and return a checkpoint for it."""
    package = tmp_path / "stand_in" / "transformers" / "cli"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "transformers.py").write_text(FAKE)
    path = [str(tmp_path / "stand_in"), str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "config.json").write_text('{"eos_token_id": 2, "bos_token_id": null}')
    return checkpoint
