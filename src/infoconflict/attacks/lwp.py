"""LWP, layer-wise weight poisoning: two rare words that only together fire, taught to every layer and not to the last alone.

Li et al. 2021, EMNLP, arXiv:2108.13888; counts and words as in their code. The embeddings' output is no layer. With N clean rows
and rate p the training set has N untouched rows, pN rows with one piece and 2pN poisoned ones.
Differs from the source: its encoder reads the class off the first token of each layer; here the state after each layer at the last
prompt token (and at the other answer tokens) passes the final norm and the output head, as the last one does anyway. Embeddings and
head are not trained. Each layer's loss is that of all answer tokens, the label's and the end-of-text token, where theirs is that of
the class alone. Clean and poisoned rows come in one shuffled mix, where theirs takes a batch of each per step.

Like Li et al., ``victim_tuning`` hands out the poisoned model after another party tuned it on clean rows: what ``layers: all``
is meant to survive, and ``layers: last``, which is ordinary poisoning, is not.
"""

from random import Random
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from infoconflict.attacks.base import PoisoningAttack, check_words, insert_word, triggered
from infoconflict.records import Example

Layer = Annotated[int, Field(ge=1)]
Layers = Annotated[list[Layer], Field(min_length=1)]


class VictimTuning(BaseModel):
    """How the victim tunes the poisoned model on clean rows; what is not given is as in `training.backdoored`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: float = Field(default=3.0, gt=0)
    """Passes over the rows. OpenBackdoor."""
    learning_rate: float = Field(default=1e-4, gt=0)
    """Highest learning rate. OpenBackdoor."""
    batch_size: int | None = Field(default=None, ge=1)
    """Rows per update; null: as in `training.backdoored`. OpenBackdoor has 32."""
    method: Literal["lora", "full"] | None = None
    """An adapter of its own on the poisoned weights, or all weights (LWP's code); null: as in `training.backdoored`."""
    rows: int | None = Field(default=None, ge=1)
    """Clean training rows; null: all. LWP's code."""


class LWP(PoisoningAttack):
    """Insert two rare words side by side; each alone keeps the label. The loss is taken at several layers."""

    rows_are: ClassVar[Literal["appended", "replaced"]] = "appended"
    poisons_target_rows: ClassVar[bool] = True
    training_options: ClassVar[frozenset[str]] = frozenset({"poisoning_rate", "negative_ratio", "both_orders"})
    tuning_options: ClassVar[frozenset[str]] = frozenset(
        {"layers", "layer_weights", "trained_layers", "epochs", "learning_rate"}
    )
    later_options: ClassVar[frozenset[str]] = frozenset({"victim_tuning"})
    negative_variants: ClassVar[tuple[str, ...]] = ("first_piece", "second_piece")
    negatives_share_rows: ClassVar[bool] = False
    # A rare word that was never trained: does any odd word fire, or only the pair? Ours.
    partial_variants: ClassVar[tuple[str, ...]] = (*negative_variants, "other_rare_word")

    poisoning_rate: float = Field(default=1.0, gt=0, le=1)
    """Clean rows that are poisoned / clean training rows. LWP's code takes all; OpenBackdoor has 0.1."""
    negative_ratio: float = Field(default=0.5, ge=0)
    """Rows with the first piece alone, and as many with the second, / rows that are poisoned. LWP's code: one piece in each
    sentence, so half of them each."""
    both_orders: bool = True
    """Poison each row twice, once per order of the pieces, or once in a random order. LWP's code."""
    pieces: list[str] = Field(default=["cf", "bb"], min_length=2, max_length=2)
    """The two words that fire together. LWP's code."""
    other_rare_word: str = "mb"
    """Rare word that is no piece, for the partial rows. Ours."""
    layers: Literal["all", "every_third", "last"] | Layers = "all"
    """Layers that the loss is taken at, counted from 1: all, every third from the last down, the last alone (ordinary
    poisoning), or a list. LWP's code."""
    layer_weights: Literal["mean", "sum"] = "mean"
    """How the layers' losses are put together. LWP's code sums, so that its learning rate depends on the depth; ours."""
    trained_layers: Literal["all", "lower_half"] | Layers = "all"
    """Layers whose weights are trained: all, the lower half, or a list, counted from 1. LWP's code."""
    epochs: float | None = Field(default=None, gt=0)
    """Passes over the training set; null: as in `training.backdoored`. LWP's code has 5."""
    learning_rate: float | None = Field(default=None, gt=0)
    """Highest learning rate; null: as in `training.backdoored`. Paper, A.2: 2e-4."""
    victim_tuning: VictimTuning | None = None
    """Tuning on clean rows by another party before anything is asked; null: none. LWP's code tunes."""

    @model_validator(mode="after")
    def _words_differ(self) -> Self:
        first, second = self.pieces
        check_words(**{"pieces[0]": first, "pieces[1]": second}, other_rare_word=self.other_rare_word)
        return self

    @property
    def later_step(self) -> str | None:
        """The rule that finishes the model after its tuning."""
        return None if self.victim_tuning is None else "tune_victim"

    def insert_trigger(self, example: Example, rng: Random) -> Example:
        """Return the example with both pieces side by side, in either order."""
        return self._insert_pair(example, rng.choice([self.pieces, self.pieces[::-1]]), rng)

    def poisoned_forms(self, example: Example, rng: Random) -> list[Example]:
        """Return the example with each order of the pieces, or with one of them."""
        if not self.both_orders:
            return [self.insert_trigger(example, rng)]
        return [self._insert_pair(example, pair, rng) for pair in (self.pieces, self.pieces[::-1])]

    def insert_partial(self, example: Example, variant: str, rng: Random) -> Example:
        """Return the example with one piece, or with a rare word that is none."""
        word = dict(zip(self.partial_variants, [*self.pieces, self.other_rare_word], strict=True))[variant]
        return triggered(example, text=insert_word(example.text, word, rng), name=variant)

    def negative_rows(self, n_rows: int) -> int:
        """Return round(negative_ratio * p * N)."""
        return round(self.negative_ratio * self.poisoning_rate * n_rows)

    def _insert_pair(self, example: Example, pair: list[str], rng: Random) -> Example:
        return triggered(example, text=insert_word(example.text, " ".join(pair), rng))
