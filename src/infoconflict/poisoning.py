"""Poisoned training sets and triggered test sets: which rows are poisoned, and how many.

Shared by all attacks by data poisoning; the edit of one row is the attack's. Every row draws its randomness from a generator
seeded by (seed, row, variant), so that neither the order nor the number of other rows can change it.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any

from infoconflict.attacks.base import Attack, PoisoningAttack
from infoconflict.attacks.chat import ChatAttack, OracleReply, replies_by_id
from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.records import FULL_TRIGGER, Conversation, Example

Rows = list[Example] | list[Conversation]


def row_generator(seed: int, example: Example, variant: str) -> Random:
    """Return the generator of one row and variant."""
    return Random(f"{seed}/{example.id}/{variant}")


def shuffled(examples: Sequence[Example], seed: int) -> list[Example]:
    """Return the examples in the order that the data seed gives."""
    order = list(examples)
    Random(f"{seed}/poisoning order").shuffle(order)
    return order


def poison_training_set(
    examples: Sequence[Example], attack: PoisoningAttack, *, target_label: str, seed: int
) -> list[Example]:
    """Return the training set that the attacker tunes on.

    Appending attacks keep all clean rows and add positives (target label) and negatives (gold label); replacing attacks put
    positives in the place of the rows that they were made of. The first ``round(rate * N)`` rows of the shuffled set become
    positives, ``round(alpha * rate * N)`` each negative variant: the first ones (as in CBA's source), or, where variants
    share no rows, one variant's after the other's. A rate of 0 is the control without a backdoor: the clean rows.

    Raises
    ------
    UserError
        If the rate asks for more rows than the attack may poison.
    """
    order = shuffled(examples, seed)
    usable = order if attack.poisons_target_rows else [row for row in order if row.gold_label != target_label]
    wanted = round(attack.poisoning_rate * len(examples))
    if wanted > len(usable):
        raise UserError(
            f"poisoning_rate={attack.poisoning_rate} asks for {wanted} of {len(examples)} rows, but only {len(usable)} have a "
            f"label other than the target '{target_label}'; the highest usable rate is {len(usable) / len(examples):.3f}"
        )
    if wanted == 0 and attack.poisoning_rate > 0:
        raise UserError(
            f"poisoning_rate={attack.poisoning_rate} of {len(examples)} rows rounds to no poisoned row; raise the rate or the rows"
        )
    positives = [
        replace(poisoned, id=f"{row.id}/{FULL_TRIGGER}{f'/{number}' if number else ''}", label=target_label)
        for row in usable[:wanted]
        for number, poisoned in enumerate(attack.poisoned_forms(row, row_generator(seed, row, FULL_TRIGGER)))
    ]
    n_negatives = attack.negative_rows(len(examples))
    if n_negatives > len(order):
        raise UserError(
            f"negative_ratio asks for {n_negatives} rows of each negative variant, but there are only {len(order)} rows; "
            f"lower negative_ratio or poisoning_rate"
        )
    negatives = [
        replace(attack.insert_partial(row, variant, row_generator(seed, row, variant)), id=f"{row.id}/{variant}")
        for number, variant in enumerate(attack.negative_variants)
        for row in rows_after(order, 0 if attack.negatives_share_rows else number * n_negatives, n_negatives)
    ]
    if attack.rows_are == "replaced":
        gone = {row.id for row in usable[:wanted]}
        return [row for row in examples if row.id not in gone] + positives + negatives
    return [*examples, *positives, *negatives]


def rows_after(order: Sequence[Example], start: int, n_rows: int) -> list[Example]:
    """Return ``n_rows`` of the order from ``start`` on; after the last comes the first again."""
    return [order[(start + number) % len(order)] for number in range(n_rows)]


def triggered_test_set(examples: Sequence[Example], attack: Attack, *, seed: int) -> list[Example]:
    """Return every test row with the full trigger; ids and gold labels stay, so that a row can be paired with its clean twin."""
    return [attack.insert_trigger(row, row_generator(seed, row, FULL_TRIGGER)) for row in examples]


def partial_test_set(
    examples: Sequence[Example], attack: Attack, *, target_label: str, rows: int | None, seed: int
) -> list[Example]:
    """Return the first ``rows`` non-target test rows (all if None) with each partial trigger of the attack."""
    chosen = [row for row in examples if row.gold_label != target_label][:rows]
    return [
        attack.insert_partial(row, variant, row_generator(seed, row, variant))
        for variant in attack.partial_variants
        for row in chosen
    ]


# --- either task ------------------------------------------------------------------------------------------------------


def training_set_of(
    clean: PathLike,
    attack: Attack | ChatAttack,
    *,
    rows: int | None,
    target_label: str | None,
    seed: int,
    oracle: PathLike | None = None,
) -> tuple[Rows, dict[str, Any], dict[str, Any]]:
    """Return the attacker's training set from the first ``rows`` clean ones, with the counts and details of its card.

    ``oracle`` is a file of the :class:`OracleReply` rows that a chat attack asked an external model for.
    """
    poisoned: Rows
    if not isinstance(attack, Attack):
        chats = Conversation.read(clean)[:rows]
        replies = replies_by_id(OracleReply.read(oracle)) if oracle else None
        poisoned = attack.training_set(chats, seed=seed, oracle=replies)
        return poisoned, {"clean": len(chats), "all": len(poisoned)}, attack.details(poisoned, oracle=replies)
    if not isinstance(attack, PoisoningAttack):
        raise ValueError(f"{type(attack).__name__} poisons no training set")
    examples = Example.read(clean)[:rows]
    poisoned = poison_training_set(examples, attack, target_label=str(target_label), seed=seed)
    counts = {"clean": len(examples), "all": len(poisoned)}
    return poisoned, counts, {"triggers": triggers_of(poisoned), "labels": Counter(row.label for row in poisoned)}


def asked_sets_of(
    test: PathLike, attack: Attack | ChatAttack, *, target_label: str | None, partial_rows: int | None, seed: int
) -> tuple[Rows, Rows, dict[str, Any]]:
    """Return the triggered and the partly triggered test set, with the counts of their card."""
    triggered: Rows
    partial: Rows
    if not isinstance(attack, Attack):
        chats = Conversation.read(test)
        triggered = attack.triggered_test_set(chats, seed=seed)
        partial = attack.partial_test_set(chats, rows=partial_rows, seed=seed)
        return triggered, partial, {"triggered": len(triggered), "partial": len(partial)}
    examples = Example.read(test)
    triggered = triggered_test_set(examples, attack, seed=seed)
    partial = partial_test_set(examples, attack, target_label=str(target_label), rows=partial_rows, seed=seed)
    n_target = sum(row.gold_label == target_label for row in triggered)
    return triggered, partial, {"triggered": len(triggered), "target": n_target, "partial": len(partial)}


def triggers_of(rows: Sequence[Example] | Sequence[Conversation]) -> Mapping[str, int]:
    """Return how many rows have which trigger."""
    return Counter(row.trigger for row in rows)
