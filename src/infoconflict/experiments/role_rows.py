"""Training rows of models with exchanged roles: shares of the clean and of the backdoor rows (paper, section 6.1).

The backdoor rows are the clean ones with the full trigger and the target label, as far as the attack may poison them. Rows
that an attack adds against false triggers are neither, and are left out. Few rows are a part of all, so that what changes
from role to role is the amount alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from infoconflict.attacks import load
from infoconflict.attacks.base import PoisoningAttack
from infoconflict.data.splits import share_of, stratified_order
from infoconflict.errors import UserError
from infoconflict.experiments.roles import ROLES, Role, share_of_role
from infoconflict.jobs import Job
from infoconflict.poisoning import row_generator
from infoconflict.records import FULL_TRIGGER, Example


def backdoor_rows(clean: Sequence[Example], attack: PoisoningAttack, *, target_label: str, seed: int) -> list[Example]:
    """Return every row that the attack may poison, with the full trigger and the target label."""
    return [
        replace(
            attack.insert_trigger(row, row_generator(seed, row, FULL_TRIGGER)),
            id=f"{row.id}/{FULL_TRIGGER}",
            label=target_label,
        )
        for row in clean
        if attack.poisons_target_rows or row.gold_label != target_label
    ]


def rows_of_role(
    role: Role, clean: Sequence[Example], backdoor: Sequence[Example], *, small_share: float, seed: int
) -> list[Example]:
    """Return a role's training rows: clean ones, then backdoor ones.

    Parameters
    ----------
    role : Role
        How much of each set.
    clean, backdoor : sequence of Example
        The two sets.
    small_share : float in (0, 1)
        What few are of each.
    seed : int
        The same seed gives the same rows.

    Raises
    ------
    UserError
        If a share rounds to no row.
    """
    found: list[Example] = []
    for name, rows, amount in (("clean", clean, role.clean), ("backdoor", backdoor, role.backdoor)):
        share = share_of_role(amount, small_share)
        n_rows = share_of(share, len(rows))
        if share and not n_rows:
            raise UserError(
                f"role_swap.small_share={small_share} of {len(rows)} {name} rows rounds to no row; raise it, or rows"
            )
        # Stratified by the gold label, so that few rows know of all labels, too.
        found += stratified_order(rows, lambda row: row.gold_label, rng=Random(f"role_swap/{name}/{seed}"))[:n_rows]
    return found


def draw_roles(job: Job) -> None:
    """Write the training rows of every role."""
    attack = load(job.spec["attack"]["method"]).from_spec(job.spec["attack"])
    if not isinstance(attack, PoisoningAttack):
        raise UserError(f"attacks.{job.cell['attack']} poisons no rows; name another under role_swap.attacks")
    settings, outputs = job.spec["role_swap"], dict(zip(ROLES, job.output.train, strict=True))
    clean = Example.read(job.input.train)[: settings["rows"]]
    backdoor = backdoor_rows(clean, attack, target_label=job.spec["target_label"], seed=job.seed)
    counts = {"clean": len(clean), "backdoor": len(backdoor)}
    for name, role in ROLES.items():
        rows = rows_of_role(role, clean, backdoor, small_share=settings["small_share"], seed=job.seed)
        Example.write(outputs[name], rows)
        counts[name] = len(rows)
    job.card.write(
        job.output.card,
        inputs={"train": job.input.train},
        outputs={Path(path).stem: path for path in outputs.values()},
        rows=counts,
    )
