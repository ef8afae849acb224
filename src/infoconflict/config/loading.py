"""From YAML to a config, or to a sentence for each problem."""

import functools
import re
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import TypeAdapter, ValidationError

from infoconflict.config.references import broken_references
from infoconflict.config.schema import Config
from infoconflict.config.yaml_file import read_yaml
from infoconflict.config_errors import Location, Problem, problems_of, sentence, shown, unknown_key
from infoconflict.errors import UserError
from infoconflict.files import PathLike

ID_PATTERN = r"^(?!control_)[a-z0-9][a-z0-9_-]{0,31}$"
CONTROL_PREFIX = "control_"


def load_config(raw: Mapping[str, Any], *, file: str) -> Config:
    """Return the config that ``raw`` describes, defaults filled in.

    Parameters
    ----------
    raw : mapping
        What YAML gave.
    file : str
        Where it came from, for messages.

    Raises
    ------
    UserError
        With one line per problem, all of them at once: file, key, what is wrong, what would do.
    """
    if not isinstance(raw, Mapping):
        raise UserError(f"{file}: holds {shown(raw)}, expected a mapping of keys to values; begin with 'name: ...'")
    problems = [unknown_key((key,), Config) for key in raw if key not in Config.model_fields]
    parts: dict[str, Any] = {}
    for name, field in Config.model_fields.items():
        found: list[Problem] = []
        if name not in raw:
            parts[name] = None if field.is_required() else field.get_default(call_default_factory=True)
            found = [((name,), "is missing; add it")] if field.is_required() else []
        elif name in _entry_sections():
            parts[name], found = _checked_entries(raw[name], name)
        else:
            parts[name], found = _checked(name, raw[name], (name,))
        problems += found
    problems += broken_references(raw)
    if problems:
        raise UserError("\n".join(sentence(file, at, text) for at, text in problems))
    return Config.model_construct(**parts)


@functools.cache
def _entry_sections() -> frozenset[str]:
    """Return the sections that hold entries by id."""
    hints = typing.get_type_hints(Config, include_extras=True)
    return frozenset(name for name, hint in hints.items() if get_origin(hint) is dict)


@functools.cache
def _validator(section: str) -> tuple[Any, TypeAdapter[Any]]:
    """Return the type of a section, or of its entries where it has some, and what validates it."""
    hint = typing.get_type_hints(Config, include_extras=True)[section]
    annotation = get_args(hint)[1] if section in _entry_sections() else hint
    return annotation, TypeAdapter(annotation)


def _checked(section: str, raw: Any, at: Location) -> tuple[Any, list[Problem]]:
    """Return a valid value and no problems, or None and the problems."""
    annotation, validator = _validator(section)
    try:
        return validator.validate_python(raw, strict=True), []
    except ValidationError as error:
        return None, list(problems_of(error, annotation, raw, at))


def _checked_entries(raw: Any, section: str) -> tuple[dict[str, Any], list[Problem]]:
    """Return the entries of a section by id, None for those with a problem."""
    if not isinstance(raw, Mapping):
        return {}, [((section,), f"holds {shown(raw)}, expected entries by id; write '{section}: {{my_id: {{...}}}}'")]
    entries: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, value in raw.items():
        at: Location = (section, str(name))
        if not isinstance(name, str):
            problems.append((at, f"the id {shown(name)} is not text; put it in quotes"))
            continue
        if name.startswith(CONTROL_PREFIX):
            problems.append((at, f"ids that begin with {CONTROL_PREFIX} are reserved for controls; rename it"))
        elif not re.fullmatch(ID_PATTERN, name):
            problems.append((at, "an id is 1 to 32 of a-z, 0-9, _ and -, and begins with a letter or digit; rename it"))
        entries[name], found = _checked(section, value, at)
        problems += found
    return entries, problems


def read_config(path: PathLike) -> Config:
    """Return the config of a YAML file; problems are raised as by :func:`read_yaml` and :func:`load_config`."""
    return load_config(read_yaml(path), file=str(path))
