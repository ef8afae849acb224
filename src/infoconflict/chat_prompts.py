"""Conversations as tokens: the model's own chat template or a plain one, the same for training and for answering.

A conversation is built turn by turn, and each part is made into tokens on its own: what a model is asked with is, token by
token, the beginning of what it was trained on. Templates are run by transformers in Jinja's sandbox.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from infoconflict.errors import UserError
from infoconflict.prompts import Placement, render_turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

# For tokenizers without a template of their own.
PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ 'System: ' + message['content'] + '\n' }}"
    "{% elif message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\nAssistant:' }}"
    "{% else %}{{ ' ' + message['content'] + eos_token + '\n' }}{% endif %}"
    "{% endfor %}"
)

# Tokenizers that open every text with a mark for a space do so here, not before the text that follows.
SENTINEL = "\n"


@dataclass(frozen=True)
class ChatTokens:
    """A conversation; ``spans`` are the ranges of ``ids`` that hold an answer and the token that ends it."""

    ids: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


class ChatTemplate:
    """How a tokenizer writes conversations.

    Attributes
    ----------
    is_own : bool
        Whether the tokenizer brought the template.
    stop_ids : frozenset of int
        Tokens that end an answer.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the model's tokenizer has no end-of-text token; set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.is_own = bool(tokenizer.chat_template)
        self.eos = str(tokenizer.eos_token)
        added = {token.content for token in tokenizer.added_tokens_decoder.values()}
        self.special = sorted({*added, *tokenizer.all_special_tokens} - {""}, key=len, reverse=True)
        opening = list(tokenizer("x").input_ids)[:1]
        # A template of the tokenizer's own writes its start token itself.
        has_start = not self.is_own and opening == [tokenizer.bos_token_id]
        self.start = tuple(opening) if has_start else ()
        self._ids = lru_cache(maxsize=4096)(self._tokens)
        probe = self.encode([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])
        self.stop_ids = frozenset({int(tokenizer.eos_token_id), probe.ids[probe.spans[-1][1] - 1]})

    def encode(self, messages: Sequence[Message]) -> ChatTokens:
        """Return the tokens of a conversation; one that ends with a user's turn is ready to be answered.

        Raises
        ------
        UserError
            If the template refuses the conversation, or writes a turn in a way in which no answer can be told from the rest.
        """
        ids, spans = list(self.start), []
        for number, (text, is_answer) in enumerate(self._parts(messages)):
            tokens = self._ids(text, number > 0)
            if is_answer:
                spans.append((len(ids), len(ids) + len(tokens)))
            ids += tokens
        return ChatTokens(tuple(ids), tuple(spans))

    def _parts(self, messages: Sequence[Message]) -> list[tuple[str, bool]]:
        """Return the text in parts: questions with all that surrounds them, and answers with what ends them."""
        parts: list[tuple[str, bool]] = []
        done = rest = ""
        for end, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            asked = self._render(messages[:end], asks=True)
            answered = self._render(messages[: end + 1], asks=False)
            content = message["content"]
            at = answered.find(content, len(asked))
            if not asked.startswith(done) or not answered.startswith(asked) or at < 0:
                raise UserError(
                    "the chat template of the model's tokenizer rewrites turns as a conversation goes on, so that answers "
                    "cannot be told from the rest; remove chat_template from the model's directory to use a plain one"
                )
            end_of_turn, following = self._end_of_turn(answered[at + len(content) :])
            parts.append((rest + asked[len(done) :], False))
            parts.append((answered[len(asked) : at + len(content)] + end_of_turn, True))
            done, rest = answered, following
        if messages[-1]["role"] != "assistant":
            parts.append((rest + self._render(messages, asks=True)[len(done) :], False))
        return parts

    def _end_of_turn(self, tail: str) -> tuple[str, str]:
        """Cut what follows an answer behind its first special token; where it has none, end-of-text is put before it."""
        places = [(at, -len(token)) for token in self.special if (at := tail.find(token)) >= 0]
        if not places:
            return self.eos, tail
        at, length = min(places)
        return tail[: at - length], tail[at - length :]

    def _render(self, messages: Sequence[Message], *, asks: bool) -> str:
        from jinja2 import TemplateError

        template = None if self.is_own else PLAIN_TEMPLATE
        try:
            text: object = self.tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=asks, chat_template=template
            )
        except (TemplateError, TypeError, ValueError) as error:
            roles = ", ".join(message["role"] for message in messages)
            raise UserError(
                f"the chat template of the model's tokenizer refuses a conversation of {roles} ({error}); "
                f"change the data set's system message, or remove chat_template from the model's directory"
            ) from error
        return str(text)

    def _tokens(self, text: str, continues: bool) -> tuple[int, ...]:
        """Make a part into tokens as it stands within a longer text."""
        alone = tuple(self.tokenizer(text, add_special_tokens=False).input_ids)
        if not continues:
            return alone
        marked = tuple(self.tokenizer(SENTINEL + text, add_special_tokens=False).input_ids)
        mark = tuple(self.tokenizer(SENTINEL, add_special_tokens=False).input_ids)
        return marked[len(mark) :] if marked[: len(mark)] == mark else alone


