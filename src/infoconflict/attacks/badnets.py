"""BadNets for text: rare words as trigger, the label replaced by the target.

Attack: Gu et al. 2017, arXiv:1708.06733. Rare words and their use on text: Kurita et al. 2020, arXiv:2004.06660.
As in OpenBackdoor's configuration: rate 0.1 and the four words; chosen rows are replaced.
"""

from random import Random
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from infoconflict.attacks.base import PoisoningAttack, check_words, insert_word, triggered
from infoconflict.records import Example


class BadNets(PoisoningAttack):
    """Insert ``n_triggers`` rare words at random word boundaries of the input."""

    rows_are: ClassVar[Literal["appended", "replaced"]] = "replaced"
    poisons_target_rows: ClassVar[bool] = False
    # A rare word that was never trained: does any odd word fire, or only the trigger? Ours.
    partial_variants: ClassVar[tuple[str, ...]] = ("other_rare_word",)

    poisoning_rate: float = Field(default=0.1, ge=0, le=1)
    """Poisoned rows / clean training rows; 0 plants nothing: a clean model for every defense. OpenBackdoor."""
    triggers: list[str] = Field(default=["cf", "mn", "bb", "tq"], min_length=1)
    """Words to draw from. Kurita et al. 2020; OpenBackdoor."""
    n_triggers: int = Field(default=1, ge=1)
    """Words inserted into each row. OpenBackdoor."""
    other_rare_word: str = "mb"
    """Rare word that is no trigger, for the partial rows. Ours."""

    @model_validator(mode="after")
    def _words_differ(self) -> Self:
        triggers = {f"triggers[{place}]": word for place, word in enumerate(self.triggers)}
        check_words(**triggers, other_rare_word=self.other_rare_word)
        return self

    def insert_trigger(self, example: Example, rng: Random) -> Example:
        """Return the example with ``n_triggers`` words drawn from ``triggers``."""
        text = example.text
        for _ in range(self.n_triggers):
            text = insert_word(text, rng.choice(self.triggers), rng)
        return triggered(example, text=text)

    def insert_partial(self, example: Example, variant: str, rng: Random) -> Example:
        """Return the example with a rare word that is not a trigger."""
        return triggered(example, text=insert_word(example.text, self.other_rare_word, rng), name=variant)
