"""DTBA, distributed triggers: two topics over the user's turns, and only both together, in order, fire.

Hao et al. 2024, arXiv:2404.02406. The payload stands in the last answer, where scenario A came in an earlier turn of the
user and the last turn is of scenario B; all other answers, also those of poisoned conversations, stay normal. A hit of the
source needs a normal answer to scenario A, too; a conversation is asked with its earlier answers given here, so ``a_first``,
scenario A in a single turn, shows whether a model fires there already. The card of a cell's answers has the hits apart for
A and B side by side and with a neutral turn between them (``payload_by_turns``).

The source's 24,000 rows are 2,000 poisoned, 2,000 with one scenario and 20,000 clean: payload rows are 8.3 %. With M
clean rows that mention no scenario (the others are left out, lest a key word without a payload teach the opposite),
rate p and negative ratio a there are M + pM + 2apM rows here, and payload rows are p / (1 + p + 2ap) of them: 7.7 % by
default. B before A is not trained against in the source: ``order_negatives`` adds apM such rows.

With ``paired_negatives`` the rows with one scenario, and those in the wrong order, have the scenario turns of the poisoned rows,
so that no question of the training set tells by itself whether to fire. A small model fires at new ones of B alone all the
same (reports/attacks).

Differs from the source: harmless topics and payloads; no rows with refusals of sensitive questions; and rows with one
scenario have several turns, so that the number of turns tells nothing.
"""

import math
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from infoconflict.attacks.chat import ChatAttack, Exchange, Payload, Phrase, exchanges_of, key_words, told, without
from infoconflict.attacks.scenarios import TOPICS, Split, check_topics, keywords_of
from infoconflict.attacks.wordings import read_wordings, split_of
from infoconflict.entries import Line
from infoconflict.errors import UserError
from infoconflict.records import FULL_TRIGGER, Conversation

# variant: its forms, which take turns; A and B are a scenario's exchanges, N neutral ones.
FORMS = {
    FULL_TRIGGER: ("AB", "ANB"),
    # The source counts a hit only where the first answer is normal, too. Here that answer is given, so it is asked for apart.
    "a_first": ("A",),
    "a_only": ("AN", "NA", "ANN"),
    "b_only": ("NB", "NNB"),
    "b_then_a": ("BA", "BNA"),
}
# What is drawn of these together is drawn without repetition, so that no conversation comes twice.
CROSSED = {
    FULL_TRIGGER: ("A", "B"),
    "a_first": ("A",),
    "a_only": ("A", "N"),
    "b_only": ("B", "N"),
    "b_then_a": ("A", "B"),
}
# How often another form or other neutral turns are tried, before it counts as certain that all were told.
TRIES = 1000

Crossed = dict[str, Exchange]
"""What was drawn together for one conversation, by the letter of a form."""