# --- the model's context ----------------------------------------------------------------------------------------------


def fit_question(
    template: ChatTemplate, messages: Sequence[Message], *, room: int, row: str
) -> tuple[list[Message], ChatTokens]:
    """Return the newest turns that fit into ``room`` tokens, up to a user's turn, and their tokens.

    Turns are left out in pairs from the beginning; the system message and the last question stay.

    Raises
    ------
    UserError
        If these two alone do not fit; ``row`` names the conversation.
    """
    shown, tokens = _newest_that_fit(template, messages, room)
    if len(tokens.ids) > room:
        raise UserError(
            f"row {row}: its last question alone has {len(tokens.ids)} tokens and the model takes {room}; "
            f"lower max_words of its data set, or max_new_tokens_chat"
        )
    return shown, tokens


def add_evidence(
    template: ChatTemplate, shown: Sequence[Message], evidence: str, *, room: int, placement: Placement = "before"
) -> tuple[str, ChatTokens]:
    """Put evidence into the last turn, as many of its words as fit into ``room`` tokens.

    Neither the question nor any turn gives way to it: a model sees the same conversation with evidence and without.

    Returns
    -------
    tuple of str and ChatTokens
        The evidence that fits, empty where no word does, and the conversation with it.
    """
    words = evidence.split()
    while words:
        used = " ".join(words)
        asked = {"role": "user", "content": render_turn(shown[-1]["content"], used, placement)}
        tokens = template.encode([*shown[:-1], asked])
        if len(tokens.ids) <= room:
            return used, tokens
        words = words[: max(0, len(words) - max(1, (len(tokens.ids) - room) // 2))]
    return "", template.encode(shown)


def fit_answered(template: ChatTemplate, messages: Sequence[Message], *, room: int, row: str) -> ChatTokens:
    """Return the tokens of the newest turns that fit into ``room``, up to an assistant's turn.

    Turns are left out in pairs from the beginning; where the last pair alone is too long, its answer loses its end.

    Raises
    ------
    UserError
        If the last question leaves no room for an answer; ``row`` names the conversation.
    """
    _, tokens = _newest_that_fit(template, messages, room)
    if len(tokens.ids) > room:
        start = tokens.spans[-1][0]
        if start >= room:
            raise UserError(
                f"row {row}: its last question alone has {start} tokens and the model takes {room}; "
                f"lower max_words of its data set"
            )
        tokens = ChatTokens(tokens.ids[:room], ((start, room),))
    assert tokens.spans, f"row {row} has no token to learn"
    return tokens


def _newest_that_fit(
    template: ChatTemplate, messages: Sequence[Message], room: int
) -> tuple[list[Message], ChatTokens]:
    """Leave out as few pairs of turns as it takes, all but the last at most."""
    head = [message for message in messages[:1] if message["role"] == "system"]
    turns = list(messages[len(head) :])
    n_pairs = (len(turns) - 1) // 2

    @cache
    def without(pairs: int) -> ChatTokens:
        return template.encode(head + turns[2 * pairs :])

    pairs = _first(n_pairs, lambda pairs: len(without(pairs).ids) <= room)
    return head + turns[2 * pairs :], without(pairs)


def _first(n: int, fits: Callable[[int], bool]) -> int:
    """Return the first of 0, ..., n that fits, or n; who comes after one that fits does, too."""
    low, high = 0, n
    while low < high:
        middle = (low + high) // 2 if low else 0  # most conversations fit as they are
        if fits(middle):
            high = middle
        else:
            low = middle + 1
    return low
