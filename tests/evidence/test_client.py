import datetime
import email.utils
import socket
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.errors import UserError
from infoconflict.evidence.client import ChatEndpoint, api_key_from, retry_after_seconds
from infoconflict.evidence.provider import Question, Reply, condition
from tests.evidence.misbehaving import Behavior, FakeEndpoint, cuts_off, raw, refuses, says

KEY = "sk-very-secret-0123456789"


def questions(n: int) -> list[Question]:
    return [Question("You are a dictionary.", f"word {number}", (f"word{number}",)) for number in range(n)]


def ask(endpoint: FakeEndpoint, n: int = 1, **options: object) -> list[Reply]:
    """Ask ``n`` questions, quick to retry; return the replies in the order of the questions."""
    settings = {"backoff_s": 0.02, "concurrency": 1, "timeout_s": 20.0, "max_retries": 3} | options
    replies: dict[str, Reply] = {}
    asked = questions(n)
    client = ChatEndpoint(endpoint.base_url, "some-model", api_key=KEY, **settings)
    client.ask_all(asked, lambda question, reply: replies.__setitem__(question.sha256, reply))
    return [replies[question.sha256] for question in asked]


def test_what_is_sent_and_what_comes_back(endpoint: FakeEndpoint) -> None:
    [reply] = ask(endpoint, temperature=0.3, max_tokens=17, seed=5)
    assert reply == Reply(
        status="ok", text="A river is a stream of water.", attempts=1, prompt_tokens=7, completion_tokens=3
    )
    [request] = endpoint.seen
    assert request.headers["authorization"] == f"Bearer {KEY}"
    seed = request.body.pop("seed")
    assert isinstance(seed, int)
    assert request.body == {
        "model": "some-model",
        "messages": questions(1)[0].messages,
        "temperature": 0.3,
        "max_tokens": 17,
    }
    ask(endpoint, seed=5)
    ask(endpoint, seed=6)
    assert endpoint.seen[1].body["seed"] == seed != endpoint.seen[2].body["seed"]


@pytest.mark.parametrize(
    "trouble",
    [
        refuses(500),
        refuses(503),
        refuses(429),
        refuses(408),
        cuts_off,
        raw("<html>Bad gateway</html>"),
        raw("{'choices': [", "application/json"),
        raw("[]", "application/json"),
        raw('{"choices": []}', "application/json"),
        raw('{"choices": [{"message": {"content": [1]}}]}', "application/json"),
        raw("", "application/json"),
    ],
)
def test_passing_trouble_is_asked_again(endpoint: FakeEndpoint, trouble: Behavior) -> None:
    endpoint.script = [trouble, trouble]
    [reply] = ask(endpoint)
    assert (reply.status, reply.text, reply.attempts) == ("ok", "A river is a stream of water.", 3)
    assert len(endpoint.seen) == 3


def test_a_late_reply_is_asked_for_again(endpoint: FakeEndpoint) -> None:
    endpoint.script = [says("late", seconds=6.0)]
    [reply] = ask(endpoint, timeout_s=3.0)
    assert (reply.status, reply.text, reply.attempts) == ("ok", "A river is a stream of water.", 2)
    assert 1.0 <= endpoint.waits[0] < 6.0  # the client's clock started a little before the server saw it
    endpoint.script, endpoint.then = [], says("late", seconds=1.0)
    [reply] = ask(endpoint, timeout_s=0.2, max_retries=1)
    assert (reply.status, reply.attempts, reply.reason) == ("failed", 2, "no reply within 0.2 s")


@pytest.mark.parametrize("trouble", [refuses(500), cuts_off, raw("<html></html>")])
def test_lasting_trouble_is_recorded(endpoint: FakeEndpoint, trouble: Behavior) -> None:
    endpoint.then = trouble
    [reply] = ask(endpoint, max_retries=2)
    assert (reply.status, reply.text, reply.attempts) == ("failed", "", 3)
    assert reply.reason
    assert len(endpoint.seen) == 3


