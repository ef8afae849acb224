"""What the config's models say about themselves, for editors (JSON schema) and for readers (tables in a README)."""

import ast
import inspect
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from infoconflict.config import ID_PATTERN, Config
from infoconflict.errors import UserError
from infoconflict.files import PathLike, write_text

_MARKED = re.compile(r"(<!-- keys of ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


class _WithDocs(GenerateJsonSchema):
    """Adds the text under each field, which pydantic could only collect while the config is imported, at a cost."""

    def model_schema(self, schema: Any) -> dict[str, Any]:
        """Return a model's schema with a description for each key."""
        result = super().model_schema(schema)
        texts = _field_texts(schema["cls"])
        result["description"] = inspect.getdoc(schema["cls"]) or ""
        for name, field in schema["cls"].model_fields.items():
            if name in texts:
                result["properties"][field.alias or name]["description"] = texts[name]
        # What chooses the kind of an entry comes first, wherever inheritance put it.
        result["properties"] = dict(sorted(result["properties"].items(), key=lambda item: "const" not in item[1]))
        return result


def _field_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return the strings under a model's fields, its own before its ancestors'."""
    texts: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        # Classes made at run time (an attack and its method) have no source of their own.
        if not issubclass(parent, BaseModel) or parent is BaseModel or not _has_source(parent):
            continue
        body = ast.parse(inspect.getsource(parent)).body[0].body  # type: ignore[attr-defined]
        for statement, following in itertools.pairwise(body):
            match statement, following:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    texts[name] = " ".join(text.split())
    return texts


def _has_source(model: type[BaseModel]) -> bool:
    try:
        inspect.getsource(model)
    except (OSError, TypeError):
        return False
    return True


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
    """Return a Markdown text with its tables of keys made anew; parts that share a marker share a table.

    Raises
    ------
    UserError
        If a marker names no part of the config, or a part has no marker.
    """
    whole = schema()
    parts = {"Config": whole, **whole["$defs"]}
    named = [name for match in _MARKED.finditer(text) for name in match[2].split()]
    if strange := [name for name in named if name not in parts]:
        raise UserError(f"{where}: the config has no part {strange[0]}; correct the marker 'keys of {strange[0]}'")
    if absent := [name for name in parts if name not in named]:
        raise UserError(
            f"{where}: has no table for {', '.join(absent)}; add '<!-- keys of NAME -->' and '<!-- end -->'"
        )
    return _MARKED.sub(
        lambda match: match[1] + "\n".join(_table([parts[name] for name in match[2].split()])) + "\n" + match[3], text
    )


def _table(parts: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of one table; a row that several kinds of entry share stands once."""
    rows: dict[tuple[str, ...], list[str]] = {}
    for part in parts:
        for key, field in part["properties"].items():
            if "const" in field and "description" not in field and len(parts) > 1:
                row = (key, "", "required", "Kind of entry; decides on the other keys.")
            else:
                row = (key, _values(field), _default(key, field, part), field.get("description", ""))
            rows.setdefault(row, []).append(_kind(part))
    columns = (
        ["key", "values", "default", "meaning"] if len(parts) == 1 else ["key", "of", "values", "default", "meaning"]
    )
    yield f"| {' | '.join(columns)} |"
    yield f"|{' --- |' * len(columns)}"
    for (key, values, default, meaning), kinds in rows.items():
        of = "all" if len(kinds) == len(parts) else ", ".join(kinds)
        cells = [f"`{key}`", of, values or ", ".join(kinds), default, meaning.replace("|", "&#124;")]
        yield f"| {' | '.join(cells if len(parts) > 1 else [cells[0], *cells[2:]])} |"


def _kind(part: dict[str, Any]) -> str:
    """Return what distinguishes a part from others of its section."""
    words = [f"`{field['const']}`" for field in part["properties"].values() if "const" in field]
    return words[-1] if words else "planned" if part["title"].startswith("Planned") else f"`{part['title']}`"


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
            return f"list of {_values(field['items']).replace('number', 'numbers', 1).replace('text', 'texts', 1)}"
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
        return "" if low is None else f", {low:g} or more" if "minimum" in field else f" above {low:g}"
    opening, closing = "[" if "minimum" in field else "(", "]" if "maximum" in field else ")"
    return f" in {opening}{low}, {high}{closing}"


def _yaml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if isinstance(value, float) and 0 < value < 1e-3:
        mantissa, _, exponent = f"{value:e}".partition("e")
        return f"{float(mantissa)}e{int(exponent)}"
    return value if isinstance(value, str) else json.dumps(value)
