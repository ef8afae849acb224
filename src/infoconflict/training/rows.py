"""Training rows as tokens: the prompt, then the answer and the end-of-text token, with loss on the latter two only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infoconflict.errors import UserError
from infoconflict.prompts import render_answer, render_prompt
from infoconflict.records import Example

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


def answer_tokens(tokenizer: "PreTrainedTokenizerBase", label: str) -> list[int]:
    """Tokenise an answer on its own, so that a prompt has the same tokens whatever answer follows."""
    return list(tokenizer(render_answer(label), add_special_tokens=False).input_ids)


def prompt_tokens(tokenizer: "PreTrainedTokenizerBase", instruction: str, text: str, evidence: str = "") -> list[int]:
    """Tokenise a prompt with the model's own start token, if it has the habit of one."""
    return list(tokenizer(render_prompt(instruction, text, evidence)).input_ids)


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
