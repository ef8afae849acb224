"""What is asked of an external language model, and what comes back, whoever answers."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Status = Literal["ok", "empty", "garbled", "failed"]


@dataclass(frozen=True)
class Question:
    """One prompt; an empty ``system`` is not sent.

    ``keywords`` is what it asks about (empty in the modification branch) and no part of the prompt. ``earlier`` holds the
    turns before the last, as (role, content).
    """

    system: str
    user: str
    keywords: tuple[str, ...] = ()
    earlier: tuple[tuple[str, str], ...] = ()

    @property
    def messages(self) -> list[dict[str, str]]:
        """Return the prompt as chat messages."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        earlier = [{"role": role, "content": content} for role, content in self.earlier]
        return [*system, *earlier, {"role": "user", "content": self.user}]

    @property
    def sha256(self) -> str:
        """Return the digest of the messages."""
        return hashlib.sha256(json.dumps(self.messages, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The answer to one question, after all retries.

    ``status`` is ``ok``; ``empty`` or ``garbled`` when the last reply was so; ``failed`` when there was none. Token
    counts are sums over all attempts, for they are what was paid.
    """

    status: Status
    text: str = ""
    attempts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reason: str = ""


class Provider(Protocol):
    """Anything that answers questions. ``model`` names the model in evidence rows."""

    model: str

    def ask_all(self, questions: Sequence[Question], on_reply: Callable[[Question, Reply], None]) -> None:
        """Answer all questions, in any order, and hand over each reply as soon as it is there."""


def condition(text: str) -> Status:
    """Tell a usable reply from an empty or a garbled one.

    Empty: no character but spaces. Garbled (ours): no letter; or four words and more, all the same; or more than half
    of the characters other than spaces cannot be printed or stand for undecodable bytes.
    """
    visible = "".join(text.split())
    if not visible:
        return "empty"
    broken = sum(not character.isprintable() or character == "\ufffd" for character in visible)
    words = [word.strip(".,;:!?\"'()[]*-").lower() for word in text.split()]
    if (
        not any(character.isalpha() for character in visible)
        or 2 * broken > len(visible)
        or (len(words) >= 4 and len(set(words)) == 1)
    ):
        return "garbled"
    return "ok"
