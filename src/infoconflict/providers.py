"""Who is asked where a stage needs an external language model: evidence, and the oracles of chat attacks."""

import re
from typing import Annotated, Literal

from pydantic import Field, field_validator

from infoconflict.config_errors import shown
from infoconflict.entries import Count, Entry, Line


class Provider(Entry):
    """What the external language models that are asked have in common."""

    not_science = frozenset({"concurrency", "timeout_s", "max_retries"})

    temperature: Annotated[float, Field(ge=0, le=2)] = 0.7
    """Sampling temperature. Paper, section 4.2."""
    max_tokens: Count = 128
    """Longest reply in tokens. Ours."""
    concurrency: Count = 4
    """Questions under way at once. Changes no result. Ours."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds to wait for a reply. Changes no result. Ours."""
    max_retries: Annotated[int, Field(ge=0)] = 5
    """Further tries after a refusal, a time-out or a garbled reply. Changes no result. Ours."""


class LocalServer(Provider):
    """A local HTTP server with one of the models, started and stopped by the workflow."""

    kind: Literal["local_server"]
    model: str
    """Id under `models`."""


class OpenAI(Provider):
    """Any endpoint that speaks OpenAI's protocol."""

    kind: Literal["openai"]
    base_url: Line = "https://api.openai.com/v1"
    """Where it is."""
    model: Line
    """The model's name there; the paper asks GPT-3.5."""
    api_key_env: str | None = "OPENAI_API_KEY"
    """Environment variable that holds the key, which itself never stands in a config; null: the endpoint needs none."""

    @field_validator("base_url")
    @classmethod
    def _is_url(cls, url: str) -> str:
        if not re.match(r"https?://[^/]", url):
            raise ValueError(f"{shown(url)} is not an address; write http://... or https://...")
        if "@" in url:
            raise ValueError("the address holds a name or password; put the key into the variable under api_key_env")
        return url

    @field_validator("api_key_env")
    @classmethod
    def _is_variable(cls, name: str | None) -> str | None:
        # The value is not repeated: it may be a key by mistake.
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("is not the name of an environment variable; name the one that holds the key")
        return name


class Recorded(Entry):
    """Replies recorded earlier, replayed."""

    kind: Literal["recorded"]
    path: Line
    """JSON Lines file with the replies, from the working directory."""


ProviderEntry = Annotated[LocalServer | OpenAI | Recorded, Field(discriminator="kind")]
