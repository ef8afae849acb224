"""Where each number comes from, as one compact document that the page's script reads.

A cell leads to its answers (counts, first rows, digest), these to their card, a card to the cards of what it read, up to
the sources. A grid may have ten thousand cards, so texts stand once and are named by number.
"""

import itertools
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infoconflict.files import PathLike, sha256_of
from infoconflict.metrics import CellFile, cell_name, read_csv
from infoconflict.records import CLEAN, FULL_TRIGGER
from infoconflict.reporting.html import Html, join, simple_table, tag
from infoconflict.reporting.names import attack_label, defense_label, metric_label, stage_order
from infoconflict.reporting.page_words import cell_anchor
from infoconflict.reporting.tables import Column, Row

Cards = Sequence[Mapping[str, Any]]
Place = frozenset[tuple[str, str]]
"""A cell as its names and values."""
_MOST_COMPARED = 100
_ROWS_SHOWN = 2
_LONGEST = 240
_LONGEST_DETAILS = 600
_CASE = ("model", "dataset", "attack")


class Provenance:
    """The cards of a run and the answers that its numbers were counted from."""

    def __init__(self, cards: Cards, answers: Iterable[CellFile] = (), cells_csv: PathLike | None = None) -> None:
        self.cards = cards
        self.places = [_place(card) for card in cards]
        self.makers = _makers(cards)
        self.texts: dict[str, int] = {}
        self.cells = self._cells()
        self.numbers = {name: number for number, name in enumerate(self.cells)}
        self.rows = _first_rows(answers)
        self.counts = _counts(cells_csv)

    def _cells(self) -> dict[str, list[int]]:
        """Return the cards of answers by cell without its seed, in the order of the cards."""
        found: dict[str, list[int]] = defaultdict(list)
        for number, card in enumerate(self.cards):
            cell = card.get("cell") or {}
            named = all(name in cell for name in _CASE) and ("defense" in cell or "merge" in cell)
            if named and "answers" in (card.get("outputs") or {}):
                found[_without_seed(cell)].append(number)
        return found

    def link(self, row: Row, column: Column) -> str | None:
        """Return where a number of a table leads; None where no card has its answers."""
        cell = {name: row.get(name, "") for name in _CASE}
        defense = column.defense or row.get("defense")
        last = {"defense": defense} if defense else {"merge": row.get("merge")}
        place = cell | last
        number = self.numbers.get(_without_seed(place))
        return None if number is None else f"#{cell_anchor(place)}"

    def document(self) -> dict[str, Any]:
        """Return what the script reads; see ``page_script.VIEWER``; ``names`` are those of the cells in their anchors."""
        cards = [self._card(number) for number in range(len(self.cards))]
        cells = [self._cell(name, numbers) for name, numbers in self.cells.items()]
        return {"texts": list(self.texts), "cards": cards, "cells": cells, "names": list(self.cells)}

    def _text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def _card(self, number: int) -> list[Any]:
        card = self.cards[number]
        spec = [
            part
            for name, value in sorted((card.get("spec") or {}).items())
            for part in (self._text(name), self._value(value))
        ]
        inputs: list[int] = []
        for name, digest in sorted((card.get("inputs") or {}).items()):
            maker = self._maker(str(digest), number)
            # A digest stands once, with the card that wrote it.
            inputs += [self._text(name), maker, self._text(str(digest)) if maker < 0 else -1]
        outputs = [
            self._text(part) for pair in sorted((card.get("outputs") or {}).items()) for part in (pair[0], str(pair[1]))
        ]
        about = {"code": card.get("code"), "versions": card.get("versions"), "rows": card.get("rows")}
        details = card.get("details")
        if details and len(json.dumps(details)) <= _LONGEST_DETAILS:
            about["details"] = details
        said = [part for name, value in about.items() if value for part in (self._text(name), self._value(value))]
        cost = card.get("cost") or {}
        spent = [part for name, value in sorted(cost.items()) for part in (self._text(name), self._value(value))]
        return [
            self._text(str(card["stage"])),
            self._text(cell_name(card.get("cell") or {})),
            spec,
            inputs,
            outputs,
            said,
            spent,
        ]

    def _value(self, value: Any) -> int:
        return self._text(value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False))

    def _maker(self, digest: str, reader: int) -> int:
        """Return which card wrote an input; where several wrote the same bytes, the one whose cell is most alike."""
        makers = self.makers.get(digest, {})
        cell = self.places[reader]
        # What is above a cell mostly has some of its names and no other. A few lookups, where thousands may share the bytes.
        for size in range(len(cell), -1, -1):
            for part in itertools.combinations(sorted(cell), size):
                if (maker := makers.get(frozenset(part), reader)) != reader:
                    return maker
        others = [
            (place, maker) for place, maker in itertools.islice(makers.items(), _MOST_COMPARED) if maker != reader
        ]
        return max(others, key=lambda other: len(cell & other[0]), default=(cell, -1))[1]

    def _cell(self, name: str, numbers: Sequence[int]) -> list[Any]:
        """Return a title, and for each seed its card, counts, and for the first one some rows."""
        title = self._text(_title(self.cards[numbers[0]]["cell"]))
        runs = []
        for number in numbers:
            whole = cell_name(self.cards[number]["cell"])
            counts = [
                part
                for metric, *pair in self.counts.get(whole, ())
                for part in (self._text(metric_label(metric)), *pair)
            ]
            rows = (
                [[self._text(text) for text in row] for row in self.rows.get(whole, ())] if number == numbers[0] else []
            )
            runs.append([number, counts, rows])
        return [title, runs]

    @property
    def inputs_linked(self) -> tuple[int, int]:
        """How many inputs another card's stage wrote, of how many."""
        read = [str(digest) for card in self.cards for digest in (card.get("inputs") or {}).values()]
        return sum(digest in self.makers for digest in read), len(read)