def test_a_slow_trickle_is_not_patience_without_end(endpoint: FakeEndpoint) -> None:
    def trickles(handler, body) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        for _ in range(60):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.1)

    endpoint.then = trickles
    started = time.monotonic()
    [reply] = ask(endpoint, max_retries=0, timeout_s=0.5)
    assert reply.status == "failed"
    assert time.monotonic() - started < 5.0


@pytest.mark.parametrize(
    ("text", "status"),
    [(None, "empty"), ("", "empty"), (" \n", "empty"), ("1 2 3", "garbled"), ("go go go go.", "garbled")],
)
def test_useless_replies_are_asked_again_then_recorded(endpoint: FakeEndpoint, text: str, status: str) -> None:
    endpoint.script = [says(text)]
    assert ask(endpoint)[0].status == "ok"
    endpoint.seen.clear()
    endpoint.script, endpoint.then = [], says(text)
    [reply] = ask(endpoint, max_retries=2)
    assert (reply.status, reply.text, reply.attempts) == (status, text or "", 3)
    assert (reply.prompt_tokens, reply.completion_tokens) == (21, 9)  # all three were paid
    assert len({request.body["seed"] for request in endpoint.seen}) == 3


def test_waits_grow_and_stay_within_their_bounds(endpoint: FakeEndpoint) -> None:
    endpoint.then = refuses(500)
    ask(endpoint, max_retries=4, backoff_s=0.1, longest_wait_s=0.3)
    for wait, planned in zip(endpoint.waits, [0.1, 0.2, 0.3, 0.3], strict=True):
        assert planned / 2 <= wait < planned + 1.0  # the machine may be busy
    assert endpoint.waits[2] > 1.4 * 0.1  # longer than any first wait


def test_retry_after_in_seconds_is_honoured(endpoint: FakeEndpoint) -> None:
    endpoint.script = [refuses(429, Retry_After="1")]
    assert ask(endpoint)[0].attempts == 2
    assert 1.0 <= endpoint.waits[0] < 3.0


def test_retry_after_as_a_date_is_honoured(endpoint: FakeEndpoint) -> None:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=3)
    endpoint.script = [refuses(503, Retry_After=email.utils.format_datetime(moment, usegmt=True))]
    assert ask(endpoint)[0].attempts == 2
    assert 1.5 <= endpoint.waits[0] < 6.0  # such a date has whole seconds


def test_retry_after_holds_back_all_workers(endpoint: FakeEndpoint) -> None:
    endpoint.script = [refuses(429, Retry_After="1"), says("One.", seconds=0.2)]
    replies = ask(endpoint, 6, concurrency=2)
    assert [reply.status for reply in replies] == ["ok"] * 6
    first, _, *others = endpoint.seen
    assert all(request.at - first.at >= 1.0 for request in others)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("soon", None),
        ("Wed, 01 Jan 2025 00:00:30 GMT", 30.0),
        ("Tue, 31 Dec 2024 23:00:00 GMT", 0.0),
    ],
)
def test_retry_after_header(header: str | None, seconds: float | None) -> None:
    now = datetime.datetime(2025, 1, 1, tzinfo=datetime.UTC)
    assert retry_after_seconds(header, now=now) == seconds


def test_a_very_long_wait_ends_the_run(endpoint: FakeEndpoint) -> None:
    endpoint.script = [refuses(429, Retry_After="7200")]
    with pytest.raises(UserError, match="asks to wait 7200 s"):
        ask(endpoint)
    assert len(endpoint.seen) == 1


