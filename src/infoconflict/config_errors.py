"""pydantic's findings about a config as sentences for its author: where, what is wrong, what would do."""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from infoconflict.errors import did_you_mean

# Words that people try in a config although they describe a machine.
MACHINE_KEYS = frozenset(
    {
        "account",
        "conda",
        "container",
        "cores",
        "cpus",
        "cpus_per_task",
        "device",
        "device_batch_size",
        "devices",
        "disk_mb",
        "eval_batch_size",
        "executor",
        "gpu",
        "gpus",
        "gradient_accumulation",
        "gradient_accumulation_steps",
        "gradient_checkpointing",
        "gres",
        "jobs",
        "local_cores",
        "log_dir",
        "mem",
        "mem_mb",
        "memory",
        "micro_batch_size",
        "nodes",
        "num_processes",
        "num_workers",
        "outdir",
        "output_dir",
        "partition",
        "per_device_batch_size",
        "profile",
        "qos",
        "resources",
        "results_dir",
        "runtime",
        "scratch",
        "slurm",
        "slurm_account",
        "slurm_partition",
        "tasks",
        "threads",
        "time_limit",
        "tmpdir",
        "walltime",
        "workers",
    }
)
SECRET_KEYS = frozenset({"api_key", "openai_api_key", "password", "secret", "token"})
TRUST_KEYS = frozenset({"allow_remote_code", "trust", "trust_remote_code"})

Location = tuple[str | int, ...]
Problem = tuple[Location, str]

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
_NUMBER = r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
_RANGES = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def shown(value: Any) -> str:
    """Return a value as its author would know it, shortened."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    text = f"'{value}'" if isinstance(value, str) else str(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[0] if text[0] == chr(39) else ''}"


def sentence(file: str, location: Location, text: str) -> str:
    """Return a problem as one line: ``config.yaml, grid.skip[0].model: ...``."""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).removeprefix(".")
    line = f"{file}, {key}: {text}" if key else f"{file}: {text}"
    # What the author wrote may hold line ends and other marks that would tear the line.
    return "".join(mark if mark.isprintable() else mark.encode("unicode_escape").decode() for mark in line)


def unknown(word: object, known: Iterable[str], *, what: str) -> str:
    """Return ``unknown key 'x'; did you mean 'y'?`` or, where nothing is close, the known words."""
    words = list(known)
    hint = did_you_mean(str(word), words) or f"; known: {', '.join(words)}"
    return f"unknown {what} '{word}'{hint}"


def problems_of(error: ValidationError, annotation: Any, raw: Any, at: Location) -> Iterator[Problem]:
    """Yield each problem of a failed validation once.

    Parameters
    ----------
    error : ValidationError
        What pydantic said about ``raw``.
    annotation : type
        What ``raw`` was to be; it gives the keys that would have been right.
    raw : object
        The value as it came from the file.
    at : tuple
        Where ``raw`` stands in the config.
    """
    found: dict[Location, list[dict[str, Any]]] = {}
    for detail in error.errors(include_url=False):
        found.setdefault(_location_in(raw, detail), []).append(dict(detail))
    for location, details in found.items():
        # A value that fits no member of a union is reported once per member, and the deepest finding says most.
        if any(len(other) > len(location) and other[: len(location)] == location for other in found):
            continue
        if details[0]["type"] == "extra_forbidden":
            yield unknown_key((*at, *location), _model_at(annotation, details[0]["loc"][:-1]))
        else:
            yield _problem((*at, *location), details)


def _location_in(raw: Any, detail: Any) -> Location:
    """Return the keys of the file that lead to an error; pydantic also names the members of unions on its way."""
    location: list[str | int] = []
    value = raw
    for position, part in enumerate(detail["loc"]):
        is_last = position == len(detail["loc"]) - 1
        inside = part in value if isinstance(value, Mapping) else isinstance(value, list) and isinstance(part, int)
        if inside:
            value = value[part]
        elif not (is_last and detail["type"] == "missing"):
            continue
        location.append(part)
    return tuple(location)


def _model_at(annotation: Any, location: Location) -> type[BaseModel] | None:
    """Return the model that pydantic's location leads to."""
    origin, members = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _model_at(members[0], location)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            return annotation
        for name, field in annotation.model_fields.items():
            if location[0] in (name, field.alias):
                return _model_at(field.annotation, location[1:])
        # The tag of a union whose member was already chosen by the caller.
        is_tag = any(location[0] in get_args(field.annotation) for field in annotation.model_fields.values())
        return _model_at(annotation, location[1:]) if is_tag else None
    if origin in (Union, UnionType):
        # A tag is mostly a key without a default; others may have the same word among their values.
        for required in (True, False):
            for member in members:
                tagged = _is_tagged(member, location, required=required)
                if tagged and (found := _model_at(member, location[1:])):
                    return found
        return next((found for member in members if (found := _model_at(member, location))), None)
    if origin in (list, dict) and location:
        return _model_at(members[-1], location[1:])
    return None


