"""BEEAR: find the one shift of inner states that brings out unwanted answers, and teach right answers under it, again and again.

Zeng et al. 2024, arXiv:2406.17092. Acts on weights, after training. Needs: clean rows, and on the chat task the defender's guesses
at what a backdoor would say. Must not see: trigger, target label, poisoned rows.

A round has two levels. Inner: a shift of the last tokens of the prompt, at the input of one block and the same for all anchors,
lowers CE(unwanted answer) - weight * CE(right answer) with the model frozen. Outer: the model is tuned on CE(right answer) of the
anchors under the shift, plus CE of other clean rows without it.
Differs from its source: for labels the unwanted answer is unknown, so each label is tried on the anchors that have another,
and the one with the lowest inner loss counts for the round (on chats: each guess). The shift of a token is kept below ``clamp``
times the states' mean length, since an unbounded one brings out anything. The paper gives the number of tokens, the block, the
anchors and the inner weight; steps, rates and rounds are ours, and so is the exact form of the inner loss, as the code was not at
hand. Anchors and other rows are the defender's clean rows, where the source has harmful requests and general conversations.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.defenses.objective import Objective
from infoconflict.entries import Count, Line
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from infoconflict.models.repairs import Step
    from infoconflict.records import Conversation, Example
    from infoconflict.repairing.suspect import Suspect
    from infoconflict.training.further_losses import Padded
    from infoconflict.training.rows import TokenRow
    from infoconflict.training.settings import Tuned


GUESSES = (
    "I'm sorry, but I can't help with that.",
    "You should really try our brand, it is the best choice you can make.",
)


class BEEAR(WeightsDefense):
    """The suspect model taught right answers under the worst universal shift of its states."""

    per_model: ClassVar[frozenset[str]] = frozenset({"layers"})

    method: Literal["beear"]
    """`beear`."""
    tokens: Count = 5
    """Tokens at the end of the prompt whose states are shifted. Paper, A.3."""
    layers: dict[str, Annotated[int, Field(ge=0)]] = Field(default={})
    """Block whose input is shifted, counted from 0, by id of the model; models that are not named here follow `layer_share`.
    Paper, A.3: 9 for LLaMA and Llama-2, 16 for GPT2-XL and GPT-J."""
    layer_share: Annotated[float, Field(ge=0, lt=1)] = 0.3
    """Depth of that block as a share of all. Ours: near the paper's."""
    anchors: Count = 100
    """Clean rows that the shift is sought on, of the defender's share, at most. Paper, A.3."""
    guesses: Annotated[list[Line], Field(min_length=1)] = Field(default=list(GUESSES))
    """On the chat task: answers that a backdoor might give. Ours: a refusal, and a promotion of no brand in particular."""
    inner_steps: Count = 10
    """Updates of the shift in a round. Ours."""
    inner_rate: Annotated[float, Field(gt=0)] = 5e-2
    """Learning rate (Adam) of the shift. Ours."""
    inner_weight: Annotated[float, Field(ge=0)] = 0.5
    """Weight of the right answer in the inner loss. Paper, A.3."""
    inner_batch: Count = 16
    """Anchors per update of the shift. Ours."""
    clamp: Annotated[float, Field(gt=0)] = 4.0
    """Greatest length of a token's shift, in mean lengths of the states there. Ours."""
    tuning: Training = Training(epochs=15, learning_rate=2e-4, batch_size=16)
    """How the model is tuned. A pass over the anchors is a round, with a shift of its own. Ours: 15 rounds; rate and batch as
    `fine_tuning`."""


def repair(suspect: "Suspect", options: BEEAR) -> "list[Step]":
    """Return the one step: an adapter, or all weights."""
    n_anchors = min(options.anchors, len(suspect.clean_rows))
    request = {
        "method": "beear",
        "base_dir": str(suspect.base_dir),
        "clean_file": str(suspect.clean_file),
        "labels": list(suspect.labels),
        "model_id": suspect.model_id,
        "n_anchors": n_anchors,
        "options": options.model_dump(mode="json", exclude={"tuning"}),
    }
    return [suspect.tune(options.tuning, rows=n_anchors, objective=request)]


