"""Any endpoint that speaks OpenAI's chat protocol, asked with patience.

Busy and broken endpoints are asked again, later and later; wrong settings stop at once with a sentence. The key comes
from an environment variable and reaches no log, no row and no message.
"""

import asyncio
import datetime
import email.utils
import json
import os
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from infoconflict.errors import UserError
from infoconflict.evidence.provider import Question, Reply, condition

if TYPE_CHECKING:
    from openai import APIStatusError

_Create = Callable[..., Awaitable[Any]]

# Timeout, conflict, too early, too many requests; all of 5xx besides. Everything else will not change by waiting.
PASSING_STATUS = frozenset({408, 409, 425, 429})
# Refusals that concern one question, not the settings.
ONE_QUESTION_CODES = frozenset({"content_filter", "content_policy_violation", "context_length_exceeded"})
# Codes of a 429 that no waiting mends.
NO_CREDIT_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


def api_key_from(variable: str) -> str:
    """Return the key that an environment variable holds.

    Raises
    ------
    UserError
        If it is unset, empty or holds what no HTTP header can carry; the message never shows the value.
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        raise UserError(
            f"environment variable {variable} is not set; put the endpoint's key into it (api_key_env names it)"
        )
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"environment variable {variable} holds characters that no key has; set it to the key alone")
    return key


def retry_after_seconds(header: str | None, *, now: datetime.datetime) -> float | None:
    """Return how long a ``Retry-After`` header asks to wait, from seconds or an HTTP date; None if it says neither."""
    if header is None:
        return None
    if re.fullmatch(r"\d+(\.\d+)?", header.strip()):
        return float(header)
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return max(0.0, (moment - now).total_seconds())


@dataclass(frozen=True)
class _Again:
    """One attempt that may be repeated, why, and the useless reply if there was one."""

    reason: str
    reply: Reply | None = None


class ChatEndpoint:
    """An OpenAI-compatible endpoint as a :class:`~infoconflict.evidence.provider.Provider`.

    Parameters
    ----------
    base_url, requested_model : str
        Where to ask, and for which model.
    model : str
        How rows name the model; ``requested_model`` unless given.
    api_key : str or None
        Sent as bearer token; None for endpoints that want none.
    temperature : float
        Sampling temperature (paper, section 4.2: 0.7).
    max_tokens : int
        Longest reply.
    seed : int
        From it and the question's digest comes the seed sent with each question; an endpoint that refuses seeds is
        asked without. It makes replies repeatable only where the endpoint keeps its word.
    concurrency : int
        Questions under way at once.
    timeout_s : float
        Seconds for one attempt as a whole.
    max_retries : int
        Further attempts after the first.
    backoff_s, longest_wait_s : float
        The wait before the k-th further attempt is ``backoff_s * 2**(k-1)``, at most ``longest_wait_s``, times a random
        share in [0.5, 1] (ours: 1 s and 60 s); never less than the endpoint's ``Retry-After``.
    longest_retry_after_s : float
        An endpoint that asks to wait longer ends the run with a sentence: sleeping so long would waste the job (ours).
    failures_in_a_row : int
        So many failed questions without a reply in between end the run with a sentence (ours).
    """

    def __init__(
        self,
        base_url: str,
        requested_model: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        temperature: float = 0.7,
        max_tokens: int = 128,
        seed: int = 0,
        concurrency: int = 4,
        timeout_s: float = 120.0,
        max_retries: int = 5,
        backoff_s: float = 1.0,
        longest_wait_s: float = 60.0,
        longest_retry_after_s: float = 600.0,
        failures_in_a_row: int = 10,
    ) -> None:
        self.base_url, self.requested_model, self.model = base_url, requested_model, model or requested_model
        self.temperature, self.max_tokens, self.seed = temperature, max_tokens, seed
        self.concurrency, self.timeout_s, self.max_retries = concurrency, timeout_s, max_retries
        self.backoff_s, self.longest_wait_s = backoff_s, longest_wait_s
        self.longest_retry_after_s, self.failures_in_a_row = longest_retry_after_s, failures_in_a_row
        self._api_key = api_key
        self._send_seed = True
        self._length_name = "max_tokens"
        self._not_before = 0.0
        self._failed_in_a_row = 0
        # Only waits come from it, so its order of use cannot change a result.
        self._jitter = random.Random(seed)

    def ask_all(self, questions: Sequence[Question], on_reply: Callable[[Question, Reply], None]) -> None:
        """Ask all questions, ``concurrency`` at once, and hand over each reply as soon as it is there.

        Raises
        ------
        UserError
            If the endpoint refuses the settings (key, model, address), has no credit, asks for a very long wait, or
            fails ``failures_in_a_row`` questions in a row. Replies handed over before stay valid.
        """
        asyncio.run(self._ask_all(questions, on_reply))

    async def _ask_all(self, questions: Sequence[Question], on_reply: Callable[[Question, Reply], None]) -> None:
        import openai

        # The ambient proxy is for the world outside; a server on this machine is asked directly.
        outside = urlsplit(self.base_url).hostname not in {"127.0.0.1", "localhost", "::1"}
        waiting = iter(questions)
        async with openai.AsyncOpenAI(
            base_url=self.base_url,
            api_key=self._api_key or "none",
            max_retries=0,
            timeout=self.timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(trust_env=outside),
        ) as client:
            # Looked up here: it imports for seconds, which belong to no attempt's timeout.
            create = client.chat.completions.with_raw_response.create

            async def work() -> None:
                for question in waiting:
                    on_reply(question, await self._ask(create, question))

            workers = [asyncio.create_task(work()) for _ in range(min(self.concurrency, len(questions)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)

    async def _ask(self, create: _Create, question: Question) -> Reply:
        prompt_tokens = completion_tokens = 0
        outcome: Reply | _Again = _Again("not asked")
        attempts = 0
        while attempts <= self.max_retries:
            if attempts:
                wait = min(self.longest_wait_s, self.backoff_s * 2 ** (attempts - 1))
                await asyncio.sleep(wait * self._jitter.uniform(0.5, 1.0))
            await self._wait_for_gate()
            attempts += 1
            outcome = await self._attempt(create, question, attempts)
            reply = outcome if isinstance(outcome, Reply) else outcome.reply
            if reply is not None:
                prompt_tokens += reply.prompt_tokens
                completion_tokens += reply.completion_tokens
            if isinstance(outcome, Reply):
                break
            say(f"attempt {attempts} of {self.max_retries + 1}: {outcome.reason}")
        if isinstance(outcome, _Again):
            outcome = outcome.reply or Reply(status="failed", reason=outcome.reason)
        self._count_failure(outcome)
        return replace(outcome, attempts=attempts, prompt_tokens=prompt_tokens, completion_tokens=completion_tokens)

    def _count_failure(self, reply: Reply) -> None:
        self._failed_in_a_row = self._failed_in_a_row + 1 if reply.status == "failed" else 0
        if self._failed_in_a_row >= self.failures_in_a_row:
            raise UserError(
                f"{self._where()} failed {self._failed_in_a_row} questions in a row (last: {reply.reason}); see that "
                "it runs and run again: replies that came are kept"
            )

    async def _wait_for_gate(self) -> None:
        # One refusal with Retry-After holds back the questions of all workers, also those not yet refused.
        while (left := self._not_before - time.monotonic()) > 0:
            # Not the same wait for all, lest all return in the same instant.
            await asyncio.sleep(left + self._jitter.uniform(0.0, min(1.0, self.backoff_s)))

    async def _attempt(self, create: _Create, question: Question, attempt: int) -> "Reply | _Again":
        import openai

        try:
            while True:
                sent = self._settings(question, attempt)
                try:
                    body = await asyncio.wait_for(self._post(create, question, sent), self.timeout_s)
                    return _read_body(body)
                except openai.APIStatusError as error:
                    if not self._adapt(error, sent):
                        return self._after_refusal(error)
        except (openai.APITimeoutError, TimeoutError):
            return _Again(f"no reply within {self.timeout_s:g} s")
        except openai.APIConnectionError as error:
            return _Again(f"connection failed ({type(error.__cause__ or error).__name__})")

    def _settings(self, question: Question, attempt: int) -> dict[str, Any]:
        settings: dict[str, Any] = {self._length_name: self.max_tokens, "temperature": self.temperature}
        if self._send_seed:
            # Another seed for each attempt, or a faithful endpoint would repeat a garbled reply.
            settings["seed"] = (int(question.sha256[:8], 16) + self.seed * 1_000_003 + attempt - 1) % 2**31
        return settings

    async def _post(self, create: _Create, question: Question, settings: dict[str, Any]) -> str:
        response = await create(model=self.requested_model, messages=question.messages, **settings)
        return str(response.http_response.text)

    def _adapt(self, error: "APIStatusError", sent: Mapping[str, Any]) -> bool:
        """Leave out or rename what was sent and is not known to the endpoint; tell whether asking again makes sense."""
        if error.status_code not in (400, 422):
            return False
        text = str(error)
        if "max_tokens" in sent and "max_completion_tokens" in text:
            self._length_name = "max_completion_tokens"
            return True
        if "seed" in sent and re.search(r"\bseed\b", text):
            self._send_seed = False
            return True
        return False

    def _after_refusal(self, error: "APIStatusError") -> "Reply | _Again":
        status, code, text = error.status_code, error.code or "", self._scrubbed(str(error))
        if status == 429 and code in NO_CREDIT_CODES:
            raise UserError(f"{self._where()} has no credit left for this key; top it up and run again")
        if status in PASSING_STATUS or status >= 500:
            header = error.response.headers.get("retry-after")
            asked = retry_after_seconds(header, now=datetime.datetime.now(datetime.UTC))
            if asked is not None:
                if asked > self.longest_retry_after_s:
                    raise UserError(
                        f"{self._where()} asks to wait {asked:.0f} s (status {status}); run again then: replies that "
                        "came are kept"
                    )
                self._not_before = max(self._not_before, time.monotonic() + asked)
            return _Again(f"status {status}")
        if status in (400, 422):
            if code in ONE_QUESTION_CODES:
                return Reply(status="failed", reason=f"status {status}, {code}")
            raise UserError(
                f"{self._where()} refuses the request (status {status}: {text}); correct the provider's settings"
            )
        # Their texts are not repeated: an endpoint's "incorrect key" message shows parts of the key.
        remedy = {
            401: "the key is not accepted; correct the environment variable that api_key_env names",
            403: "the key may not use this model; use another key or model",
            404: f"no such address, or no model '{self.requested_model}'; correct base_url or model",
        }
        raise UserError(f"{self._where()} answers with status {status}: {remedy.get(status, 'correct base_url')}")

    def _scrubbed(self, text: str) -> str:
        if self._api_key:
            text = text.replace(self._api_key, "***")
        return re.sub(r"\b(sk|key|Bearer)[-_ ][\w*-]{6,}", "***", " ".join(text.split()))[:300]

    def _where(self) -> str:
        parts = urlsplit(self.base_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _read_body(body: str) -> "Reply | _Again":
    try:
        document = json.loads(body)
        choice = document["choices"][0]
        text = choice["message"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return _Again("reply is not a chat completion in JSON")
    usage = document.get("usage")
    usage = usage if isinstance(usage, Mapping) else {}
    status = condition(text)
    reply = Reply(
        status=status,
        text=text,
        prompt_tokens=int(usage.get("prompt_tokens") or 0),
        completion_tokens=int(usage.get("completion_tokens") or 0),
        reason="" if status == "ok" else f"reply is {status}",
    )
    return reply if status == "ok" else _Again(f"reply is {status}", reply=reply)


def say(text: str) -> None:
    """Write a line to the log of the job."""
    sys.stderr.write(f"evidence: {text}\n")
    sys.stderr.flush()
