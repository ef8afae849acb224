"""A real HTTP server on this machine, `transformers serve` with a local checkpoint, for as long as a block runs.

It speaks OpenAI's protocol, so that whoever has no key goes the same way as whoever has one.
"""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from infoconflict.errors import UserError
from infoconflict.evidence.client import say
from infoconflict.files import PathLike, read_json

# The kernel ends the server when its parent ends, however that ends (prctl 1: PR_SET_PDEATHSIG). The child asks for it
# itself: code that runs between fork and exec is not safe beside threads. Elsewhere than on Linux, a server outlives a
# killed parent.
_CHILD = """
import os, signal, sys
parent = int(sys.argv.pop(1))
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
from transformers.cli.transformers import main
sys.argv[0] = "transformers"
main()
"""
_ADDRESS = re.compile(r"running on http://127\.0\.0\.1:(\d+)")

# The cache of continuous batching: 256 blocks of 32 tokens hold 64 questions of 128 tokens with their replies. Left to
# itself the server takes 60% of the machine's memory. Ours.
_CPU_CACHE = ("--cb-block-size", "32", "--cb-num-blocks", "256", "--cb-max-batch-tokens", "1024")
# How long a server may take to end when asked to, before it is forced. Ours.
GRACE_S = 10.0

# A base model has no chat template; its messages then simply follow each other.
_PLAIN_TEMPLATE = "{% for message in messages %}{{ message['content'] + '\\n' }}{% endfor %}"


@dataclass(frozen=True)
class LocalServer:
    """A running server: where it is, the model name that requests must use, its process, and how it was started."""

    base_url: str
    model: str
    pid: int
    dtype: str
    continuous_batching: bool


@contextlib.contextmanager
def local_server(
    model_dir: PathLike,
    log_path: PathLike,
    *,
    name: str = "model",
    temperature: float = 0.7,
    threads: int = 1,
    dtype: str = "auto",
    continuous_batching: bool = True,
    start_timeout_s: float = 300.0,
) -> Iterator[LocalServer]:
    """Serve a checkpoint while the block runs; the server has answered a completion before the block begins.

    Parameters
    ----------
    model_dir : path
        Checkpoint with safetensors and tokenizer.
    log_path : path
        Takes all that the server writes; started anew.
    name : str
        Model name that requests must use.
    temperature : float
        That all requests will use: with continuous batching the first request's holds for all.
    threads : int
        Threads that the server computes with.
    dtype : str
        Of the weights while serving. ``auto``: as stored where there is a GPU, else bfloat16 if the processor computes
        with it, else float32 (ours; on such a processor bfloat16 took 0.7 of the time).
    continuous_batching : bool
        Compute several replies together: ten times the replies per second, but not the same bytes each time. A
        model that cannot do it is served without.
    start_timeout_s : float
        Longest time until the first completion.

    Raises
    ------
    UserError
        If the checkpoint is absent, or the server ends or does not answer in time; the message ends with its log.
    """
    if not Path(model_dir, "config.json").is_file():
        raise UserError(f"{model_dir}: holds no checkpoint (no config.json) that a local server could answer with")
    if dtype == "auto" and not _has_gpu():
        dtype = "bfloat16" if _computes_bfloat16() else "float32"
    log = Path(log_path).absolute()
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="infoconflict-serve-") as folder:
        _present_model(Path(model_dir).absolute(), Path(folder, name))
        request = {
            "model": name,
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 2,
            "temperature": temperature,
        }
        ways = (True, False) if continuous_batching else (False,)
        for batching in ways:
            log.unlink(missing_ok=True)
            process = _start(Path(folder), name, log, threads=threads, dtype=dtype, batching=batching)
            try:
                try:
                    base_url = _wait_until_it_answers(process, request, log, model_dir, start_timeout_s)
                except UserError:
                    if batching is ways[-1]:
                        raise
                    say(f"the server did not start with continuous batching ({_last_line(log)}); trying without")
                    continue
                yield LocalServer(base_url, name, process.pid, dtype, batching)
                return
            finally:
                _stop(process)