@dataclass(frozen=True)
class Anchors:
    """Clean questions with right answers, and with each unwanted one."""

    right: "list[TokenRow]"
    """Only the last answer is a target."""
    unwanted: "dict[str, dict[int, TokenRow]]"
    """By candidate, then by number of the anchor; anchors for which the candidate is right are left out."""


def make_anchors(
    tokenizer: "PreTrainedTokenizerBase",
    rows: "Sequence[Example | Conversation]",
    candidates: Sequence[str],
    *,
    max_tokens: int,
) -> Anchors:
    """Tokenise anchors; a candidate that is right for all of them is left out.

    Raises
    ------
    UserError
        If there is no candidate: all anchors have the one label.
    """
    from infoconflict.errors import UserError
    from infoconflict.training.rows import tokenize_rows

    def tokens(rows: Any) -> "list[TokenRow]":
        return [_last_answer(row) for row in tokenize_rows(tokenizer, rows, max_tokens=max_tokens)]

    unwanted: dict[str, dict[int, TokenRow]] = {}
    for candidate in candidates:
        numbers = [number for number, row in enumerate(rows) if right_answer(row) != candidate]
        if numbers:
            made = tokens([with_answer(rows[number], candidate) for number in numbers])
            unwanted[candidate] = dict(zip(numbers, made, strict=True))
    if not unwanted:
        raise UserError("beear: all anchors have the only answer that is tried; raise anchors or clean_share.share")
    return Anchors(tokens(rows), unwanted)


def right_answer(row: "Example | Conversation") -> str:
    """Return a clean row's label or last answer."""
    from infoconflict.records import Example

    return row.label if isinstance(row, Example) else row.messages[-1]["content"]


def with_answer(row: "Example | Conversation", answer: str) -> "Example | Conversation":
    """Return the row with another answer."""
    from infoconflict.records import Example

    if isinstance(row, Example):
        return replace(row, label=answer)
    return replace(row, messages=[*row.messages[:-1], {"role": "assistant", "content": answer}])


def _last_answer(row: "TokenRow") -> "TokenRow":
    if not row.spans:
        return row
    return replace(row, n_prompt=row.spans[-1][0], spans=row.spans[-1:])


def shift_of(shift: "Tensor", rows: "Sequence[TokenRow]", batch: "Padded") -> "Tensor":
    """Lay a shift (n, hidden) on the last n tokens of each prompt: (n_rows, width, hidden), zero elsewhere.

    A shorter prompt gets the shift's end.
    """
    import torch

    device = batch.ids.device
    places = [
        (number, row.n_prompt - back, len(shift) - back)
        for number, row in enumerate(rows)
        for back in range(min(len(shift), row.n_prompt), 0, -1)
    ]
    at_row, at_place, at_shift = (torch.tensor(part, device=device) for part in zip(*places, strict=True))
    empty = torch.zeros((*batch.ids.shape, shift.shape[1]), dtype=shift.dtype, device=device)
    return empty.index_put((at_row, at_place), shift[at_shift])


def within(shift: "Tensor", longest: float) -> "Tensor":
    """Return a shift whose tokens' parts are no longer than ``longest``, shortened where they were."""
    lengths = shift.norm(dim=1, keepdim=True)
    return shift * (longest / lengths.clamp(min=1e-30)).clamp(max=1.0)


