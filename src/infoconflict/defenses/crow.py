"""CROW: the model is tuned so that its states change steadily from block to block, even when its input is disturbed.

Min et al., ICML 2025, arXiv:2411.12768; numbers from the code (NayMyatMin/CROW). Acts on weights, after training. Needs: clean
rows. Must not see: trigger, target label, poisoned rows. Not among the paper's defenses.
Differs from its source: padding is masked, where the code attends to it and averages over it; the pass that the answers are
read from gives the direction of the disturbance, too, which makes two passes an update rather than three; the rows are the
defender's clean rows, where the code has a hundred general instructions.

With e the input embeddings and c(e) the mean of 1 - cos(H_l, H_l+1) over tokens and neighbouring inner layers, the loss is
CE + alpha * c(e + epsilon * sign(dc/de)).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.defenses.objective import Objective
from infoconflict.entries import Count
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from torch import Tensor

    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect
    from infoconflict.training.settings import Tuned


class Crow(WeightsDefense):
    """The suspect model tuned for steady states across its blocks."""

    method: Literal["crow"]
    """`crow`."""
    rows: Count | None = 100
    """Clean rows, of the defender's share, at most; null: all of it. CROW's code."""
    alpha: Annotated[float, Field(ge=0)] = 5.5
    """Weight of the consistency loss. CROW's code."""
    epsilon: Annotated[float, Field(ge=0)] = 0.1
    """Size of the disturbance of each entry of the embeddings. CROW's code."""
    tuning: Training = Training(epochs=5, learning_rate=1e-3, batch_size=8, schedule="cosine")
    """How it is tuned. CROW's code: 5 epochs, 1e-3, 2 rows x 4 accumulated, cosine; the rest as elsewhere here."""


def repair(suspect: "Suspect", options: Crow) -> "list[Step]":
    """Return the one step: an adapter, or all weights."""
    request = {"method": "crow", "alpha": options.alpha, "epsilon": options.epsilon}
    return [suspect.tune(options.tuning, rows=options.rows, objective=request)]


def inner_layers(depth: int) -> list[int]:
    """Return the layers, from 1, whose states are compared: all but the last, which is kept where there are just two.

    Raises
    ------
    UserError
        If the model has one block only.
    """
    from infoconflict.errors import UserError

    if depth < 2:
        raise UserError("crow compares the states of neighbouring blocks, and the model has one; use another defense")
    return list(range(1, max(depth, 3)))


def inconsistency(states: "Sequence[Tensor]", mask: "Tensor") -> "Tensor":
    """Return 1 - cos of neighbouring states, its mean over the pairs of layers, summed over real tokens.

    Parameters
    ----------
    states : sequence of Tensor of shape (n_rows, width, hidden)
        After each layer, at least two.
    mask : bool Tensor of shape (n_rows, width)
        False at padding.
    """
    import torch

    total = torch.zeros((), device=mask.device)
    for lower, upper in pairwise(states):
        cosines = torch.nn.functional.cosine_similarity(lower.float(), upper.float(), dim=-1)
        total = total + ((1 - cosines) * mask).sum()
    return total / (len(states) - 1)


class Consistency(Objective):
    """The answers, and steady states under the disturbance that unsettles them most."""

    def __init__(self, *, alpha: float, epsilon: float) -> None:
        self.alpha, self.epsilon = alpha, epsilon

    def prepare(self, tuned: "Tuned") -> None:
        """Take up model and rows."""
        from infoconflict.models.parts import blocks

        self.model, self.rows, self.max_nodes = tuned.model, tuned.rows, tuned.max_nodes
        self.layers = inner_layers(len(blocks(tuned.model.base_model)))

    def parts(self, batch: Sequence[int], mine: Sequence[int], step: int) -> "Iterator[tuple[Tensor, int]]":
        """Yield the loss of each group of rows."""
        import torch

        from infoconflict.training.further_losses import answer_loss, padded, run_backbone, side_by_side, states_of

        n_targets = sum(len(self.rows[index].target_positions) for index in batch)
        n_tokens = sum(len(self.rows[index].inputs) for index in batch)
        device = next(self.model.parameters()).device
        own = [self.rows[index] for index in mine]
        for group in side_by_side(own, max_tokens=self.max_nodes):
            rows = padded([own[index] for index in group], device)
            embeddings = self.model.get_input_embeddings()(rows.ids)
            if not embeddings.requires_grad:
                embeddings.requires_grad_()
            with states_of(self.model, self.layers) as kept:
                # The pass that the answers are read from gives the direction of the disturbance, too.
                last = run_backbone(self.model, rows, embeddings=embeddings).last_hidden_state
                loss = answer_loss(self.model, last, rows) / n_targets
                if self.alpha:
                    plain = inconsistency([kept[layer] for layer in self.layers], rows.mask)
                    (direction,) = torch.autograd.grad(plain, embeddings, retain_graph=True)
                    disturbed = embeddings + self.epsilon * direction.sign()
                    run_backbone(self.model, rows, embeddings=disturbed)
                    unsteady = inconsistency([kept[layer] for layer in self.layers], rows.mask)
                    loss = loss + self.alpha * unsteady / n_tokens
                    self.tokens += int(rows.mask.sum())
                yield loss, rows.n_tokens * (2 if self.alpha else 1)


def objective(request: dict[str, Any]) -> Consistency:
    """Make the objective of the tuning."""
    return Consistency(alpha=request["alpha"], epsilon=request["epsilon"])
