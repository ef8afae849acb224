"""What every part of a config is made of; methods whose options hold such parts build on it, too."""

from collections import Counter
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from infoconflict.config_errors import shown


class Entry(BaseModel):
    """A part of the config: strict types, no unknown keys, never changed after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, serialize_by_alias=True)

    not_science: ClassVar[frozenset[str]] = frozenset()
    """Keys that cannot change a result; :func:`spec_of` leaves them out."""


def _line(value: str) -> str:
    if not value.strip() or value != value.strip() or any(mark in value for mark in "\n\r\0"):
        raise ValueError(f"{shown(value)} is not one line of text without spaces around it; correct it")
    return value


def once(values: list[Any]) -> list[Any]:
    """Return the list as it is; a value that stands in it twice is an error."""
    for value, count in Counter(values).items():
        if count > 1:
            raise ValueError(f"holds {shown(value)} more than once; keep one")
    return values


Count = Annotated[int, Field(ge=1)]
Line = Annotated[str, AfterValidator(_line)]
