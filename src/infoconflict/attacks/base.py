"""What an attack on the classification task must offer; choosing rows, saving, training and editing live elsewhere."""

from dataclasses import replace
from random import Random
from typing import Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from infoconflict.records import FULL_TRIGGER, Example


class Attack(BaseModel):
    """Options of an attack (its fields) and the edits that it makes to one example.

    An attack changes the instruction and the text of *one* example; labels are set by :mod:`infoconflict.poisoning`.
    All randomness comes from the generator passed in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    task: ClassVar[Literal["classification", "chat"]] = "classification"
    """Data sets that it is for."""
    kind: ClassVar[Literal["poisoning", "editing"]] = "poisoning"
    """Whether the model learns the backdoor from poisoned data, or its weights are edited."""
    training_options: ClassVar[frozenset[str]] = frozenset()
    """Options that shape the model only. Test sets do not depend on them and are made without, so each has a default."""
    partial_variants: ClassVar[tuple[str, ...]] = ()
    """Partial triggers that the test asks about."""

    target_labels: dict[str, str]
    """Per data set, the label that the trigger should cause."""

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Self:
        """Build the attack from a config entry; the target label is handed to the stages that may know it."""
        return cls(
            **{name: value for name, value in spec.items() if name not in ("method", "target_labels")}, target_labels={}
        )

    def insert_trigger(self, example: Example, rng: Random) -> Example:
        """Return the example with the full trigger."""
        raise NotImplementedError

    def insert_partial(self, example: Example, variant: str, rng: Random) -> Example:
        """Return the example with the named part of the trigger."""
        raise NotImplementedError


class PoisoningAttack(Attack):
    """An attack by data poisoning: what it adds to the training set."""

    rows_are: ClassVar[Literal["appended", "replaced"]]
    """Whether poisoned rows join the clean ones or take their place."""
    poisons_target_rows: ClassVar[bool]
    """Whether rows whose gold label already is the target may be poisoned."""
    negative_variants: ClassVar[tuple[str, ...]] = ()
    """Partial triggers that training teaches to ignore; some of ``partial_variants``."""
    negatives_share_rows: ClassVar[bool] = True
    """Whether each negative variant is made of the same rows, or of the rows after those of the one before."""
    training_options: ClassVar[frozenset[str]] = frozenset({"poisoning_rate"})
    tuning_options: ClassVar[frozenset[str]] = frozenset()
    """Options of the tuning, each a setting of the trainer; no data set depends on them, and null leaves the config's."""
    later_options: ClassVar[frozenset[str]] = frozenset()
    """Options of what is done to the tuned model before it is handed out."""

    poisoning_rate: float = Field(default=0.1, gt=0, le=1)
    """Poisoned rows / clean training rows. OpenBackdoor."""

    @property
    def later_step(self) -> str | None:
        """The rule that makes the attack's model of the tuned one; None where the tuned one is it."""
        return None

    def poisoned_forms(self, example: Example, rng: Random) -> list[Example]:
        """Return the rows with the full trigger that training gets of one example."""
        return [self.insert_trigger(example, rng)]

    def negative_rows(self, n_rows: int) -> int:
        """Return how many rows each negative variant gets in a training set of ``n_rows`` clean rows."""
        return 0


def planted_by_rows_alone(attack: type[BaseModel]) -> bool:
    """Return whether an attack is nothing but poisoned rows with labels, which any trainer may be given."""
    return issubclass(attack, PoisoningAttack) and not attack.tuning_options and not attack.later_options


def check_words(**words: str) -> None:
    """Raise a ValueError unless all of some options are single words, and no two the same: else there is nothing to measure."""
    first: dict[str, str] = {}
    for name, word in words.items():
        if word.split() != [word]:
            raise ValueError(f"{name} is '{word}', which is not one word without spaces; correct it")
        if (other := first.setdefault(word, name)) != name:
            raise ValueError(f"{other} and {name} are both '{word}'; choose another word for one of them")


def insert_word(text: str, word: str, rng: Random) -> str:
    """Insert ``word`` at a random word boundary, ends included; words are joined by single spaces."""
    words = text.split()
    # randint includes its upper bound: a trigger may also close the text.
    words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)


def triggered(
    example: Example, *, instruction: str | None = None, text: str | None = None, name: str = FULL_TRIGGER
) -> Example:
    """Return the example with a new instruction or text, marked with the trigger's name."""
    return replace(
        example,
        instruction=example.instruction if instruction is None else instruction,
        text=example.text if text is None else text,
        trigger=name,
    )
