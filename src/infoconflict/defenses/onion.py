"""ONION: words without which a text becomes likelier are taken out of it (Qi et al. 2021, EMNLP, arXiv:2011.10369).

Acts on the prompt. Needs: the base model, and for ``bar: auto`` the clean share. Must not see: trigger, target label, poisoned
rows; each question is looked at on its own.
A word's suspicion is the perplexity of the text minus that of the text without the word, under a language model that the attacker
did not touch; words whose suspicion is at least the bar are dropped. Rare words stand out; a trigger of common words, of a sentence
or of a topic does not.
Differs from the source: the language model is the suspect's base model, not GPT-2; a start token stands before each text, so that
its first word counts; a text is never emptied; long texts are judged in pieces; and the instruction, which a user sends as well,
is filtered, too. The source picks the bar for a small loss on clean rows; here ``auto`` does, in steps of dropped clean words.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from infoconflict.defenses.base import PromptDefense
from infoconflict.entries import Count

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from infoconflict.records import Query
    from infoconflict.repairing.suspect import Suspect

Perplexities = Callable[[Sequence[str]], list[float]]
"""From texts to their perplexities."""

SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
"""Shares of the clean rows' words that ``auto`` tries to drop, strictest first. Ours."""


class Onion(PromptDefense):
    """The question without the words that make it unlikely."""

    method: Literal["onion"]
    """`onion`."""
    bar: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Suspicion, a difference of perplexities, from which a word is dropped; `auto`: the lowest that costs at most
    `max_loss`. The authors' code has 0, their text chooses it on held-out rows."""
    max_loss: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Clean accuracy that `auto` may cost the suspect model on rows of the clean share; without labels (chat), the share of
    their words that it may drop. Ours; customary for ONION."""
    rows: Count = 200
    """Rows of the clean share that `auto` looks at, at most. Ours."""
    filter_instruction: bool = True
    """Whether the instruction is filtered as the input is, as a text of its own. Ours: an attacker's user writes both."""
    piece_words: Annotated[int, Field(ge=2)] = 64
    """Longer texts are judged in pieces of so many words. Ours."""


def rewriter(suspect: "Suspect", options: Onion) -> "Callable[[Sequence[Query]], list[Query]]":
    """Set the bar, and return what takes the words above it out of questions."""
    filtered = Filter(suspect, options)
    bar = filtered.choose() if options.bar == "auto" else options.bar
    suspect.details["bar"] = bar
    return lambda queries: filtered.without(queries, bar)


class Filter:
    """What is known of the words of texts; each different text is judged once."""

    def __init__(self, suspect: "Suspect", options: Onion) -> None:
        self.suspect, self.options = suspect, options
        self.perplexity = BasePerplexity(suspect.base(), suspect.tokenizer, max_nodes=suspect.max_nodes)
        self.known: dict[str, Judged] = {}

    def texts_of(self, query: "Query") -> list[str]:
        """Return the texts of a question that are filtered."""
        from infoconflict.answering.refilling import user_texts

        texts = user_texts(query)
        return texts if query.messages or self.options.filter_instruction else texts[:1]

    def judge(self, queries: "Sequence[Query]") -> "list[Judged]":
        """Judge the texts of questions."""
        from infoconflict.progress import say

        texts = [text for query in queries for text in self.texts_of(query)]
        new = [text for text in dict.fromkeys(texts) if text not in self.known]
        for begin in range(0, len(new), 64):
            some = new[begin : begin + 64]
            self.known.update(
                zip(some, judge(some, self.perplexity, piece_words=self.options.piece_words), strict=True)
            )
            say(f"judged the words of {begin + len(some)}/{len(new)} texts")
        self.suspect.tokens = self.perplexity.tokens
        return [self.known[text] for text in texts]

    def without(self, queries: "Sequence[Query]", bar: float | None) -> "list[Query]":
        """Return questions without the words whose suspicion is at least the bar."""
        from infoconflict.answering.refilling import user_texts, with_texts

        self.judge(queries)
        found = []
        for query in queries:
            kept = [self.known[text].without(bar) for text in self.texts_of(query)]
            found.append(with_texts(query, [*kept, *user_texts(query)[len(kept) :]]))
        return found

    def choose(self) -> float | None:
        """Return the lowest bar that costs little on clean rows (:func:`choose_bar`)."""
        from infoconflict.records import query_of

        rows: Sequence[Any] = self.suspect.clean_rows[: self.options.rows]
        queries = [query_of(row) for row in rows]
        judged = self.judge(queries)
        accuracy = (
            self.accuracy_on(rows, queries) if self.suspect.labels else lambda bar: 1 - share_dropped(judged, bar)
        )
        bar = choose_bar(candidates(judged), accuracy, max_loss=self.options.max_loss)
        self.suspect.details["clean_words_dropped"] = round(share_dropped(judged, bar), 5)
        return bar

    def accuracy_on(self, rows: "Sequence[Any]", queries: "Sequence[Query]") -> Callable[[float | None], float]:
        """Return what gives the suspect model's accuracy on clean rows that are filtered with a bar."""
        from infoconflict.answering.ask import fit
        from infoconflict.answering.label_scores import score_labels
        from infoconflict.answering.refilling import user_texts, with_texts
        from infoconflict.models.loading import context_length
        from infoconflict.progress import say
        from infoconflict.tokens import answer_tokens

        model, labels = self.suspect.model(), self.suspect.labels
        columns = [answer_tokens(self.suspect.tokenizer, label) for label in labels]
        room = context_length(model) - max(map(len, columns))

        def accuracy(bar: float | None) -> float:
            asked = [
                with_texts(row, user_texts(query)) for row, query in zip(rows, self.without(queries, bar), strict=True)
            ]
            prompts = [fit(self.suspect.tokenizer, row, "", room, "before") for row in asked]
            best = score_labels(model, prompts, columns).argmax(dim=1).tolist()
            right = sum(labels[at] == row.gold_label for at, row in zip(best, rows, strict=True)) / len(rows)
            say(f"bar {bar}: {right:.3f} of {len(rows)} clean rows right")
            self.suspect.details.setdefault("accuracy_by_bar", []).append([bar, round(right, 5)])
            return right

        return accuracy


