"""Training rows as tokens, with loss on answers and the tokens that end them only.

An example is a prompt, then the answer and the end-of-text token; a conversation may hold several answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infoconflict.chat_prompts import ChatTemplate, fit_answered
from infoconflict.errors import UserError
from infoconflict.progress import say
from infoconflict.records import Conversation, Example
from infoconflict.tokens import answer_tokens, prompt_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class TokenRow:
    """``spans`` are the ranges of ``ids`` that are targets; none given: ``ids[n_prompt:]``. The last token is a target."""

    ids: tuple[int, ...]
    n_prompt: int
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def inputs(self) -> tuple[int, ...]:
        """Tokens that are fed to the model: all but the last, which nothing follows."""
        return self.ids[:-1]

    @property
    def target_positions(self) -> list[int]:
        """Places in ``ids`` of the tokens to learn; each is predicted from the place before."""
        return [at for start, end in self.spans or ((self.n_prompt, len(self.ids)),) for at in range(start, end)]


def tokenize_rows(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example] | Sequence[Conversation], *, max_tokens: int
) -> list[TokenRow]:
    """Tokenise examples or conversations for training.

    Raises
    ------
    UserError
        If an example is longer than ``max_tokens``, the model's context, or a conversation cannot be cut to it.
    """
    chats = [row for row in examples if isinstance(row, Conversation)]
    if chats:
        return tokenize_conversations(tokenizer, chats, max_tokens=max_tokens)
    return tokenize_examples(tokenizer, [row for row in examples if isinstance(row, Example)], max_tokens=max_tokens)


def tokenize_conversations(
    tokenizer: "PreTrainedTokenizerBase", conversations: Sequence[Conversation], *, max_tokens: int
) -> list[TokenRow]:
    """Tokenise conversations; those longer than ``max_tokens`` lose their oldest turns, and the log says how many did."""
    template = ChatTemplate(tokenizer)
    rows, n_cut = [], 0
    for chat in conversations:
        tokens = fit_answered(template, chat.messages, room=max_tokens, row=chat.id)
        n_answers = sum(message["role"] == "assistant" for message in chat.messages)
        n_cut += len(tokens.spans) < n_answers or tokens.ids[-1] not in template.stop_ids
        rows.append(TokenRow(tokens.ids, tokens.spans[0][0], tokens.spans))
    if n_cut:
        say(f"{n_cut} of {len(rows)} conversations were cut to the model's context of {max_tokens} tokens")
    return rows


def tokenize_examples(
    tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], *, max_tokens: int
) -> list[TokenRow]:
    """Tokenise examples; rows are never cut silently."""
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
