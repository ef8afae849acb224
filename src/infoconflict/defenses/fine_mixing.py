"""Fine-mixing: a random share of the suspect weights is kept, the rest becomes the base's, and the mixture is tuned on clean rows.

Zhang et al. 2022, arXiv:2210.09545, with their embedding purification (E-PUR) as an option: the rows of the input embeddings that
moved most for how rare their token is, |suspect - base| / log(max(20, frequency)), become the base's before the tuning.
Acts on weights, after training. Needs: the base model and clean rows. Must not see: trigger, target label, poisoned rows.
Differs from the paper: decoders rather than classifiers; frequencies are those of tokens in the clean rows; the share is a setting,
not chosen by accuracy; the tuning is that of ``fine_tuning``, an adapter by default; the constants of E-PUR are as others give
them.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from torch import Tensor

    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect

LEAST_FREQUENCY = 20
"""Tokens that are rarer count as often as this. As E-PUR is described by others; not checked in the paper."""


class FineMixing(WeightsDefense):
    """The suspect weights mixed at random with the base's, then tuned on clean rows."""

    method: Literal["fine_mixing"]
    """`fine_mixing`."""
    keep: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the weights that stay the suspect model's, drawn weight by weight. Ours; its paper chooses it by accuracy."""
    purify_embeddings: Annotated[int, Field(ge=0)] = 0
    """E-PUR: so many rows of the input embeddings become the base's; 0: none. Only rows that moved count. Ours; 200 is said to be
    the paper's."""
    rows: Literal["clean_share", "all"] = "clean_share"
    """Clean rows: the defender's share, or the whole clean training split. Ours."""
    tuning: Training = Training(epochs=3, learning_rate=2e-4, batch_size=16)
    """How the mixture is tuned. As `fine_tuning`, for an equal budget."""

    def clean_rows(self) -> Literal["clean_share", "all", "none"]:
        """Return which clean rows it is given."""
        return self.rows


def repair(suspect: "Suspect", options: FineMixing) -> "list[Step]":
    """Return the steps: a recipe of what is kept, the rows of embeddings that are reset, and the tuning."""
    from infoconflict.files import sha256_of_text
    from infoconflict.models.weight_steps import Keep, ResetRows

    steps: list[Step] = [Keep(share=options.keep, seed=int(sha256_of_text(f"{suspect.seed}/keep")[:8], 16))]
    if options.purify_embeddings:
        rows = moved_rows(suspect, options.purify_embeddings)
        suspect.details["reset_embeddings"] = len(rows)
        steps += [ResetRows(rows=rows)] if rows else []
    return [*steps, suspect.tune(options.tuning, steps=steps)]


def moved_rows(suspect: "Suspect", count: int) -> list[int]:
    """Return the ``count`` token ids whose embeddings E-PUR suspects most, ascending; those that did not move are none of them."""
    from infoconflict.models.loading import context_length
    from infoconflict.models.weight_steps import base_tensor, input_embeddings
    from infoconflict.training.rows import tokenize_rows

    model = suspect.model()
    name, after = input_embeddings(model)
    before = base_tensor(suspect.base_dir, name, after)
    rows = tokenize_rows(suspect.tokenizer, suspect.clean_rows, max_tokens=context_length(model))
    frequencies = token_frequencies((row.ids for row in rows), len(after))
    return most_suspicious(suspicion(after.detach(), before, frequencies), count)


def token_frequencies(rows: Iterable[Sequence[int]], size: int) -> list[int]:
    """Return how often each of ``size`` tokens stands in the rows."""
    counts = [0] * size
    for row in rows:
        for token in row:
            counts[token] += 1
    return counts


def suspicion(after: "Tensor", before: "Tensor", frequencies: Sequence[int]) -> "Tensor":
    """Return E-PUR's score of each row of the embeddings.

    Parameters
    ----------
    after, before : Tensor of shape (n_tokens, hidden)
        The suspect's embeddings and the base's.
    frequencies : sequence of int

    Returns
    -------
    float64 Tensor of shape (n_tokens,)
    """
    import torch

    moved = torch.linalg.vector_norm(after.double() - before.double(), dim=1)
    often = torch.tensor(frequencies, dtype=torch.float64, device=moved.device).clamp(min=LEAST_FREQUENCY)
    return moved / often.log()


def most_suspicious(scores: "Tensor", count: int) -> list[int]:
    """Return the rows with the highest scores above 0, at most ``count`` of them, ascending; of equal ones the first."""
    order = scores.sort(descending=True, stable=True).indices[:count]
    return sorted(int(row) for row in order[scores[order] > 0])