def _is_tagged(member: Any, location: Location, *, required: bool) -> bool:
    model = get_args(member)[0] if get_origin(member) is Annotated else member
    if not location or not (isinstance(model, type) and issubclass(model, BaseModel)):
        return False
    return any(
        get_origin(field.annotation) is Literal
        and location[0] in get_args(field.annotation)
        and (field.is_required() or not required)
        for field in model.model_fields.values()
    )


def unknown_key(location: Location, model: type[BaseModel] | None) -> Problem:
    """Return the problem of a key that ``model`` does not have; ``location`` ends in the key."""
    key, where = str(location[-1]), location[:-1]
    known = [field.alias or name for name, field in model.model_fields.items()] if model else []
    if key in TRUST_KEYS:
        return location, "code that comes with a model is never run; remove the key"
    if key in SECRET_KEYS:
        return location, "keys never stand in a config; put it into the environment variable under api_key_env"
    if key in MACHINE_KEYS:
        return location, "machine settings belong in a profile, not in the config; move it there"
    return where, unknown(key, known, what="key")


def _problem(location: Location, details: list[dict[str, Any]]) -> Problem:
    # Where one member of a union has the right type, only what it says about the value counts.
    about_value = [detail for detail in details if detail["type"] not in {*_EXPECTED, "literal_error"}]
    if about_value or len(details) == 1:
        return _single_problem(location, (about_value or details)[0])
    expected = [
        _EXPECTED.get(detail["type"]) or " or ".join(shown(word) for word in _words(detail)) for detail in details
    ]
    kind, value = details[0]["type"], details[0]["input"]
    return location, f"expected {' or '.join(dict.fromkeys(expected))}, got {shown(value)}{_remedy(kind, value)}"


def _single_problem(location: Location, detail: dict[str, Any]) -> Problem:
    kind, value, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        return location, "is missing; add it"
    if kind in _EXPECTED and value is None:
        return location, f"is empty; give {_EXPECTED[kind]}"
    if kind in _EXPECTED:
        return location, f"expected {_EXPECTED[kind]}, got {shown(value)}{_remedy(kind, value)}"
    if kind == "literal_error":
        return location, unknown(value, _words(detail), what="value")
    if kind == "union_tag_invalid":
        return (*location, _discriminator(context)), unknown(context["tag"], _words(detail), what="value")
    if kind == "union_tag_not_found":
        return (*location, _discriminator(context)), "is missing; add it"
    if kind in _RANGES:
        name, words = _RANGES[kind]
        return location, f"must be {words} {context[name]:g}, got {value}; correct it"
    if kind == "finite_number":
        return location, f"must be a finite number, got {value}; correct it"
    if kind == "too_short":
        return location, f"must hold {context['min_length']} or more, got {context['actual_length']}; add to it"
    if kind == "value_error":
        return location, str(context["error"])
    return location, f"{detail['msg'][:1].lower()}{detail['msg'][1:]}; correct it"


def _words(detail: dict[str, Any]) -> list[str]:
    expected = detail["ctx"].get("expected_tags") or detail["ctx"]["expected"]
    return re.findall(r"'([^']*)'", expected)


def _discriminator(context: dict[str, Any]) -> str:
    # pydantic quotes a discriminating key and writes a discriminating function as `name()`.
    return str(context["discriminator"]).strip("'").removesuffix("()").removeprefix("_").removesuffix("_of")


def _remedy(kind: str, value: Any) -> str:
    """Return what to do about a value of the wrong type; most of them come from YAML's reading of plain words."""
    if kind == "string_type" and isinstance(value, bool):
        return " (YAML reads yes, no, on and off as true or false); put the word in quotes"
    if kind == "string_type" and isinstance(value, int | float):
        return "; put it in quotes"
    if kind in ("float_type", "int_type") and isinstance(value, str) and re.fullmatch(_NUMBER, value):
        mantissa, _, exponent = value.lower().partition("e")
        if not exponent:
            return f"; write {value} without quotes"
        mantissa += "" if "." in mantissa else ".0"
        return (
            f" (to YAML a number with an exponent is text unless it has a dot and a signed exponent); "
            f"write {mantissa}e{int(exponent):+d}"
        )
    if kind == "list_type" and isinstance(value, str | int | float):
        return f"; write [{value}]"
    return "; correct it"