def provenance_section(provenance: Provenance, metrics_dir: Path) -> Html:
    """Return the section's text, the digests of the metric files, and the place where cards are searched."""
    note = tag(
        "p",
        "Each stage leaves a card with its settings, the digests of what it read and wrote, and what it cost. Every rate in a "
        "table is a link to the answers that it was counted from; these lead to their card, and a card to the cards of what "
        "it read, up to the sources.",
    )
    linked, read = provenance.inputs_linked
    count = tag(
        "p", f"{len(provenance.cards)} cards; {linked} of {read} inputs were written by another stage with a card."
    )
    files = [[f"metrics/{path.name}", sha256_of(path)] for path in sorted(metrics_dir.glob("*.csv"))]
    digests = simple_table("The numbers on this page come from these files.", ["File", "SHA-256"], files)
    field = tag("input", type="search", id="card-search", autocomplete="off")
    label = tag("label", "Search the cards by stage, cell or digest: ", field)
    search = tag("div", label, tag("ul", id="card-list"), id="card-finder", hidden=True)
    without = tag(
        "noscript",
        tag("p", "Without scripts, read the cards as they are: every result has a card.json beside it.", class_="soft"),
    )
    return join([note, count, digests, search, without])


def provenance_data(provenance: Provenance) -> Html:
    """Return the document as an element that no browser runs."""
    text = json.dumps(provenance.document(), ensure_ascii=False, separators=(",", ":"))
    # No text of a run can close the element.
    return tag("script", Html(text.replace("<", "\\u003c")), type="application/json", id="provenance-data")


def card_key(card: Mapping[str, Any]) -> tuple[tuple[int, str], str]:
    """Sort key: the order of the data flow, then the cell."""
    return stage_order(str(card["stage"])), cell_name(card.get("cell") or {})


def _without_seed(cell: Mapping[str, Any]) -> str:
    return cell_name({name: value for name, value in cell.items() if name != "seed"})


def _title(cell: Mapping[str, Any]) -> str:
    defense = str(cell.get("defense") or f"{cell.get('merge')}, all t")
    shown = defense_label(defense)
    return f"{shown}: {attack_label(str(cell['attack']))} on {cell['dataset']} with {cell['model']}"


def _place(card: Mapping[str, Any]) -> Place:
    return frozenset((name, str(value)) for name, value in (card.get("cell") or {}).items())


def _makers(cards: Cards) -> dict[str, dict[Place, int]]:
    """Return, for each digest, the cards that wrote it by their cells."""
    found: dict[str, dict[Place, int]] = defaultdict(dict)
    for number, card in enumerate(cards):
        for digest in (card.get("outputs") or {}).values():
            found[str(digest)].setdefault(_place(card), number)
    return found


def _counts(cells_csv: PathLike | None) -> dict[str, list[tuple[str, int, int]]]:
    """Return (metric, hits, total) of each cell with its seed."""
    found: dict[str, list[tuple[str, int, int]]] = defaultdict(list)
    if cells_csv is not None and Path(cells_csv).exists():
        for row in read_csv(cells_csv):
            cell = {name: row[name] for name in (*_CASE, "defense", "seed")}
            if "." not in row["metric"]:
                found[cell_name(cell)].append((row["metric"], int(row["hits"]), int(row["total"])))
    return found


def _first_rows(answers: Iterable[CellFile]) -> dict[str, list[list[str]]]:
    """Return the first clean and the first triggered rows of each file, as texts."""
    return {cell_name(cell): [_row(row) for row in first_rows(path)] for cell, path in answers}


def first_rows(path: PathLike, n_rows: int = _ROWS_SHOWN) -> list[dict[str, Any]]:
    """Return the first ``n_rows`` clean rows of a file of answers, then as many with the full trigger.

    Rows that are not wanted are passed over unread: a file may be large.
    """
    found: dict[str, list[dict[str, Any]]] = {CLEAN: [], FULL_TRIGGER: []}
    marks = {trigger: f'"trigger": "{trigger}"' for trigger in found}
    with Path(path).open(encoding="utf-8") as lines:
        for line in lines:
            if all(len(rows) >= n_rows for rows in found.values()):
                break
            for trigger, rows in found.items():
                if len(rows) < n_rows and marks[trigger] in line:
                    row = json.loads(line)
                    # The mark may stand in a text of the row, too.
                    if row["trigger"] == trigger:
                        rows.append(row)
    return [row for rows in found.values() for row in rows]


def _row(row: Mapping[str, Any]) -> list[str]:
    said = "no label" if row.get("answer") is None else str(row["answer"])
    scores = ", ".join(f"{label} {score:.2f}" for label, score in (row.get("scores") or {}).items())
    more = _shortened(str(row.get("generated") or "")) or scores
    trigger = "clean" if row["trigger"] == CLEAN else "triggered"
    return [str(row["id"]), trigger, str(row["gold_label"]), said, more]


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
