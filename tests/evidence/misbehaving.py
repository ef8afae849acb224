"""A real HTTP server that speaks OpenAI's protocol and misbehaves as told."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behavior = Callable[[BaseHTTPRequestHandler, dict[str, Any]], None]


@dataclass
class Seen:
    """One request as it arrived."""

    at: float
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        return self.body["messages"][-1]["content"]


@dataclass
class FakeEndpoint:
    """``script`` holds what to do with the first requests, in order of arrival; ``then`` what to do with the rest."""

    script: list[Behavior] = field(default_factory=list)
    then: Behavior | None = None
    seen: list[Seen] = field(default_factory=list)
    most_at_once: int = 0
    base_url: str = ""

    @property
    def waits(self) -> list[float]:
        """Seconds between consecutive requests."""
        return [later.at - earlier.at for earlier, later in zip(self.seen, self.seen[1:], strict=False)]


def send(handler: BaseHTTPRequestHandler, status: int, body: str, content_type: str, **headers: str) -> None:
    data = body.encode()
    handler.send_response(status)
    handler.send_header("Content-Type", content_type)
    handler.send_header("Content-Length", str(len(data)))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(data)


def says(text: str | None, seconds: float = 0.0) -> Behavior:
    def behave(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        time.sleep(seconds)
        document = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        }
        send(handler, 200, json.dumps(document), "application/json")

    return behave


def refuses(status: int, message: str = "no", code: str | None = None, **headers: str) -> Behavior:
    def behave(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
        error = {"error": {"message": message, "type": "error", "param": None, "code": code}}
        send(handler, status, json.dumps(error), "application/json", **headers)

    return behave


def raw(text: str, content_type: str = "text/html") -> Behavior:
    return lambda handler, body: send(handler, 200, text, content_type)


def cuts_off(handler: BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    """Promise a long body, send a little of it and close."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "5000")
    handler.end_headers()
    handler.wfile.write(b'{"choices": [{"mess')
    handler.wfile.flush()
    handler.close_connection = True


@contextmanager
def running_endpoint() -> Iterator[FakeEndpoint]:
    """Run an endpoint that answers all it is asked, until told otherwise."""
    fake = FakeEndpoint(then=says("A river is a stream of water."))
    lock = threading.Lock()
    under_way = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            nonlocal under_way
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(fake.seen)
                fake.seen.append(Seen(time.monotonic(), body, {k.lower(): v for k, v in self.headers.items()}))
                under_way += 1
                fake.most_at_once = max(fake.most_at_once, under_way)
            behave = fake.script[number] if number < len(fake.script) else fake.then
            try:
                behave(self, body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True  # the client lost patience
            finally:
                with lock:
                    under_way -= 1

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    fake.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