def _present_model(model_dir: Path, view: Path) -> None:
    """Show a checkpoint under a plain name, with sampling on and a chat template.

    The server takes a request's temperature, but samples only if the checkpoint's generation settings say so; with a
    temperature of 0 it decodes greedily all the same. It also reads ``@`` and ``:`` in a path as marks of its own.
    """
    view.mkdir()
    for file in model_dir.iterdir():
        if file.name != "generation_config.json":
            (view / file.name).symlink_to(file)
    stored = model_dir / "generation_config.json"
    settings = read_json(stored) if stored.is_file() else _special_tokens(model_dir)
    (view / "generation_config.json").write_text(json.dumps({**settings, "do_sample": True}), encoding="utf-8")
    tokenizer = model_dir / "tokenizer_config.json"
    has_template = (model_dir / "chat_template.jinja").is_file() or (
        tokenizer.is_file() and bool(read_json(tokenizer).get("chat_template"))
    )
    if not has_template:
        (view / "chat_template.jinja").write_text(_PLAIN_TEMPLATE, encoding="utf-8")


def _special_tokens(model_dir: Path) -> dict[str, object]:
    config = read_json(model_dir / "config.json")
    names = ("bos_token_id", "eos_token_id", "pad_token_id")
    return {name: config[name] for name in names if config.get(name) is not None}


def _start(
    folder: Path, name: str, log: Path, *, threads: int, dtype: str, batching: bool
) -> "subprocess.Popen[bytes]":
    # Port 0: the system picks a free one, which no other program can take in between; the log tells which.
    # -P: the folder it runs in is no place to import from.
    command = [sys.executable, "-P", "-c", _CHILD, str(os.getpid()), "serve", name]
    command += ["--host", "127.0.0.1", "--port", "0", "--dtype", dtype]
    if batching:
        command += ["--continuous-batching", *(() if _has_gpu() else _CPU_CACHE)]
    hidden = re.compile(r"_proxy$|_API_KEY$|_TOKEN$", re.IGNORECASE)
    environment = {key: value for key, value in os.environ.items() if not hidden.search(key)}
    environment |= {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        # Threads that wait for each other sleep instead of spinning: on busy cores that is several times faster.
        "OMP_WAIT_POLICY": "PASSIVE",
    }
    with log.open("wb") as out:
        # Its own session: an interrupt from the keyboard reaches us, and we stop it; what it may start goes with it.
        return subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _wait_until_it_answers(
    process: "subprocess.Popen[bytes]", body: dict[str, object], log: Path, model_dir: PathLike, start_timeout_s: float
) -> str:
    deadline = time.monotonic() + start_timeout_s
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    why = "has not opened its port"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            why = f"ended with status {process.returncode}"
            break
        if address := _ADDRESS.search(log.read_text(encoding="utf-8", errors="replace")):
            base_url = f"http://127.0.0.1:{address[1]}/v1"
            request = urllib.request.Request(
                f"{base_url}/chat/completions",
                data=json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            try:
                with opener.open(request, timeout=max(1.0, deadline - time.monotonic())) as response:
                    if "choices" in json.load(response):
                        return base_url
                why = "does not answer with a completion"
            except urllib.error.HTTPError as error:
                why = f"answers with status {error.code}"
                break
            except (OSError, ValueError) as error:
                why = f"does not answer ({type(error).__name__})"
        time.sleep(0.1)
    tail = " | ".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-8:])
    raise UserError(
        f"the local server with {model_dir} {why} within {start_timeout_s:.0f} s; correct what its log {log} names: "
        f"{tail}"
    )


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return lines[-1].strip() if lines else "its log is empty"


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """End the server's process group: asked first, forced when it does not go."""
    for ending in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, ending)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
            return


def _has_gpu() -> bool:
    # A device file is not a device that this job may use; but without one, importing torch to ask it is time lost.
    if not (Path("/dev/nvidia0").exists() or Path("/dev/kfd").exists()):
        return False
    import torch

    return bool(torch.cuda.is_available())


def _computes_bfloat16() -> bool:
    """Tell whether the processor has instructions for products of bfloat16; without them it is slower than float32."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8", errors="replace") if cpuinfo.is_file() else ""
    return re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags) is not None