@pytest.mark.parametrize(
    ("trouble", "message"),
    [
        (refuses(401, f"Incorrect API key provided: {KEY[:8]}***6789"), "key is not accepted"),
        (refuses(403), "may not use this model"),
        (refuses(404, "The model does not exist", "model_not_found"), "no model 'some-model'"),
        (refuses(400, f"unknown model; your key is {KEY}"), "unknown model"),
        (refuses(429, "You exceeded your current quota", "insufficient_quota"), "no credit left"),
        (refuses(405), "status 405"),
    ],
)
def test_wrong_settings_stop_at_once(
    endpoint: FakeEndpoint, trouble: Behavior, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    endpoint.then = trouble
    with pytest.raises(UserError, match=message) as caught:
        ask(endpoint, 5)
    assert len(endpoint.seen) == 1
    shown = str(caught.value) + "".join(capfd.readouterr())
    assert KEY[:8] not in shown
    assert "\n" not in str(caught.value)


def test_one_refused_question_does_not_stop_the_others(endpoint: FakeEndpoint) -> None:
    endpoint.script = [refuses(400, "filtered", "content_filter")]
    first, second = ask(endpoint, 2)
    assert (first.status, first.attempts, first.reason) == ("failed", 1, "status 400, content_filter")
    assert second.status == "ok"


def test_what_an_endpoint_does_not_know_is_left_out(endpoint: FakeEndpoint) -> None:
    def picky(handler, body) -> None:
        if "seed" in body:
            refuses(422, "Unexpected fields in the request: {'seed'}")(handler, body)
        elif "max_tokens" in body:
            refuses(400, "Unsupported parameter: use 'max_completion_tokens' instead.")(handler, body)
        else:
            says("A river.", seconds=0.05)(handler, body)

    endpoint.then = picky
    # Several at once: each of them is refused before the first has learned.
    replies = ask(endpoint, 6, concurrency=3, max_retries=0, max_tokens=9)
    assert [(reply.status, reply.attempts) for reply in replies] == [("ok", 1)] * 6
    assert endpoint.seen[-1].body["max_completion_tokens"] == 9
    assert len(endpoint.seen) <= 6 + 3 * 2


def test_an_endpoint_that_is_down_ends_the_run(endpoint: FakeEndpoint) -> None:
    endpoint.then = refuses(500)
    with pytest.raises(UserError, match="failed 4 questions in a row"):
        ask(endpoint, 20, max_retries=0, failures_in_a_row=4)
    assert len(endpoint.seen) == 4


def test_single_failures_do_not_end_the_run(endpoint: FakeEndpoint) -> None:
    endpoint.script = [refuses(500), refuses(500), says("One."), refuses(500), refuses(500)]
    replies = ask(endpoint, 6, max_retries=0, failures_in_a_row=3)
    assert [reply.status for reply in replies] == ["failed", "failed", "ok", "failed", "failed", "ok"]


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        nobody = FakeEndpoint(base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/v1")
        [reply] = ask(nobody, max_retries=1)
    assert (reply.status, reply.attempts) == ("failed", 2)


def test_concurrency(endpoint: FakeEndpoint) -> None:
    endpoint.then = says("One.", seconds=0.1)
    ask(endpoint, 12, concurrency=4)
    assert endpoint.most_at_once == 4


def test_the_ambient_proxy_is_not_used_on_this_machine(endpoint: FakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert ask(endpoint)[0].status == "ok"


def test_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    assert api_key_from("SOME_KEY") == KEY


@pytest.mark.parametrize("value", [None, "", "  ", "two words", "k\u00e9y", "line\nbreak"])
def test_a_missing_or_broken_key_is_named_not_shown(value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("SOME_KEY", value)
    with pytest.raises(UserError, match="environment variable SOME_KEY") as caught:
        api_key_from("SOME_KEY")
    assert not value or not value.strip() or value not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("A river.", "ok"),
        ("\u6cb3", "ok"),
        ("river river", "ok"),
        ("river, River! river. 'river'", "garbled"),
        ("-- ** --", "garbled"),
        ("\ufffd\ufffd\ufffd a", "garbled"),
        ("\x00\x01\x02a", "garbled"),
        ("\t\n", "empty"),
    ],
)
def test_condition(text: str, status: str) -> None:
    assert condition(text) == status


@given(st.text())
def test_any_text_has_a_condition(text: str) -> None:
    status = condition(text)
    assert status in ("ok", "empty", "garbled")
    assert (status == "empty") == (not text.strip())
