"""What the config's models say about themselves, for editors (JSON schema) and for readers (tables in a README)."""

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from infoconflict.config.loading import ID_PATTERN
from infoconflict.config.schema import Config
from infoconflict.errors import UserError
from infoconflict.field_texts import field_texts
from infoconflict.files import PathLike, write_text

_MARKED = re.compile(r"(<!-- keys of ([\w =]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class _WithDocs(GenerateJsonSchema):
    """Adds the text under each field, which pydantic could only collect while the config is imported, at a cost."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """Return a model's schema with a description for each key."""
        result = super().model_schema(schema)
        texts = field_texts(schema["cls"])
        result["description"] = inspect.getdoc(schema["cls"]) or ""
        for name, field in schema["cls"].model_fields.items():
            if name in texts:
                result["properties"][field.alias or name]["description"] = texts[name]
        # What chooses the kind of an entry comes first, wherever inheritance put it.
        result["properties"] = dict(sorted(result["properties"].items(), key=lambda item: not _is_kind(item[1])))
        return result


def _is_kind(field: dict[str, Any]) -> bool:
    """Say whether a key only names the kind of its entry; the code gives no text to those."""
    return "const" in field and "description" not in field


def schema() -> dict[str, Any]:
    """Return the JSON schema (draft 2020-12) of a config."""
    result = Config.model_json_schema(schema_generator=_WithDocs)
    result = {"$schema": "https://json-schema.org/draft/2020-12/schema", **result, "title": "infoconflict config"}
    for section in result["properties"].values():
        if section.get("type") == "object" and "additionalProperties" in section:
            section["propertyNames"] = {"pattern": ID_PATTERN}
    return result


def schema_text() -> str:
    """Return the JSON schema as the text of ``config/config.schema.json``."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def refresh_readme(path: PathLike) -> None:
    """Rewrite the tables between ``<!-- keys of NAME ... -->`` and ``<!-- end -->`` in a Markdown file."""
    write_text(path, refreshed(Path(path).read_text(encoding="utf-8"), where=str(path)))


def refreshed(text: str, *, where: str) -> str:
    """Return a Markdown text with its tables of keys made anew.

    A marker with several names, each perhaps written ``label=Name``, gives one table with a column for the label.

    Raises
    ------
    UserError
        If a marker names no part of the config, or a part has no marker.
    """
    whole = schema()
    parts = {"Config": whole, **whole["$defs"]}
    named = [word.rpartition("=")[2] for match in _MARKED.finditer(text) for word in match[2].split()]
    if strange := [name for name in named if name not in parts]:
        raise UserError(f"{where}: the config has no part {strange[0]}; correct the marker 'keys of {strange[0]}'")
    if absent := [name for name in parts if name not in named]:
        raise UserError(
            f"{where}: has no table for {', '.join(absent)}; add '<!-- keys of NAME -->' and '<!-- end -->'"
        )

    def table(match: re.Match[str]) -> str:
        words = [word.rpartition("=") for word in match[2].split()]
        rows = _table([(label or _kind(parts[name]), parts[name]) for label, _, name in words])
        return match[1] + "\n".join(rows) + "\n" + match[3]

    return _MARKED.sub(table, text)


def _table(parts: list[tuple[str, dict[str, Any]]]) -> Iterator[str]:
    """Yield the lines of one table; a row that several kinds of entry share stands once."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for label, part in parts:
        for key, field in part["properties"].items():
            if _is_kind(field):
                row = (key, "", "required", "Kind of entry; decides on the other keys.")
            else:
                row = (key, _values(field), _default(key, field, part), field["description"])
            rows.setdefault(row, []).append(f"`{label}`")
    several = ["of"] if len(parts) > 1 else []
    columns = ["key", *several, "values", "default", "meaning"]
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for (key, values, default, meaning), labels in rows.items():
        of = ["all" if len(labels) == len(parts) else ", ".join(labels)] if several else []
        cells = [f"`{key}`", *of, values or ", ".join(labels), default, meaning.replace("|", "&#124;")]
        yield f"| {' | '.join(cells)} |"


def _kind(part: dict[str, Any]) -> str:
    """Return what distinguishes a part from others of its section."""
    return next((field["const"] for field in part["properties"].values() if _is_kind(field)), part["title"])


def _default(key: str, field: dict[str, Any], part: dict[str, Any]) -> str:
    if "default" not in field:
        return "required" if key in part.get("required", ()) else "see there"
    is_part = isinstance(field["default"], dict) and field["default"]
    return "its own" if is_part else f"`{_yaml(field['default'])}`"


def _values(field: dict[str, Any]) -> str:
    """Return in words what a key may hold."""
    if "$ref" in field:
        return "a mapping"
    if "const" in field:
        return f"`{_yaml(field['const'])}`"
    if "enum" in field:
        return ", ".join(f"`{_yaml(word)}`" for word in field["enum"])
    if members := field.get("anyOf") or field.get("oneOf"):
        return " or ".join(dict.fromkeys(_values(member) for member in members))
    match field.get("type"):
        case "array":
            return f"list ({_values(field['items'])})"
        case "object":
            return "a mapping"
        case "string":
            return "text"
        case "boolean":
            return "`true`, `false`"
        case kind:
            return {"integer": "whole number", "number": "number"}.get(str(kind), str(kind)) + _range(field)


def _range(field: dict[str, Any]) -> str:
    low = field.get("minimum", field.get("exclusiveMinimum"))
    high = field.get("maximum", field.get("exclusiveMaximum"))
    if high is None:
        return "" if low is None else f" {'≥' if 'minimum' in field else '>'} {low:g}"
    opening, closing = "[" if "minimum" in field else "(", "]" if "maximum" in field else ")"
    return f" in {opening}{low}, {high}{closing}"


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, float) and 0 < value < 1e-3:
        mantissa, _, exponent = f"{value:e}".partition("e")
        return f"{float(mantissa)}e{int(exponent)}"
    return value if isinstance(value, str) else json.dumps(value)