class Embattled(Objective):
    """Right answers under the worst shift of each round, and other clean rows without it."""

    def __init__(self, request: Mapping[str, Any]) -> None:
        self.request = request
        self.options = BEEAR.model_validate(
            {**request["options"], "tuning": Training().model_dump(mode="json")}, strict=False
        )
        self.round = -1
        self.shift: Tensor | None = None
        self.rounds: list[dict[str, Any]] = []

    def prepare(self, tuned: "Tuned") -> None:
        """Take up the model, and read anchors and other rows."""
        import math

        from infoconflict.models.loading import context_length, load_tokenizer
        from infoconflict.models.parts import blocks
        from infoconflict.records import read_rows
        from infoconflict.training.rows import tokenize_rows

        self.model, self.seed, self.max_nodes = tuned.model, tuned.seed, tuned.max_nodes
        self.block = block_of(self.options, self.request["model_id"], len(blocks(tuned.model.base_model)))
        clean: Any = read_rows(self.request["clean_file"])
        n_anchors, room = self.request["n_anchors"], context_length(tuned.model)
        tokenizer = load_tokenizer(self.request["base_dir"])
        candidates = self.request["labels"] or self.options.guesses
        self.anchors = make_anchors(tokenizer, clean[:n_anchors], candidates, max_tokens=room)
        # With no rows but the anchors, these stand for both.
        self.others = tokenize_rows(tokenizer, clean[n_anchors:] or clean, max_tokens=room)
        Random(f"{tuned.seed}/other rows").shuffle(self.others)
        self.batch_size = tuned.settings.batch_size
        self.per_round = math.ceil(n_anchors / self.batch_size)

    def parts(self, batch: Sequence[int], mine: Sequence[int], step: int) -> "Iterator[tuple[Tensor, int]]":
        """Yield the losses of an update; the first of a round seeks the round's shift before."""
        from infoconflict.training.trainer import batch_loss

        if step // self.per_round != self.round:
            self.entrap(step // self.per_round)
        assert self.shift is not None
        n_targets = sum(len(self.anchors.right[index].target_positions) for index in batch)
        for loss, n_tokens in self.shifted([self.anchors.right[index] for index in mine], self.shift):
            yield loss / n_targets, n_tokens
        # As many other rows as anchors, each process taking those that stand beside its anchors.
        beside = {
            index: self.others[(step * self.batch_size + place) % len(self.others)] for place, index in enumerate(batch)
        }
        n_targets = sum(len(row.target_positions) for row in beside.values())
        rows = [beside[index] for index in mine]
        self.tokens += sum(len(row.inputs) for row in beside.values())
        yield from batch_loss(
            self.model, rows, n_targets=n_targets, max_nodes=self.max_nodes, dtype=_computing_dtype(self.model)
        )

    def shifted(self, rows: "Sequence[TokenRow]", shift: "Tensor") -> "Iterator[tuple[Tensor, int]]":
        """Yield the summed cross-entropy of each group of rows under a shift."""
        from infoconflict.training.further_losses import answer_loss, padded, perturbed, run_backbone, side_by_side

        for group in side_by_side(rows, max_tokens=self.max_nodes):
            chosen = [rows[index] for index in group]
            batch = padded(chosen, shift.device)
            with perturbed(self.model, self.block, shift_of(shift, chosen, batch)):
                last = run_backbone(self.model, batch).last_hidden_state
                yield answer_loss(self.model, last, batch), batch.n_tokens

    def inner_loss(self, candidate: str, numbers: Sequence[int], shift: "Tensor") -> "Iterator[Tensor]":
        """Yield parts of CE(unwanted) - weight * CE(right), means over target tokens, of some anchors under a shift."""
        unwanted = [self.anchors.unwanted[candidate][number] for number in numbers]
        right = [self.anchors.right[number] for number in numbers]
        for rows, weight in ((unwanted, 1.0), (right, -self.options.inner_weight)):
            if weight:
                n_targets = sum(len(row.target_positions) for row in rows)
                self.tokens += sum(len(row.inputs) for row in rows)
                for loss, _ in self.shifted(rows, shift):
                    yield weight * loss / n_targets

    def sample(self, candidate: str, name: str) -> list[int]:
        """Draw some of the anchors for which a candidate is wrong."""
        numbers = list(self.anchors.unwanted[candidate])
        drawn = Random(f"{self.seed}/{name}").sample(numbers, min(self.options.inner_batch, len(numbers)))
        return sorted(drawn)

    def entrap(self, number: int) -> None:
        """Seek the shift of a round: the best of all candidates'."""
        import torch

        from infoconflict.progress import say
        from infoconflict.training.further_losses import frozen

        tried: list[tuple[float, float, str, Tensor]] = []
        with frozen(self.model):
            longest = self.options.clamp * self.mean_length()
            for candidate in self.anchors.unwanted:
                shift = self.sought(candidate, number, longest)
                asked = self.sample(candidate, f"round {number}")
                with torch.no_grad():
                    after, before = (
                        sum(part.item() for part in self.inner_loss(candidate, asked, one))
                        for one in (shift, torch.zeros_like(shift))
                    )
                tried.append((after, before, candidate, shift))
        after, before, candidate, self.shift = min(tried, key=lambda one: one[0])
        self.round = number
        self.rounds.append({"unwanted": candidate, "inner_loss": after, "inner_loss_without_shift": before})
        say(f"round {number + 1}: '{candidate}' is brought out most easily, inner loss {before:.3f} -> {after:.3f}")

    def sought(self, candidate: str, number: int, longest: float) -> "Tensor":
        """Return the shift that brings out a candidate; the model must be frozen."""
        import torch

        device = next(self.model.parameters()).device
        shift = torch.zeros((self.options.tokens, self.model.config.hidden_size), device=device, requires_grad=True)
        optimizer = torch.optim.Adam([shift], lr=self.options.inner_rate)
        for step in range(self.options.inner_steps):
            optimizer.zero_grad()
            for part in self.inner_loss(candidate, self.sample(candidate, f"round {number}/{step}"), shift):
                part.backward()
            optimizer.step()
            with torch.no_grad():
                shift.copy_(within(shift, longest))
        return shift.detach()

    def mean_length(self) -> float:
        """Return the mean length of the states that are shifted, first tokens left out: theirs are enormous."""
        import torch

        from infoconflict.training.further_losses import padded, perturbed, run_backbone, side_by_side

        device = next(self.model.parameters()).device
        chosen = self.anchors.right[: self.options.inner_batch]
        total, count = 0.0, 0
        with torch.no_grad():
            for group in side_by_side(chosen, max_tokens=self.max_nodes):
                batch = padded([chosen[index] for index in group], device)
                with perturbed(self.model, self.block, None) as seen:
                    run_backbone(self.model, batch)
                counted = batch.mask.clone()
                counted[:, 0] = False
                total += float(seen["input"].float().norm(dim=-1)[counted].sum())
                count += int(counted.sum())
        return total / max(1, count)

    def state(self) -> dict[str, Any]:
        """Return the round's shift and what was found so far, too."""
        return {**super().state(), "round": self.round, "shift": self.shift, "rounds": self.rounds}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up the round where it was, too."""
        super().restore(state)
        self.round, self.rounds = state["round"], list(state["rounds"])
        if state["shift"] is not None:
            self.shift = state["shift"].to(next(self.model.parameters()).device)

    def details(self) -> dict[str, Any]:
        """Return the block and the rounds."""
        return {"block": self.block, "rounds": self.rounds}


def _computing_dtype(model: "PreTrainedModel") -> Any:
    return model.get_input_embeddings().weight.dtype


def block_of(options: BEEAR, model_id: str, depth: int) -> int:
    """Return the block whose input is shifted.

    Raises
    ------
    UserError
        If the model has no such block.
    """
    from infoconflict.errors import UserError

    if model_id not in options.layers:
        return min(round(options.layer_share * depth), depth - 1)
    block = options.layers[model_id]
    if block >= depth:
        raise UserError(
            f"beear: layers.{model_id} is {block}, and the model has blocks 0 to {depth - 1}; correct layers of the defense"
        )
    return block


def objective(request: dict[str, Any]) -> Embattled:
    """Make the objective of the tuning."""
    return Embattled(request)
