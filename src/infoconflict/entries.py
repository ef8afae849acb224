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


def spec_of(entry: BaseModel) -> dict[str, Any]:
    """Return an entry as JSON values, defaults filled in, without the keys that cannot change a result."""
    spec: dict[str, Any] = entry.model_dump(mode="json")
    for name in getattr(entry, "not_science", ()):
        spec.pop(name, None)
    for name in type(entry).model_fields:
        value = getattr(entry, name)
        if isinstance(value, Entry):
            spec[name] = spec_of(value)
        elif isinstance(value, dict):
            # Sections hold entries by id.
            spec[name] |= {key: spec_of(part) for key, part in value.items() if isinstance(part, BaseModel)}
        elif isinstance(value, list):
            spec[name] = [
                spec_of(part) if isinstance(part, BaseModel) else dumped
                for part, dumped in zip(value, spec[name], strict=True)
            ]
    return spec
