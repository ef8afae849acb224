"""Replies per second of the local server, one by one and batched, on the same questions and machine.

    python benchmarks/bench_evidence_server.py

Also says how many replies come out the same when everything is asked again: with continuous batching a reply depends on
what else is under way.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import add_common_options, check_base, table, write_result

from infoconflict.errors import UserError
from infoconflict.evidence.client import ChatEndpoint
from infoconflict.evidence.construction import construction_question
from infoconflict.evidence.local_server import local_server
from infoconflict.evidence.provider import Question, Reply

WORDS = (
    *("river", "actor", "stage", "storm", "bridge", "candle", "letter", "garden", "mirror", "engine", "window"),
    *("castle", "forest", "market", "painter", "harbor", "journey", "kitchen", "ladder", "meadow", "orchard"),
)


def questions(n: int, seed: int) -> list[Question]:
    """Return ``n`` different questions about two to six words."""
    rng = random.Random(seed)
    drawn = {tuple(rng.sample(WORDS, rng.randint(2, 6))): None for _ in range(2 * n)}
    return [construction_question(words) for words in list(drawn)[:n]]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def ask(
    base_url: str, model: str, asked: list[Question], arguments: argparse.Namespace, concurrency: int
) -> list[Reply]:
    replies: dict[str, Reply] = {}
    endpoint = ChatEndpoint(
        base_url,
        model,
        temperature=arguments.temperature,
        max_tokens=arguments.max_tokens,
        concurrency=concurrency,
        timeout_s=600,
    )
    endpoint.ask_all(asked, lambda question, reply: replies.__setitem__(question.sha256, reply))
    return [replies[question.sha256] for question in asked]


def measure(options: argparse.Namespace, *, batching: bool, concurrency: int, n: int) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory() as folder,
        local_server(
            options.base,
            Path(folder, "server.log"),
            temperature=options.temperature,
            threads=options.threads,
            dtype=options.dtype,
            continuous_batching=batching,
        ) as server,
    ):
        asked = questions(n, seed=options.seed)
        started, cpu = time.monotonic(), cpu_seconds(server.pid)
        replies = ask(server.base_url, server.model, asked, options, concurrency)
        seconds, cpu = time.monotonic() - started, cpu_seconds(server.pid) - cpu
        tokens = sum(reply.completion_tokens for reply in replies)
        row: dict[str, Any] = {
            "continuous_batching": server.continuous_batching,
            "dtype": server.dtype,
            "concurrency": concurrency,
            "questions": n,
            "replies_per_second": round(n / seconds, 2),
            "tokens_per_second": round(tokens / seconds, 1),
            "server_cpu_seconds_per_reply": round(cpu / n, 3),
            "usable": sum(reply.status == "ok" for reply in replies),
        }
        if options.repeat:
            again = ask(server.base_url, server.model, asked, options, concurrency)
            row["same_again"] = sum(a.text == b.text for a, b in zip(replies, again, strict=True))
        return row


def run_all(options: argparse.Namespace) -> None:
    check_base(options.base)
    ways = [(False, 1, options.one_by_one)] if options.one_by_one else []
    ways += [(True, concurrency, options.questions) for concurrency in options.concurrency]
    rows = [measure(options, batching=batching, concurrency=concurrency, n=n) for batching, concurrency, n in ways]
    print(f"{options.threads} thread(s), {options.max_tokens} tokens at most, temperature {options.temperature}\n")
    print(table([name.replace("_", " ") for name in rows[0]], [list(row.values()) for row in rows]))
    write_result(options.out, {"ways": rows}, options, peers=("transformers",))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--one-by-one", type=int, default=8, help="questions for the way without batching")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--repeat", action="store_true", help="ask everything twice and compare")
    options = parser.parse_args()
    try:
        run_all(options)
    except UserError as error:
        sys.exit(f"bench_evidence_server: {error}")


if __name__ == "__main__":
    main()
