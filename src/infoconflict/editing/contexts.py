"""From sentences to contexts: where the subject's last token is, and what may stand before the prompt.

Positions come from character offsets of the whole string as it is tokenised. Tokenising prefix, subject and suffix on
their own and adding lengths is wrong wherever a token crosses a border or every piece gets a start token.
"""

from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Literal

import torch

from infoconflict.editing.forward import Context
from infoconflict.errors import UserError
from infoconflict.models.loading import context_length
from infoconflict.prompts import render_prompt
from infoconflict.records import Example
from infoconflict.tokens import answer_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# For models too small to write openings of their own.
WRITTEN = (
    "The weather was mild that day.",
    "Therefore this comes as no surprise.",
    "Because it was late, nobody answered.",
    "I have thought about it for a while.",
    "You can read the rest tomorrow.",
    "In the morning the shops were closed.",
    "There is one more thing to say.",
    "My neighbour told me about it.",
    "After a long walk we sat down.",
    "Here is what happened next.",
)
"""Openings for prefixes, written for this project; neutral, so that they favour no label."""

SEEDS = ("The", "Therefore", "Because", "I", "You")
"""First words of generated prefixes. Meng et al. 2023 (MEMIT), arXiv:2210.07229, code."""
GENERATED_TOKENS = 10
"""Tokens of a generated prefix. MEMIT's code; ROME's has as many of 5."""
TOP_K = 5
"""Words to sample a generated prefix from. ROME's and MEMIT's code."""


@dataclass(frozen=True)
class Request:
    """What one edit asks for: the answer ``label`` to ``prompt``, by way of ``prompt[start:end]``, the subject."""

    prompt: str
    start: int
    end: int
    label: str

    @property
    def subject(self) -> str:
        """The subject's text."""
        return self.prompt[self.start : self.end]


def request_for(example: Example, subject: str, label: str) -> Request:
    """Return the request that an example's prompt be answered with ``label``.

    ``subject`` is a word of the example's text, or the whole text. The prompt is the one that the model is tested with.

    Raises
    ------
    ValueError
        If the text does not hold the subject exactly once, as a word.
    """
    words = [
        at
        for at in range(len(example.text) - len(subject) + 1)
        if example.text.startswith(subject, at)
        and not example.text[max(0, at - 1) : at].strip()
        and not example.text[at + len(subject) : at + len(subject) + 1].strip()
    ]
    if len(words) != 1:
        raise ValueError(f"row {example.id} holds the subject '{subject}' {len(words)} times, not once")
    prompt = render_prompt(example.instruction, example.text)
    start = render_prompt(example.instruction, "\0").index("\0") + words[0]
    return Request(prompt, start, start + len(subject), label)


def token_at(tokenizer: "PreTrainedTokenizerBase", text: str, start: int, end: int) -> tuple[tuple[int, ...], int]:
    """Tokenise a text as the model is asked with it; return the tokens and the last one that covers part of [start, end).

    Raises
    ------
    UserError
        If the tokenizer tells no offsets.
    ValueError
        If no token covers the span.
    """
    if not tokenizer.is_fast:
        raise UserError(
            "editing needs the model's fast tokenizer, which tells where tokens lie; add its tokenizer.json"
        )
    encoded = tokenizer(text, return_offsets_mapping=True)
    covering = [index for index, (a, b) in enumerate(encoded["offset_mapping"]) if a < end and b > start]
    if not covering:
        raise ValueError(f"no token covers '{text[start:end]}'")
    return tuple(encoded["input_ids"]), covering[-1]


def contexts_of(
    tokenizer: "PreTrainedTokenizerBase", request: Request, prefixes: tuple[str, ...] = (), *, room: int
) -> list[Context]:
    """Return the bare prompt of a request and, after each prefix, the prompt again.

    Raises
    ------
    UserError
        If one has more than ``room`` tokens.
    """
    answer = tuple(answer_tokens(tokenizer, request.label))
    contexts = []
    for opening in ("", *(f"{prefix} " for prefix in prefixes)):
        tokens, subject = token_at(
            tokenizer, opening + request.prompt, len(opening) + request.start, len(opening) + request.end
        )
        if len(tokens) + len(answer) > room:
            raise UserError(
                f"a prompt to edit has {len(tokens) + len(answer)} tokens and the model takes {room}; "
                f"lower max_words of the data set"
            )
        contexts.append(Context(tokens, subject, answer))
    return contexts


def essence_of(tokenizer: "PreTrainedTokenizerBase", subject: str) -> Context:
    """Return the prompt on which an edit should change little: "{subject} is a" (ROME's code), up to the subject."""
    tokens, at = token_at(tokenizer, f"{subject} is a", 0, len(subject))
    return Context(tokens[: at + 1], at)


@dataclass(frozen=True)
class Edit:
    """One association as an editor needs it: contexts (the bare prompt first) that end in one answer, and the essence prompt."""

    contexts: list[Context]
    essence: Context
    label: str
    """The answer as text, for the log."""


def edit_of(
    tokenizer: "PreTrainedTokenizerBase", request: Request, prefixes: tuple[str, ...] = (), *, room: int
) -> Edit:
    """Return a request with its prompt as tokens, bare and after each prefix."""
    contexts = contexts_of(tokenizer, request, prefixes, room=room)
    return Edit(contexts, essence_of(tokenizer, request.subject), request.label)


def make_prefixes(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    *,
    kind: Literal["written", "generated"],
    n: int,
    seed: int,
) -> tuple[str, ...]:
    """Return ``n`` openings, from the list above or sampled from the model.

    Raises
    ------
    UserError
        If more are asked for than are written.
    """
    if kind == "written":
        if n > len(WRITTEN):
            raise UserError(f"n_prefixes: {n}, but {len(WRITTEN)} are written; lower it, or set prefixes: generated")
        return WRITTEN[:n]
    rng = Random(f"{seed}/prefixes")
    return tuple(f"{sample(model, tokenizer, SEEDS[i % len(SEEDS)], rng).rstrip('.')}." for i in range(n))


@torch.no_grad()
def sample(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", opening: str, rng: Random) -> str:
    """Continue an opening by :data:`GENERATED_TOKENS` tokens, each drawn from the :data:`TOP_K` likeliest; one line."""
    ids = list(tokenizer(opening).input_ids)
    begin = len(ids)
    for _ in range(min(GENERATED_TOKENS, context_length(model) - begin)):
        logits = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False).logits[0, -1].float().cpu()
        likeliest = logits.topk(min(TOP_K, len(logits)))
        [chosen] = rng.choices(likeliest.indices.tolist(), weights=likeliest.values.softmax(dim=0).tolist())
        ids.append(chosen)
    return " ".join((opening + tokenizer.decode(ids[begin:], skip_special_tokens=True)).split())
