"""What the trainer asks of a defense that learns more than the answers of clean rows."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from infoconflict.training.settings import Tuned


class Objective:
    """What is learned in a tuning; as it stands here, the answers and nothing else.

    A defense's file makes one in its function ``objective(request)``, from a dict of plain values, since there may be a process
    per GPU. What changes while it learns belongs to :meth:`state`, so that a killed run goes on as if it had not been.
    """

    tokens = 0
    """Tokens run through the model beside those of the rows."""

    def prepare(self, tuned: "Tuned") -> None:
        """Take up what is tuned; done at each start, a continued run's too."""

    def start(self) -> None:
        """Do what only the beginning of a run does."""

    def parts(self, batch: Sequence[int], mine: Sequence[int], step: int) -> "Iterator[tuple[Tensor, int]] | None":
        """Yield the losses of update ``step`` (from 0) and the tokens computed for each; None: the trainer's own loss.

        ``batch`` are the numbers of the update's rows and ``mine`` those of them that are this process's. The losses of all
        processes add up to that of the update.
        """
        return None

    def state(self) -> dict[str, Any]:
        """Return what a continued run needs: tensors and plain values."""
        return {"tokens": self.tokens}

    def restore(self, state: dict[str, Any]) -> None:
        """Put a state back in place."""
        self.tokens = state["tokens"]

    def details(self) -> dict[str, Any]:
        """Return what the card should say."""
        return {}
