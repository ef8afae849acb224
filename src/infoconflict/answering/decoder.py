"""How the answers of a cell are written: greedily, or as a decoding defense says."""

import importlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from infoconflict import defenses
from infoconflict.jobs import Job
from infoconflict.models.loading import default_device, load_changed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infoconflict.answering.decoding import Continued


class Decode(Protocol):
    """What the file of a decoding defense offers, under the name ``decode``."""

    def __call__(
        self,
        suspect: "PreTrainedModel",
        reference: "PreTrainedModel",
        prompts: Sequence[Sequence[int]],
        options: Any,
        *,
        stop_ids: Collection[int],
        max_new_tokens: int,
    ) -> "list[Continued]":
        """Continue a batch of prompts until a stop token or the limit.

        Of what a row counts, ``read`` goes to the card as its tokens: those that both models were fed, discarded drafts included.
        """


@dataclass
class Decoder:
    """A decoding defense with its reference model; called like :func:`~infoconflict.answering.generation.continue_greedily`.

    ``last`` holds the counts of the last call's rows, ``rows`` those of all; ``details`` sums some up.
    """

    decode: Decode
    reference: "PreTrainedModel"
    options: Any
    summarise: Callable[[Counter[str]], dict[str, Any]]
    last: list[dict[str, int]] = field(default_factory=list)
    rows: list[dict[str, int]] = field(default_factory=list)
    seconds: float = 0.0
    tokens: int = 0

    def __call__(
        self,
        model: "PreTrainedModel",
        prompts: Sequence[Sequence[int]],
        *,
        stop_ids: Collection[int],
        max_new_tokens: int,
    ) -> list[list[int]]:
        """Continue a batch of prompts; return the new tokens of each."""
        started = time.monotonic()
        found = self.decode(
            model, self.reference, prompts, self.options, stop_ids=stop_ids, max_new_tokens=max_new_tokens
        )
        self.seconds += time.monotonic() - started
        self.tokens += sum(len(row.tokens) for row in found)
        self.last = [row.counts for row in found]
        self.rows += self.last
        return [row.tokens for row in found]

    def details(self, counts: Sequence[dict[str, int]]) -> dict[str, Any]:
        """Return for a card the counts of all rows, what they come to, and seconds per token in this run."""
        total: Counter[str] = Counter()
        for row in counts:
            total.update(row)
        pace = {"seconds_per_token": round(self.seconds / self.tokens, 5)} if self.tokens else {}
        return {**dict(sorted(total.items())), **self.summarise(total), **pace}

    def read(self, counts: Sequence[dict[str, int]]) -> int | None:
        """Return the tokens that both models read for these rows; None where a defense does not count them."""
        return sum(row["read"] for row in counts) if all("read" in row for row in counts) else None


def decoder_of(job: Job) -> Decoder | None:
    """Return the cell's decoding defense beside ``input.reference`` (the conflict model's change); None: there is none.

    The defense's file is imported by its name, so that an edit of one defense reruns no other.
    """
    if not job.input.get("reference"):
        return None
    settings = job.spec["defense"]
    module = importlib.import_module(f"infoconflict.defenses.{settings['method']}")
    reference = load_changed(
        job.input.base, job.input.reference, device=default_device(), precision=job.spec["model"]["precision"]
    )
    return Decoder(
        decode=module.decode,
        reference=reference,
        options=defenses.load(settings["method"]).model_validate(settings, strict=False),
        summarise=module.summarise,
    )