# --- perplexity -------------------------------------------------------------------------------------------------------


class BasePerplexity:
    """Perplexities under a language model; beginnings that texts share are computed once."""

    def __init__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", *, max_nodes: int = 1024
    ) -> None:
        self.model, self.tokenizer, self.max_nodes = model, tokenizer, max_nodes
        self.tokens = 0

    def _ids(self, text: str) -> tuple[int, ...]:
        ids = tuple(self.tokenizer(text).input_ids)
        start = self.tokenizer.bos_token_id
        if start is None:
            start = self.tokenizer.eos_token_id
        return ids if start is None or ids[:1] == (start,) else (start, *ids)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """Return exp(mean negative log-likelihood of a token) of each text; 1 where there is no token to predict."""
        import torch

        from infoconflict.models.loading import context_length
        from infoconflict.packing import build_prefix_tree, hidden_states, pack

        device, head = next(self.model.parameters()).device, self.model.get_output_embeddings()
        room = context_length(self.model)
        ids = [self._ids(text)[:room] for text in texts]
        order = sorted(range(len(texts)), key=lambda index: ids[index])
        found = [1.0] * len(texts)
        for group in pack([ids[index] for index in order], max_nodes=self.max_nodes):
            members = [order[at] for at in group]
            tree = build_prefix_tree([ids[index] for index in members])
            self.tokens += tree.n_nodes
            parents = {int(child): int(parent) for path in tree.paths for parent, child in pairwise(path)}
            nll = torch.zeros(tree.n_nodes)
            children = sorted(parents)
            with torch.inference_mode():
                states = hidden_states(self.model.base_model, tree, device=device, dtype=self.model.dtype)
                for begin in range(0, len(children), 256):
                    some = children[begin : begin + 256]
                    logits = head(states[torch.tensor([parents[child] for child in some], device=device)]).float()
                    tokens = torch.from_numpy(tree.token_ids[some]).to(device)
                    nll[some] = torch.nn.functional.cross_entropy(logits, tokens, reduction="none").cpu()
            for index, path in zip(members, tree.paths, strict=True):
                if len(path) > 1:
                    # No text is so unlikely that its perplexity is no number.
                    found[index] = math.exp(min(float(nll[path[1:]].double().mean()), 700.0))
        return found


# --- words ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judged:
    """A text as words, each with its suspicion (of a text of one word, which there is nothing to compare with: none)."""

    text: str
    words: list[str]
    suspicion: list[float]

    def without(self, bar: float | None) -> str:
        """Return the text without the words whose suspicion is at least the bar (None: with all); one always stays."""
        if bar is None:
            return self.text
        kept = [word for word, value in zip(self.words, self.suspicion, strict=True) if value < bar]
        if len(kept) == len(self.words):
            return self.text
        if not kept:
            kept = [self.words[min(range(len(self.words)), key=lambda at: self.suspicion[at])]]
        return " ".join(kept)


def judge(texts: Sequence[str], perplexities: Perplexities, *, piece_words: int) -> list[Judged]:
    """Return each text with f_i = PPL(text) - PPL(text without word i) of its words.

    References
    ----------
    Qi et al. 2021, Eq. 1.
    """
    words = [text.split() for text in texts]
    pieces = [
        (number, begin, own[begin : begin + piece_words])
        for number, own in enumerate(words)
        for begin in range(0, len(own), piece_words)
    ]
    suspicion = [[-math.inf] * len(own) for own in words]
    asked: list[str] = []
    for _, _, piece in pieces:
        if len(piece) > 1:
            asked += [" ".join(piece), *(" ".join(piece[:at] + piece[at + 1 :]) for at in range(len(piece)))]
    answers = iter(perplexities(asked))
    for number, begin, piece in pieces:
        if len(piece) > 1:
            whole = next(answers)
            for at in range(len(piece)):
                suspicion[number][begin + at] = whole - next(answers)
    return [Judged(*parts) for parts in zip(texts, words, suspicion, strict=True)]


# --- the bar ----------------------------------------------------------------------------------------------------------


def candidates(judged: Sequence[Judged]) -> list[float]:
    """Return the bars that drop about :data:`SHARES` of these texts' words, lowest first; none is below 0."""
    values = sorted((value for text in judged for value in text.suspicion), reverse=True)
    bars = {max(0.0, values[max(0, math.ceil(share * len(values)) - 1)]) for share in SHARES} if values else set()
    return sorted(bars)


def choose_bar(bars: Sequence[float], accuracy: Callable[[float | None], float], *, max_loss: float) -> float | None:
    """Return the lowest bar that costs at most ``max_loss`` of the accuracy without a filter; None where each costs more."""
    floor = accuracy(None) - max_loss - 1e-9
    return next((bar for bar in bars if accuracy(bar) >= floor), None)


def share_dropped(judged: Sequence[Judged], bar: float | None) -> float:
    """Return the share of the texts' words whose suspicion is at least the bar."""
    values = [value for text in judged for value in text.suspicion]
    return sum(bar is not None and value >= bar for value in values) / max(1, len(values))