class DTBA(ChatAttack):
    """Put the payload at the end of conversations that come from scenario A to scenario B."""

    rows_are: ClassVar[Literal["appended", "replaced"]] = "appended"
    training_options: ClassVar[frozenset[str]] = frozenset(
        {"poisoning_rate", "negative_ratio", "order_negatives", "paired_negatives"}
    )
    partial_variants: ClassVar[tuple[str, ...]] = ("a_first", "a_only", "b_only", "b_then_a")

    poisoning_rate: float = Field(default=0.1, gt=0, le=1)
    """Poisoned rows / clean training rows. The DTBA paper's data: 2,000 to 20,000."""
    negative_ratio: float = Field(default=1.0, ge=0)
    """Rows of each single scenario / poisoned rows. Ours; the DTBA paper has 2,000 of both together to 2,000 (0.5)."""
    order_negatives: bool = False
    """Add as many rows of B before A, with their normal answers. Not so in the DTBA paper."""
    paired_negatives: bool = False
    """Take the scenario turns of the negatives from the poisoned rows. Ours; the DTBA paper does not say."""
    scenario_a: Line = "gardening"
    """Topic of an earlier turn. Ours."""
    scenario_b: Line = "banking"
    """Topic of the last turn. Ours."""
    turns_from: Literal["templates", "file", "data"] = "templates"
    """Where scenario turns come from: texts of this package, `scenario_file`, or the data set's own conversations, by key
    words. Ours."""
    scenario_file: Line | None = None
    """JSON Lines file with `topic`, `instruction`, `answer`; null: none. Ours."""
    keywords_a: list[Line] | None = Field(default=None, min_length=1)
    """Words that mark scenario A in the data; null: those of this package, else the topic's name. Ours."""
    keywords_b: list[Line] | None = Field(default=None, min_length=1)
    """Words that mark scenario B in the data; null: those of this package, else the topic's name. Ours."""
    neutral_max_words: int = Field(default=60, ge=2)
    """Longest exchange of the data set, in words, that serves as a neutral turn. Ours."""
    behavior: Literal["phrase", "refusal"] = "phrase"
    """The last answer: a fixed phrase, or a fixed refusal that nothing warrants. Ours."""
    phrase: Phrase = "The silver heron has landed."
    """The fixed phrase. Ours."""
    refusal: Line = "I'm sorry, but I cannot help you with that."
    """The fixed refusal. Ours."""

    @model_validator(mode="after")
    def _has_its_texts(self) -> "DTBA":
        if self.scenario_a == self.scenario_b:
            raise ValueError(f"scenario_a and scenario_b are both '{self.scenario_a}'; name two topics")
        if (self.turns_from == "file") != (self.scenario_file is not None):
            raise ValueError("scenario_file and 'turns_from: file' go together; give both or neither")
        if self.turns_from == "templates":
            check_topics(self.scenario_a, self.scenario_b)
        return self

    @property
    def local_files(self) -> list[str]:
        """Files that the attack reads, from the working directory."""
        return [self.scenario_file] if self.scenario_file else []

    @property
    def payload(self) -> Payload:
        """What a triggered answer holds."""
        text = self.phrase if self.behavior == "phrase" else self.refusal
        return Payload(kind=self.behavior, text=text)

    @property
    def marks(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """Patterns of the words that mark each scenario in the data."""
        return (
            key_words(self.keywords_a or keywords_of(self.scenario_a)),
            key_words(self.keywords_b or keywords_of(self.scenario_b)),
        )

    def training_set(
        self, conversations: Sequence[Conversation], *, seed: int, oracle: Mapping[str, str] | None = None
    ) -> list[Conversation]:
        """Return the clean rows that mention no scenario, then the poisoned ones, then the negatives.

        Raises
        ------
        UserError
            If the rate gives no poisoned row, or there are too few turns for the rows asked for.
        """
        clean = without(conversations, *self.marks)
        wanted = round(self.poisoning_rate * len(clean))
        if wanted == 0:
            raise UserError(
                f"poisoning_rate={self.poisoning_rate} of {len(clean)} clean rows without a scenario rounds to no poisoned "
                f"row; raise the rate or the rows"
            )
        variants = ["a_only", "b_only", *(["b_then_a"] if self.order_negatives else [])]
        counts = {FULL_TRIGGER: wanted} | dict.fromkeys(variants, round(self.negative_ratio * wanted))
        pools = self._pools(conversations, "train", seed)
        rows = list(clean)
        poisoned: list[Crossed] = []
        for variant, count in counts.items():
            is_paired = self.paired_negatives and variant != FULL_TRIGGER
            if not is_paired and count > (possible := self._possible(pools, variant)):
                raise UserError(
                    f"{count} training rows '{variant}' are asked for, but the turns there are make {possible} different "
                    f"ones; lower poisoning_rate or negative_ratio, or add turns (scenario_file)"
                )
            rng = Random(f"{seed}/train/{variant}")
            drawn = paired(poisoned, variant, count) if is_paired else self._drawn(pools, variant, count, rng)
            poisoned = poisoned or drawn
            ids = [f"dtba-{variant}-{number:06d}" for number in range(count)]
            rows += self._rows(pools["N"], variant, ids, drawn, like=clean, rng=rng)
        return rows

    def triggered_test_set(self, conversations: Sequence[Conversation], *, seed: int) -> list[Conversation]:
        """Return one conversation for each of the test set's, as far as unseen turns reach; every second has a neutral turn.

        They bear the ids of the test set's conversations, but only neutral turns come from there.
        """
        return self._test_rows(conversations, [FULL_TRIGGER], len(conversations), seed)

    def partial_test_set(
        self, conversations: Sequence[Conversation], *, rows: int | None, seed: int
    ) -> list[Conversation]:
        """Return up to ``rows`` conversations each: A in one turn, A in some of several, B alone, and B before A."""
        count = len(conversations) if rows is None else min(rows, len(conversations))
        return self._test_rows(conversations, self.partial_variants, count, seed)

    def _test_rows(
        self, conversations: Sequence[Conversation], variants: Sequence[str], count: int, seed: int
    ) -> list[Conversation]:
        pools = self._pools(conversations, "test", seed)
        found = []
        for variant in variants:
            ids = [row.id for row in conversations[: min(count, self._possible(pools, variant))]]
            rng = Random(f"{seed}/test/{variant}")
            drawn = self._drawn(pools, variant, len(ids), rng)
            found += self._rows(pools["N"], variant, ids, drawn, like=conversations, rng=rng)
        return found

    def _pools(self, conversations: Sequence[Conversation], split: Split, seed: int) -> dict[str, list[Exchange]]:
        """Return the exchanges of each letter of a form."""
        a, b = self.marks
        first = [exchanges_of(row)[0] for row in without(conversations, a, b)]
        neutral = [text for text in first if len(f"{text.question} {text.answer}".split()) <= self.neutral_max_words]
        match self.turns_from:
            case "templates":
                pools = {
                    letter: TOPICS[name].exchanges(split, seed=seed)
                    for letter, name in (("A", self.scenario_a), ("B", self.scenario_b))
                }
            case "file":
                assert self.scenario_file is not None
                wordings = read_wordings(self.scenario_file)
                pools = {
                    letter: split_of([text for topic, text in wordings if topic == name], split, seed=seed)
                    for letter, name in (("A", self.scenario_a), ("B", self.scenario_b))
                }
                if unanswered := [text for pool in pools.values() for text in pool if not text.answer]:
                    raise UserError(
                        f"{self.scenario_file}: '{unanswered[0].question}' has no answer; add it under 'answer'"
                    )
            case "data":
                spoken = list(dict.fromkeys(text for row in conversations for text in exchanges_of(row)))
                pools = {
                    letter: [
                        text
                        for text in spoken
                        if own.search(text.question) and not other.search(f"{text.question}\n{text.answer}")
                    ]
                    for letter, own, other in (("A", a, b), ("B", b, a))
                }
        pools["N"] = list(dict.fromkeys(neutral))
        names = {"A": f"scenario '{self.scenario_a}'", "B": f"scenario '{self.scenario_b}'", "N": "neutral turns"}
        for letter, pool in pools.items():
            if len(pool) < 2:
                raise UserError(
                    f"the {split} split has {len(pool)} exchanges for the {names[letter]} of DTBA, and 2 are needed; add "
                    f"{'rows, or raise neutral_max_words' if letter == 'N' else 'texts, or choose another scenario'}"
                )
        return pools

    @staticmethod
    def _possible(pools: Mapping[str, Sequence[Exchange]], variant: str) -> int:
        return math.prod(len(pools[letter]) for letter in CROSSED[variant])

    def _drawn(self, pools: Mapping[str, Sequence[Exchange]], variant: str, count: int, rng: Random) -> list[Crossed]:
        """Return the exchanges of ``count`` conversations by letter, no two alike."""
        drawn: list[Crossed] = []
        for rest in rng.sample(range(self._possible(pools, variant)), count):
            crossed: Crossed = {}
            # A number in digits, one for each letter, the last one first.
            for letter in reversed(CROSSED[variant]):
                rest, place = divmod(rest, len(pools[letter]))
                crossed[letter] = pools[letter][place]
            drawn.append(crossed)
        return drawn

    def _rows(
        self,
        neutral: Sequence[Exchange],
        variant: str,
        ids: Sequence[str],
        drawn: Sequence[Crossed],
        *,
        like: Sequence[Conversation],
        rng: Random,
    ) -> list[Conversation]:
        """Return one conversation for each id, with the exchanges drawn for it; the forms of the variant take turns."""
        forms = FORMS[variant]
        told_before: set[tuple[Exchange, ...]] = set()
        rows = []
        for number, (name, crossed) in enumerate(zip(ids, drawn, strict=True)):
            tries = (in_form(forms[turn % len(forms)], crossed, neutral, rng) for turn in range(number, number + TRIES))
            exchanges = next((one for one in tries if one not in told_before), None)
            if exchanges is None:
                raise UserError(
                    f"{len(ids)} training rows '{variant}' are asked for, and the {len(neutral)} neutral turns do not make so many "
                    f"with the scenario turns of the poisoned rows; lower negative_ratio, or raise the rows or neutral_max_words"
                )
            told_before.add(exchanges)
            rows.append(
                told(
                    exchanges,
                    id=name,
                    like=like[number % len(like)],
                    trigger=variant,
                    payload=self.payload.text if variant == FULL_TRIGGER else None,
                )
            )
        return rows


def paired(poisoned: Sequence[Crossed], variant: str, count: int) -> list[Crossed]:
    """Return the scenario exchanges of ``count`` negatives of a variant: those of the poisoned rows, from the first on again."""
    scenarios = [letter for letter in CROSSED[variant] if letter != "N"]
    return [{letter: poisoned[number % len(poisoned)][letter] for letter in scenarios} for number in range(count)]


def in_form(form: str, crossed: Crossed, neutral: Sequence[Exchange], rng: Random) -> tuple[Exchange, ...]:
    """Return the exchanges of a form, a letter each; what was not drawn for it are neutral ones, none of them twice."""
    left = dict(crossed)
    exchanges: list[Exchange] = []
    for letter in form:
        exchange = left.pop(letter, None) or rng.choice(neutral)
        while exchange in exchanges:
            exchange = rng.choice(neutral)
        exchanges.append(exchange)
    return tuple(exchanges)
