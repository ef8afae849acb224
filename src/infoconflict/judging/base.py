"""What a judge is asked, what it says, and what it may be given besides its settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from infoconflict.attacks.chat import Payload

Claim = Literal["equivalent", "payload"]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A reply and what it is held against: the reference, or a payload where one is given."""

    reply: str
    reference: str
    messages: tuple[dict[str, str], ...] = ()
    payload: Payload | None = None


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Whether it matches (None: undecided), how much speaks for it, and what was found or said."""

    match: bool | None
    score: float
    raw: str = ""


@dataclass(frozen=True, kw_only=True)
class Means:
    """Files that some judges need, and how the job computes; none of it is a setting.

    ``thresholds`` holds calibrated thresholds by the judge's name, ``package`` the fetched file of the packaged model,
    ``served`` the checkpoints of local servers by model id, ``patience`` how an endpoint is asked.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    package: Path | None = None
    served: Mapping[str, Path] = field(default_factory=dict)
    patience: Mapping[str, int] = field(default_factory=dict)
    store: Path = Path("scratch/judge")
    cell: str = "all"
    server_log: Path | None = None
    threads: int = 1


class Judge:
    """Judges pairs. Subclasses say how two texts are compared; an empty reply never matches anything."""

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any], means: Means) -> Self:
        """Build a judge from its settings in the config and the files that it may use."""
        return cls()

    def judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        """Return one judgement for each pair, in order."""
        found = iter(self._judge([pair for pair in pairs if pair.reply.strip()]))
        empty = Judgement(match=False, score=0.0, raw="empty reply")
        return [next(found) if pair.reply.strip() else empty for pair in pairs]

    def details(self) -> dict[str, Any]:
        """Return what the card should say about the judge after its work."""
        return {}

    def _judge(self, pairs: Sequence[Pair]) -> list[Judgement]:
        raise NotImplementedError
