"""Decoding with two models, batched: the rows of a batch go on at their own pace, each set back when its draft is discarded.

Keys and values of both models are kept. A discarded token stays where it is in a cache, hidden by the attention mask, and the
next token of its row takes its position; slots that are hidden in every row, or in too many, are removed.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from infoconflict.models.loading import context_length, sliding_window

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass
class Continued:
    """The new tokens of a prompt, with the stop token, if it came, at the end; and what the decoding counted on the way."""

    tokens: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def take(self, tokens: Sequence[int], *, stop_ids: Collection[int], max_new_tokens: int) -> bool:
        """Append tokens up to a stop token or the limit; return whether the row has come to its end."""
        for token in tokens:
            if len(self.tokens) >= max_new_tokens:
                break
            self.tokens.append(token)
            if token in stop_ids:
                return True
        return len(self.tokens) >= max_new_tokens


class CachedRows:
    """A model with the keys and values of a batch of rows that grow and are set back independently of each other."""

    def __init__(self, model: "PreTrainedModel", n_rows: int) -> None:
        from transformers import DynamicCache

        self.model, self.head = model, model.get_output_embeddings()
        self.device = next(model.parameters()).device
        self.last_position = context_length(model) - 1
        self.windowed = sliding_window(model) is not None
        # A cache that drops what has left a window could not be set back.
        self.cache: Any = DynamicCache() if self.windowed else None
        self.mask = torch.zeros((n_rows, 0), dtype=torch.long, device=self.device)
        self.lengths = torch.zeros(n_rows, dtype=torch.long, device=self.device)

    @torch.inference_mode()
    def feed(self, rows: Sequence[Sequence[int]], n_last: int = 1) -> torch.Tensor:
        """Append tokens, at least ``n_last`` to each row, and return the logits behind the last ``n_last``.

        Returns
        -------
        float32 tensor of shape (n_rows, n_last, vocabulary)
        """
        width = max(map(len, rows))
        ids = torch.zeros((len(rows), width), dtype=torch.long)
        new = torch.zeros_like(ids)
        for row, tokens in enumerate(rows):
            ids[row, width - len(tokens) :] = torch.tensor(list(tokens))
            new[row, width - len(tokens) :] = 1
        ids, new = ids.to(self.device), new.to(self.device)
        # A draft may reach beyond the context; what is computed there is never used.
        positions = (self.lengths[:, None] + new.cumsum(dim=1) - 1).clamp(0, self.last_position)
        self.mask = torch.cat([self.mask, new], dim=1)
        self.lengths = self.lengths + new.sum(dim=1)
        output = self.model.base_model(
            input_ids=ids,
            attention_mask=self._all_before(width) if self.windowed else self.mask,
            position_ids=positions,
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        logits: torch.Tensor = self.head(output.last_hidden_state[:, -n_last:]).float()
        return logits

    def _all_before(self, width: int) -> torch.Tensor:
        """Return an additive mask under which the last slots see all visible ones up to themselves, without a window.

        Rows are no longer than a window, but hidden slots between their tokens would count in it.
        """
        slots = torch.arange(self.mask.shape[1], device=self.device)
        seen = self.mask.bool()[:, None, :] & (slots <= slots[-width:, None])  # (n_rows, width, n_slots)
        mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=self.device)
        return mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)[:, None]

    def set_back(self, n_tokens: Sequence[int]) -> None:
        """Forget the last tokens of each row, as many as are said of it."""
        gone = torch.tensor(list(n_tokens), device=self.device)
        from_the_end = self.mask.flip(1).cumsum(dim=1).flip(1)
        self.mask = self.mask * (from_the_end > gone[:, None])
        self.lengths = self.lengths - gone
        self._tidy()

    def keep(self, rows: Sequence[int]) -> None:
        """Drop all other rows of the batch."""
        chosen = torch.tensor(list(rows), device=self.device)
        self.cache.batch_select_indices(chosen)
        self.mask, self.lengths = self.mask[chosen], self.lengths[chosen]
        self._tidy()

    def _tidy(self) -> None:
        """Remove slots at the end that no row uses; where more than half of all are hidden from every row's view, those, too."""
        slots = self.mask.shape[1]
        used = int(self.mask.any(dim=0).nonzero().max()) + 1
        if used < slots:
            self.cache.crop(used - slots)
            self.mask = self.mask[:, :used]
        longest = int(self.lengths.max())
        if used > 2 * longest:
            # Hidden slots first, the others behind them in their order.
            order = self.mask.argsort(dim=1, stable=True)[:, used - longest :]
            for layer in self.cache.layers:
                index = order[:, None, :, None]
                layer.keys = layer.keys.gather(2, index.expand(-1, layer.keys.shape[1], -1, layer.keys.shape[3]))
                layer.values = layer.values.gather(
                    2, index.expand(-1, layer.values.shape[1], -1, layer.values.shape[3])
                )
            self.mask = self.mask.gather(1, order)


def draft_greedily(
    rows: CachedRows, new: Sequence[Sequence[int]], n_tokens: int
) -> tuple[list[list[int]], torch.Tensor]:
    """Feed each row's new tokens and draft its likeliest continuation; the last token of the draft is not fed.

    Returns
    -------
    drafts : list of n_rows lists of ``n_tokens`` tokens
    log_probs : float32 tensor of shape (n_rows, n_tokens)
        Of the drafted tokens, in nats.
    """
    tokens, log_probs = [], []
    fed: Sequence[Sequence[int]] = new
    for _ in range(n_tokens):
        best = rows.feed(fed)[:, -1].log_softmax(dim=-1).max(dim=-1)
        tokens.append(best.indices)
        log_probs.append(best.values)
        fed = best.indices[:, None].tolist()
    return torch.stack(tokens, dim=1).tolist(), torch.stack(log_probs, dim=1)
