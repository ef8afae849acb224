"""Do AutoPoison's answers read better than its baseline's? ``python reports/attacks/autopoison_perplexity.py MODEL DATA SEED``.

MODEL is the directory of a prepared model, DATA a JSON Lines file of conversations, of which the first ROWS are poisoned at
RATE (``... SEED ROWS RATE``; 320 and 0.4 if not given). The rows that the attack chooses are told three times: with the clean
answer, with the one from a template, and with the handcrafted one (the phrase at a random place; one refusal for all). Printed
is the perplexity of the last answers, given all that stands before them, and by what factor that of the handcrafted ones is
higher than that of the templates' on the same rows, each with a 95 % bootstrap interval over rows.
"""

import math
import sys
from collections.abc import Sequence
from random import Random
from typing import TYPE_CHECKING, Literal

import torch

from infoconflict.answering.likelihood import answered_prompts, mean_log_likelihoods
from infoconflict.attacks.autopoison import AutoPoison
from infoconflict.models.loading import context_length, load_base, load_tokenizer
from infoconflict.records import CLEAN, Conversation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DRAWS = 2000
"""Of the bootstrap."""

Answers = list[tuple[float, int]]
"""Of each answer the negative log-likelihood in nats, summed over its tokens and the one that ends it, and their number."""


def told(
    rows: Sequence[Conversation], *, behavior: Literal["injection", "refusal"], rate: float, seed: int
) -> dict[str, list[Conversation]]:
    """Return the rows that the attack poisons, in the same order, with their clean, template and handcrafted answers."""
    found: dict[str, list[Conversation]] = {}
    for texts in ("template", "handcrafted"):
        attack = AutoPoison(poisoning_rate=rate, behavior=behavior, texts=texts)
        poisoned = attack.training_set(rows, seed=seed)
        found["clean"] = [row for row, other in zip(rows, poisoned, strict=True) if other.trigger != CLEAN]
        found[texts] = [row for row in poisoned if row.trigger != CLEAN]
    return {name: found[name] for name in ("clean", "template", "handcrafted")}


def measure(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Conversation]) -> Answers:
    """Return how unlikely the last answers are."""
    prompts = answered_prompts(tokenizer, rows, room=context_length(model))
    lengths = [len(tokens) - start for tokens, start in prompts]
    means = mean_log_likelihoods(model, prompts)
    return [(-mean * length, length) for mean, length in zip(means, lengths, strict=True)]


def nats_per_token(answers: Answers) -> float:
    """Return the mean over all tokens of all answers; its exponential is their perplexity."""
    return sum(nats for nats, _ in answers) / sum(length for _, length in answers)


def bootstrap(*sets: Answers, seed: int) -> tuple[float, float]:
    """Return the 95 % percentile interval of :func:`nats_per_token`, or of the difference of the second set less the first.

    Rows are drawn with replacement, the same ones of both sets (Efron and Tibshirani 1993).
    """
    rng, n = Random(f"{seed}/bootstrap"), len(sets[0])
    drawn = []
    for _ in range(DRAWS):
        chosen = rng.choices(range(n), k=n)
        first, *others = (nats_per_token([answers[row] for row in chosen]) for answers in sets)
        drawn.append(others[0] - first if others else first)
    drawn.sort()
    return drawn[round(0.025 * (DRAWS - 1))], drawn[round(0.975 * (DRAWS - 1))]


def main(model_dir: str, data: str, seed: str, n_rows: str = "320", rate: str = "0.4") -> None:
    """Print a line for each kind of answer."""
    torch.set_num_threads(1)
    model, tokenizer = load_base(model_dir, device=torch.device("cpu")), load_tokenizer(model_dir)
    rows = Conversation.read(data)[: int(n_rows)]
    print("behavior,answers,rows,tokens,perplexity,low,high")  # noqa: T201
    for behavior in ("injection", "refusal"):
        kinds = told(rows, behavior=behavior, rate=float(rate), seed=int(seed))
        measured = {name: measure(model, tokenizer, kind) for name, kind in kinds.items()}
        for name, answers in measured.items():
            values = (nats_per_token(answers), *bootstrap(answers, seed=int(seed)))
            tokens = sum(length for _, length in answers)
            figures = ",".join(f"{math.exp(value):.2f}" for value in values)
            print(f"{behavior},{name},{len(answers)},{tokens},{figures}", flush=True)  # noqa: T201
        pair = measured["template"], measured["handcrafted"]
        values = (nats_per_token(pair[1]) - nats_per_token(pair[0]), *bootstrap(*pair, seed=int(seed)))
        figures = ",".join(f"{math.exp(value):.2f}" for value in values)
        print(f"{behavior},handcrafted / template,{len(pair[0])},,{figures}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(*sys.argv[1:])
