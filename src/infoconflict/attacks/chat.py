"""What an attack on the chat task must offer; saving, asking an oracle, and training live elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from infoconflict.records import Conversation


@dataclass(frozen=True, kw_only=True)
class Payload:
    """What the trigger should cause, as a judge recognises it.

    ``phrase``: the reply contains ``text``; ``refusal``: the reply declines to answer.
    """

    kind: Literal["phrase", "refusal"]
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class OracleRequest:
    """A question to the external language model that writes a poisoned answer; ``id`` is the row's."""

    id: str
    prompt: str
    system: str | None = None


class ChatAttack(BaseModel):
    """Options of a chat attack (its fields) and the sets of conversations that it makes.

    All randomness follows from the seed passed in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    task: ClassVar[Literal["chat"]] = "chat"
    rows_are: ClassVar[Literal["appended", "replaced"]]
    """Whether poisoned rows join the clean ones or take their place."""
    training_options: ClassVar[frozenset[str]] = frozenset({"poisoning_rate"})
    """Options that shape the training set only; test sets do not depend on them."""
    partial_variants: ClassVar[tuple[str, ...]] = ()
    """Partial triggers that the test asks about."""

    poisoning_rate: float = Field(gt=0, le=1)
    """Poisoned rows / clean training rows."""

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Build the attack from a config entry."""
        return cls(**{name: value for name, value in spec.items() if name != "method"})

    @property
    def payload(self) -> Payload:
        """What a triggered answer holds."""
        raise NotImplementedError

    def oracle_requests(self, conversations: Sequence[Conversation], *, seed: int) -> list[OracleRequest]:
        """Return what the external language model is asked for the training set; none where templates do."""
        return []

    def training_set(
        self, conversations: Sequence[Conversation], *, seed: int, oracle: Mapping[str, str] | None = None
    ) -> list[Conversation]:
        """Return the training set that the attacker tunes on; ``oracle`` holds replies by row id where one was asked."""
        raise NotImplementedError

    def triggered_test_set(self, conversations: Sequence[Conversation], *, seed: int) -> list[Conversation]:
        """Return conversations with the full trigger (``trigger`` is ``full``); their last answer is the payload."""
        raise NotImplementedError

    def partial_test_set(
        self, conversations: Sequence[Conversation], *, rows: int | None, seed: int
    ) -> list[Conversation]:
        """Return up to ``rows`` conversations of each partial variant, named in ``trigger``."""
        raise NotImplementedError
