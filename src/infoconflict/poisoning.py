"""Poisoned training sets and triggered test sets: which rows are poisoned, and how many.

Shared by all attacks by data poisoning; the edit of one row is the attack's. Every row draws its randomness from a generator
seeded by (seed, row, variant), so that neither the order nor the number of other rows can change it.
"""

from collections.abc import Sequence
from dataclasses import replace
from random import Random

from infoconflict.attacks.base import Attack, PoisoningAttack
from infoconflict.errors import UserError
from infoconflict.records import FULL_TRIGGER, Example


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
    positives, the first ``round(alpha * rate * N)`` each negative variant (the same rows, as in CBA's source).

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
    if wanted == 0:
        raise UserError(
            f"poisoning_rate={attack.poisoning_rate} of {len(examples)} rows rounds to no poisoned row; raise the rate or the rows"
        )
    positives = [
        replace(
            attack.insert_trigger(row, row_generator(seed, row, FULL_TRIGGER)),
            id=f"{row.id}/{FULL_TRIGGER}",
            label=target_label,
        )
        for row in usable[:wanted]
    ]
    n_negatives = attack.negative_rows(len(examples))
    if n_negatives > len(order):
        raise UserError(
            f"negative_ratio asks for {n_negatives} rows of each negative variant, but there are only {len(order)} rows; "
            f"lower negative_ratio or poisoning_rate"
        )
    negatives = [
        replace(attack.insert_partial(row, variant, row_generator(seed, row, variant)), id=f"{row.id}/{variant}")
        for variant in attack.negative_variants
        for row in order[:n_negatives]
    ]
    if attack.rows_are == "replaced":
        gone = {row.id for row in usable[:wanted]}
        return [row for row in examples if row.id not in gone] + positives + negatives
    return [*examples, *positives, *negatives]


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
