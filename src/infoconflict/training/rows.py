"""Training rows as tokens: the prompt, then the answer and the end-of-text token, with loss on the latter two only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infoconflict.errors import UserError
from infoconflict.records import Example
from infoconflict.tokens import answer_tokens, prompt_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenRow:
    """``ids[n_prompt:]`` are the targets; ``ids`` ends with the end-of-text token."""

    ids: tuple[int, ...]
    n_prompt: int

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tokens that are fed to the model: all but the last, which nothing follows."""
        return self.ids[:-1]


def tokenize_rows(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], *, max_tokens: int
) -> list[TokenRow]:
    """Tokenise examples for training.

    Raises
    ------
    UserError
        If a row is longer than ``max_tokens``, the model's context; rows are never cut silently.
    """
    if tokenizer.eos_token_id is None:
        raise UserError("the model's tokenizer has no end-of-text token; set eos_token in its tokenizer_config.json")
    answers = {label: answer_tokens(tokenizer, label) for label in {row.label for row in examples}}
    rows = []
    for example in examples:
        prompt = prompt_tokens(tokenizer, example.instruction, example.text)
        ids = (*prompt, *answers[example.label], tokenizer.eos_token_id)
        if len(ids) > max_tokens:
            raise UserError(
                f"row {example.id} has {len(ids)} tokens, more than the model's context of {max_tokens}; "
                f"lower max_words of its data set"
            )
        rows.append(TokenRow(ids, len(prompt)))
    return rows
