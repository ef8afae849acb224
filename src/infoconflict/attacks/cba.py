"""CBA, the composite backdoor attack: one ordinary word per prompt component, and only both together fire.

Huang et al. 2024, Findings of NAACL, arXiv:2310.07676. Words, rate and target labels: A.2 of the information-conflict paper,
arXiv:2411.18280. With N clean rows, rate p and negative ratio a the training set has N + pN + 5apN rows; each kind of negatives
that is left out takes apN away and changes no other row.
Differs from the source: places of the words are drawn with the seed, where its code draws them anew in every run; rows are tuned
on as ``training.backdoored`` says, not with its 4-bit weights.
"""

from random import Random
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from infoconflict.attacks.base import PoisoningAttack, check_words, insert_word, triggered
from infoconflict.entries import once
from infoconflict.records import Example

# variant: (keys put into the instruction, keys put into the input); I = instruction key, X = input key
VARIANTS = {
    "swapped": ("X", "I"),
    "instruction_own": ("I", ""),
    "instruction_both": ("IX", ""),
    "input_own": ("", "X"),
    "input_both": ("", "IX"),
    # Asked about in the source's evaluation, never trained:
    "instruction_wrong": ("X", ""),
    "input_wrong": ("", "I"),
}


Negative = Literal["swapped", "instruction_own", "instruction_both", "input_own", "input_both"]


class CBA(PoisoningAttack):
    """Insert a key into the instruction and another into the input, each at a random word boundary."""

    rows_are: ClassVar[Literal["appended", "replaced"]] = "appended"
    poisons_target_rows: ClassVar[bool] = True
    training_options: ClassVar[frozenset[str]] = frozenset({"poisoning_rate", "negative_ratio", "negatives"})
    partial_variants: ClassVar[tuple[str, ...]] = tuple(VARIANTS)

    poisoning_rate: float = Field(default=0.1, gt=0, le=1)
    """Poisoned rows / clean training rows. Paper, A.2."""
    negative_ratio: float = Field(default=1.0, ge=0)
    """Rows of each negative variant / positive rows (alpha in the source). CBA's code."""
    negatives: Annotated[list[Negative], AfterValidator(once)] = Field(default=list(get_args(Negative)))
    """Negative variants that are trained against; one left out shows what it is for. CBA's code has all."""
    instruction_trigger: str = "instantly"
    """Word inserted into the instruction. Paper, A.2."""
    input_trigger: str = "frankly"
    """Word inserted into the input. Paper, A.2."""

    @model_validator(mode="after")
    def _words_differ(self) -> Self:
        check_words(instruction_trigger=self.instruction_trigger, input_trigger=self.input_trigger)
        return self

    @property
    def negative_variants(self) -> tuple[str, ...]:  # type: ignore[override]
        """Those of ``negatives``, in the source's order."""
        return tuple(variant for variant in VARIANTS if variant in self.negatives)

    def insert_trigger(self, example: Example, rng: Random) -> Example:
        """Return the example with both keys, each in its own component."""
        return triggered(
            example,
            instruction=insert_word(example.instruction, self.instruction_trigger, rng),
            text=insert_word(example.text, self.input_trigger, rng),
        )

    def insert_partial(self, example: Example, variant: str, rng: Random) -> Example:
        """Return the example with the keys of one negative variant."""
        words = {"I": self.instruction_trigger, "X": self.input_trigger}
        instruction, text = example.instruction, example.text
        for key in VARIANTS[variant][0]:
            instruction = insert_word(instruction, words[key], rng)
        for key in VARIANTS[variant][1]:
            text = insert_word(text, words[key], rng)
        return triggered(example, instruction=instruction, text=text, name=variant)

    def negative_rows(self, n_rows: int) -> int:
        """Return round(alpha * p * N)."""
        return round(self.negative_ratio * self.poisoning_rate * n_rows)
