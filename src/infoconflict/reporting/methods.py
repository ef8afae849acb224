"""Method cards: what each attack, defense and merge of the run is, in the words of its own module.

Nothing is written twice: source and deviations are the module's docstring, the meaning of an option is the text under its
field, and the values are the run's.
"""

import ast
import html
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infoconflict import attacks, defenses
from infoconflict.field_texts import field_texts
from infoconflict.reporting.html import Html, details, join, simple_table, tag
from infoconflict.reporting.names import attack_label

_SOURCE = Path(__file__).parents[1]
_FOLDERS = {"attacks": "attacks", "defenses": "defenses", "merges": "merging"}
SECTIONS = tuple(_FOLDERS)
_TITLES = {"attacks": "Attacks", "defenses": "Defences", "merges": "Merge methods"}
# Sentences that a reader looks for stand on lines of their own.
_LEADS = re.compile(r"\s+(?=(?:Needs|Must not see|Needs and must not see|Differs from [^.:]*|As in [^.:]*):)")
_CODE = re.compile(r"``(.+?)``|:\w+:`~?(.+?)`|(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True, kw_only=True)
class MethodCard:
    """One method: where it is defined, what it says of itself, and the ids that use it, each with its options."""

    name: str
    file: str
    paragraphs: tuple[str, ...]
    options: dict[str, str] = field(default_factory=dict)
    used_by: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def method_cards(section: str, config: Mapping[str, Any]) -> list[MethodCard]:
    """Return the cards of the methods that a section of the config uses, in its order.

    Parameters
    ----------
    section : {"attacks", "defenses", "merges"}
        What is not in the grid is left out; methods without a module are, too.
    config : mapping
        The whole config with its defaults.
    """
    entries: Mapping[str, Mapping[str, Any]] = config.get(section) or {}
    wanted = (config.get("grid") or {}).get(section, list(entries))
    cards: dict[str, MethodCard] = {}
    for name in (name for name in entries if name in wanted):
        method = str(entries[name].get("method", name))
        path = _SOURCE / _FOLDERS[section] / f"{method}.py"
        if not path.is_file():
            continue
        if method not in cards:
            paragraphs, texts = _said(section, method, path)
            shown = path.relative_to(_SOURCE).as_posix()
            cards[method] = MethodCard(name=method, file=shown, paragraphs=paragraphs, options=texts)
        cards[method].used_by[name] = entries[name]
    return list(cards.values())


def method_anchor(section: str, method: str) -> str:
    """Return where a page shows the card of a method."""
    return f"method-{section}-{method}"


def method_files(config: Mapping[str, Any]) -> list[str]:
    """Return the files that the cards are made from, from the package's folder."""
    return [card.file for section in _FOLDERS for card in method_cards(section, config)]


def _said(section: str, method: str, path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the paragraphs of a module's docstring and its class's, and the texts under the class's fields."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = [ast.get_docstring(tree) or ""]
    options: dict[str, str] = {}
    known: dict[str, Any] = {"attacks": attacks, "defenses": defenses}
    if section in known and method in known[section].METHODS:
        one = known[section].load(method)
        options = field_texts(one)
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == one.__name__]
        docs += [ast.get_docstring(node) or "" for node in classes]
    return tuple(part for doc in docs for part in _paragraphs(doc)), options


def _paragraphs(doc: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", doc):
        yield from (part for part in _LEADS.split(" ".join(paragraph.split())) if part)


def methods_section(config: Mapping[str, Any]) -> Html:
    """Return a card for each method that the run uses."""
    parts = [tag("p", "What each method is, where it comes from, and where this one differs: the words of its module.")]
    for section, title in _TITLES.items():
        cards = method_cards(section, config)
        if cards:
            parts += [tag("h3", title), *(_shown(card, section) for card in cards)]
    return join(parts)


def _shown(card: MethodCard, section: str) -> Html:
    label = attack_label(card.name) if section == "attacks" else card.name
    first, *rest = card.paragraphs or ("",)
    body = [tag("p", marked_up(first)), *(tag("p", marked_up(text)) for text in rest)]
    ids = [name for name in card.used_by if name != card.name]
    where = [tag("code", card.file), *([", here as ", join([tag("code", name) for name in ids], ", ")] if ids else [])]
    body.append(tag("p", join(where), class_="soft small"))
    options = {name: text for name, text in card.options.items() if name != "method"}
    names = dict.fromkeys(
        (*options, *(name for values in card.used_by.values() for name in values if name != "method"))
    )
    rows = [[name, _values(card, name), options.get(name, "")] for name in names if _values(card, name)]
    if rows:
        body.append(
            simple_table("Options with the values of this run.", ["Option", "Value", "Meaning and source"], rows)
        )
    # The name of what a sentence is about is enough to find it; the first sentence says what it is.
    sentence = re.split(r"(?<=[.])(?<!al\.)\s", first, maxsplit=1)[0]
    return details(f"{label} – {_plain(sentence)}", *body, class_="method", id_=method_anchor(section, card.name))  # noqa: RUF001 an en dash


def _values(card: MethodCard, name: str) -> str:
    """Return the value of an option; by id where they differ."""
    values = {one: _text(entry[name]) for one, entry in card.used_by.items() if name in entry}
    if len(set(values.values())) <= 1 and len(values) == len(card.used_by):
        return next(iter(values.values()), "")
    return "; ".join(f"{one}: {value}" for one, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    plain = dict(value) if isinstance(value, Mapping) else list(value) if _is_list(value) else value
    return json.dumps(plain, ensure_ascii=False, default=str)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence | set | frozenset)


def marked_up(text: str) -> Html:
    """Return a docstring's text with its names set as code."""
    return Html(
        _CODE.sub(lambda match: f"<code>{match[1] or match[2] or match[3]}</code>", html.escape(text, quote=False))
    )


def _plain(text: str) -> str:
    return _CODE.sub(lambda match: match[1] or match[2] or match[3], text).rstrip(".:")
