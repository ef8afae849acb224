"""What the config of a defense and the workflow need to know of it."""

from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict


class Defense(BaseModel):
    """Options of a defense (its fields) and where it acts.

    A defense with a ``merge`` field answers with that merged model in place of the suspect one; one with an ``evidence``
    field answers prompts that carry that evidence. None of them is given a trigger, a target label, or a poisoned row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    acts_on: ClassVar[tuple[Literal["weights", "decoding", "prompt"], ...]] = ()
