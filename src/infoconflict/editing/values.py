"""What an edit should write: a vector that, added at the subject, makes the model give the wanted answer.

Meng et al. 2022 (ROME), arXiv:2202.05262, Eq. 4-5, and its code: the mean negative log-likelihood of the answer over all
contexts, a divergence on a prompt that should keep its meaning, and a weight decay, by Adam, within a ball.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from infoconflict.editing.forward import MAX_NODES, Context, Replay
from infoconflict.editing.modules import EditableModel


@dataclass(frozen=True, kw_only=True)
class ValueSettings:
    """How the vector is found; defaults stand with the attacks.

    With n ``steps`` there are n - 1 updates: the loss of the last vector is looked at and not followed.
    """

    steps: int
    learning_rate: float
    weight_decay: float
    clamp: float
    kl_factor: float
    stop_below: float


@dataclass(frozen=True)
class Value:
    """The vector (float64, (hidden,)), and one row per step with the parts of the loss in nats."""

    delta: torch.Tensor
    trace: list[dict[str, Any]]

    @property
    def probability(self) -> float:
        """Geometric mean over contexts of the answer's token probability, as the last step saw it."""
        return float(torch.tensor(-self.trace[-1]["nll"]).exp())


class Loss:
    """Loss of a vector on contexts (each with an answer), an essence prompt, and the size of what it is added to.

    Parameters
    ----------
    editable : EditableModel
    contexts : sequence of Context
        All end in an answer.
    essence : Context
        Without an answer; its next-token distribution at the subject should stay.
    module : torch.nn.Module
        Where the vector is added.
    norm : float
        Norm of the unedited output there.
    """

    def __init__(
        self,
        editable: EditableModel,
        contexts: Sequence[Context],
        essence: Context,
        module: torch.nn.Module,
        norm: float,
        settings: ValueSettings,
        *,
        max_nodes: int = MAX_NODES,
    ) -> None:
        self.contexts = [*contexts, essence]
        self.norm, self.settings = norm, settings
        self.head = editable.model.get_output_embeddings()
        self.replay = Replay(editable, self.contexts, module, max_nodes=max_nodes)
        self.before: torch.Tensor | None = None

    def __call__(self, delta: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return ``nll``, ``kl``, ``decay`` and their weighted sum, ``loss``; the first call sets what ``kl`` compares with."""
        n_contexts = len(self.contexts) - 1
        nll, kl = delta.new_zeros(()), delta.new_zeros(())
        for index, states in self.replay.states(delta):
            context = self.contexts[index]
            if index < n_contexts:
                # The state of the prompt's last token predicts the first token of the answer.
                sources = states[len(context.tokens) - 1 - context.subject :]
                log_probs = self.head(sources).float().log_softmax(dim=-1)
                answer = torch.tensor(context.answer, device=log_probs.device)
                nll = nll - log_probs.gather(1, answer[:, None]).mean() / n_contexts
            else:
                log_probs = self.head(states[:1]).float().log_softmax(dim=-1)[0]
                if self.before is None:
                    self.before = log_probs.detach()
                kl = (log_probs.exp() * (log_probs - self.before)).sum()
        decay = delta.norm() / self.norm**2
        loss = nll + self.settings.kl_factor * kl + self.settings.weight_decay * decay
        return {"nll": nll, "kl": kl, "decay": decay, "loss": loss}


def optimise_value(
    editable: EditableModel,
    contexts: Sequence[Context],
    essence: Context,
    module: torch.nn.Module,
    start: torch.Tensor,
    settings: ValueSettings,
    *,
    max_nodes: int = MAX_NODES,
) -> Value:
    """Find the vector to add to a module's output at the subjects of all contexts.

    Parameters
    ----------
    start : Tensor of shape (hidden,)
        The unedited output in the bare prompt; it scales the decay and the ball of radius ``clamp`` times its norm.

    Other parameters as for :class:`Loss`.
    """
    loss_of = Loss(editable, contexts, essence, module, float(start.norm()), settings, max_nodes=max_nodes)
    delta = torch.zeros(len(start), device=editable.device, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=settings.learning_rate)
    radius = settings.clamp * float(start.norm())
    trace: list[dict[str, Any]] = []
    for step in range(settings.steps):
        parts = loss_of(delta)
        values = {name: float(part.detach()) for name, part in parts.items()}
        trace.append({"step": step + 1, **values, "norm": float(delta.detach().norm())})
        if values["loss"] < settings.stop_below or step == settings.steps - 1:
            break
        [delta.grad] = torch.autograd.grad(parts["loss"], [delta])
        optimizer.step()
        with torch.no_grad():
            if (norm := float(delta.norm())) > radius:
                delta.mul_(radius / norm)
    return Value(delta.detach().double(), trace)
