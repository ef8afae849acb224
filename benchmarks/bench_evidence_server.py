"""Replies per second of the local server, one by one and batched, on the same questions and machine.

    python benchmarks/evidence_server.py results/models/smollm2_135m

Also says how many replies come out the same when everything is asked again: with continuous batching a reply depends on
what else is under way.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_dir")
    parser.add_argument("--questions", type=int, default=64)
    parser.add_argument("--one-by-one", type=int, default=8, help="questions for the way without batching")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--repeat", action="store_true", help="ask everything twice and compare")
    arguments = parser.parse_args()
    ways = [(False, 1, arguments.one_by_one)] if arguments.one_by_one else []
    ways += [(True, concurrency, arguments.questions) for concurrency in arguments.concurrency]
    for batching, concurrency, n in ways:
        with (
            tempfile.TemporaryDirectory() as folder,
            local_server(
                arguments.model_dir,
                Path(folder, "server.log"),
                temperature=arguments.temperature,
                threads=arguments.threads,
                dtype=arguments.dtype,
                continuous_batching=batching,
            ) as server,
        ):
            asked = questions(n, seed=0)
            started, cpu = time.monotonic(), cpu_seconds(server.pid)
            replies = ask(server.base_url, server.model, asked, arguments, concurrency)
            seconds, cpu = time.monotonic() - started, cpu_seconds(server.pid) - cpu
            tokens = sum(reply.completion_tokens for reply in replies)
            row = {
                "continuous_batching": server.continuous_batching,
                "dtype": server.dtype,
                "threads": arguments.threads,
                "concurrency": concurrency,
                "questions": n,
                "replies_per_second": round(n / seconds, 2),
                "tokens_per_second": round(tokens / seconds, 1),
                "server_cpu_seconds_per_reply": round(cpu / n, 3),
                "usable": sum(reply.status == "ok" for reply in replies),
            }
            if arguments.repeat:
                again = ask(server.base_url, server.model, asked, arguments, concurrency)
                row["same_again"] = sum(a.text == b.text for a, b in zip(replies, again, strict=True))
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
