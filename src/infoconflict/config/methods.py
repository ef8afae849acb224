"""Attacks and defenses: each gives its own options, ``method`` says whose they are."""

import functools
import operator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, create_model

from infoconflict import attacks, defenses
from infoconflict.attacks.base import Attack
from infoconflict.attacks.chat import ChatAttack
from infoconflict.defenses.base import Defense

if TYPE_CHECKING:

    class _Attack(Attack):
        method: str

    class _ChatAttack(ChatAttack):
        method: str

    AttackEntry = _Attack | _ChatAttack
else:
    # Each attack gives its own options; `method` says whose they are.
    AttackEntry = Annotated[
        functools.reduce(
            operator.or_,
            [
                create_model(
                    f"{attack.__name__}Entry", __base__=attack, __doc__=attack.__doc__, method=(Literal[name], ...)
                )
                for name in attacks.METHODS
                for attack in [attacks.load(name)]
            ],
        ),
        Field(discriminator="method"),
    ]


if TYPE_CHECKING:
    DefenseEntry = Defense
else:
    DefenseEntry = Annotated[
        functools.reduce(operator.or_, list(map(defenses.load, defenses.METHODS))),
        Field(discriminator="method"),
    ]
