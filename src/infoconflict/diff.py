"""Which cells changed between two runs, and because of what: ``python -m infoconflict.diff OLD NEW``.

The cards of both runs are compared up the chain. A cell changed if its answers have another digest, or if the same answers
are counted in another way and give other rates. Its causes are the settings, code, versions, files or devices that differ in
its own card or in one above it; for the same answers, those of the card of the metrics. What differs without changing answers
or rates is not reported.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infoconflict.errors import UserError
from infoconflict.files import PathLike, read_json
from infoconflict.metrics import cell_name, read_csv
from infoconflict.rounding import rounded

CardKey = tuple[str, str]
"""Stage, and the cell as :func:`infoconflict.metrics.cell_name` writes it."""
COUNTING: CardKey = ("metrics", "")
"""The card of all metrics together: how answers became rates."""
_ALWAYS_SHOWN = ("asr", "cda")
_WHY = {
    "params": "settings",
    "code": "code",
    "data": "data",
    "inputs": "inputs",
    "versions": "versions",
    "machine": "machine",
    "missing": "missing cards",
    "unknown": "unknown",
}


@dataclass(frozen=True, kw_only=True, order=True)
class Cause:
    """One difference: ``kind`` is a key of ``_WHY``, ``stage`` where it is (empty for all), ``what`` what differs."""

    kind: str
    stage: str
    what: str

    def __str__(self) -> str:
        where = f" of {self.stage}" if self.stage else ""
        return f"{_WHY[self.kind]}{where}: {self.what}"


@dataclass(frozen=True)
class Run:
    """The cards of one run, by stage and cell, with who wrote each digest; rates by cell and metric, None where no row counts."""

    cards: dict[CardKey, Mapping[str, Any]]
    rates: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def cells(self) -> dict[str, CardKey]:
        """Return the cells with answers, each with the card of its answers."""
        return {
            key[1]: key
            for key, card in self.cards.items()
            if "defense" in card.get("cell", {}) and "answers" in card.get("outputs", {})
        }

    def makers(self) -> dict[str, list[CardKey]]:
        """Return, for each digest, the cards that wrote it."""
        found: dict[str, list[CardKey]] = defaultdict(list)
        for key in sorted(self.cards):
            for digest in self.cards[key].get("outputs", {}).values():
                found[str(digest)].append(key)
        return found


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The cells of two runs: those with other answers or other rates, with their causes, and the names of the others."""

    changed: dict[str, tuple[Cause, ...]]
    same: list[str]
    new: list[str]
    gone: list[str]


def read_run(folder: PathLike) -> Run:
    """Read the cards and rates of a run, given its ``results`` folder or the folder above it.

    Raises
    ------
    UserError
        If the folder has no card.
    """
    root = Path(folder)
    root = root / "results" if (root / "results").is_dir() else root
    cards = {}
    for path in sorted((*root.rglob("card.json"), *root.rglob("*.card.json"))):
        card = read_json(path)
        cards[str(card["stage"]), cell_name(card.get("cell") or {})] = card
    if not cards:
        raise UserError(
            f"{folder}: holds no card (card.json); name the results folder of a run, or the folder above it"
        )
    rates: dict[str, dict[str, float | None]] = defaultdict(dict)
    cells = root / "metrics" / "cells.csv"
    for row in read_csv(cells) if cells.exists() else []:
        name = cell_name({name: row[name] for name in _CELL})
        rates[name][row["metric"]] = float(row["rate"]) if row["rate"] else None
    return Run(cards, dict(rates))


_CELL = ("model", "dataset", "attack", "defense", "seed")


def compare(old: Run, new: Run) -> Difference:
    """Return which cells differ between two runs, and why."""
    before, after = old.cells(), new.cells()
    chain = _Chain(old, new)
    same: list[str] = []
    other: list[str] = []
    recounted: list[str] = []
    for name in sorted(before.keys() & after.keys()):
        first, second = old.cards[before[name]], new.cards[after[name]]
        if first["outputs"]["answers"] != second["outputs"]["answers"]:
            other.append(name)
        else:
            (recounted if other_rates(name, old, new) else same).append(name)
    changed = {name: chain.causes(before[name], after[name]) for name in other}
    changed |= {name: chain.recounted() for name in recounted}
    # Rates of other answers may differ for the counting, too, unless all the same answers are counted alike.
    if recounted or not any(name in old.rates and name in new.rates for name in same):
        for name in filter(lambda name: other_rates(name, old, new), other):
            changed[name] = tuple(sorted({*changed[name], *chain.counting()}))
    changed = dict(sorted(changed.items()))
    return Difference(changed=changed, same=same, new=sorted(after.keys() - before), gone=sorted(before.keys() - after))


def other_rates(name: str, old: Run, new: Run) -> list[str]:
    """Return which metrics of a cell both runs have, with another rate; a metric that is new says nothing about the others."""
    before, after = old.rates.get(name, {}), new.rates.get(name, {})
    return [metric for metric in before if metric in after and before[metric] != after[metric]]


class _Chain:
    """Walks up both runs' cards side by side; each pair of cards is compared once."""

    def __init__(self, old: Run, new: Run) -> None:
        self.old, self.new = old, new
        self.old_makers, self.new_makers = old.makers(), new.makers()
        self.known: dict[tuple[CardKey, CardKey], tuple[Cause, ...]] = {}

    def causes(self, before: CardKey, after: CardKey) -> tuple[Cause, ...]:
        """Return the differences of two cards and of all that stand above them, each once, in order."""
        if (before, after) not in self.known:
            found = {*self._own(before, after), *self._above(before, after)}
            if not found:
                what = "the same settings, code and inputs gave another result"
                found = {Cause(kind="unknown", stage=after[0], what=what)}
            self.known[before, after] = tuple(sorted(found))
        return self.known[before, after]

    def recounted(self) -> tuple[Cause, ...]:
        """Return why the same answers have other rates, as far as the cards of the metrics tell."""
        lacking = [which for which, run in (("earlier", self.old), ("later", self.new)) if COUNTING not in run.cards]
        if lacking:
            what = f"the same answers gave other rates, and the metrics of the {' and of the '.join(lacking)} run left no card"
            return (Cause(kind="missing", stage=COUNTING[0], what=what),)
        what = "the same answers, settings and code gave other rates"
        return self.counting() or (Cause(kind="unknown", stage=COUNTING[0], what=what),)

    def counting(self) -> tuple[Cause, ...]:
        """Return the differences of how both runs count; none where a card is lacking."""
        if COUNTING not in self.old.cards or COUNTING not in self.new.cards:
            return ()
        # Machines are left out: rates are counts.
        return tuple(sorted(cause for cause in self._own(COUNTING, COUNTING) if cause.kind != "machine"))

    def _own(self, before: CardKey, after: CardKey) -> Iterator[Cause]:
        old, new = self.old.cards[before], self.new.cards[after]
        stage = after[0]
        for what in differences(_own_settings(old), _own_settings(new)):
            yield Cause(kind="params", stage=stage, what=what)
        # Cards of early versions have no digest of the code.
        if old.get("code") and new.get("code") and old["code"] != new["code"]:
            yield Cause(kind="code", stage=stage, what=f"{old['code'][:12]} → {new['code'][:12]}")
        for what in differences(old.get("versions") or {}, new.get("versions") or {}):
            yield Cause(kind="versions", stage="", what=what)
        devices = [(card.get("cost") or {}).get("device") for card in (old, new)]
        if all(devices) and devices[0] != devices[1]:
            yield Cause(kind="machine", stage="", what=f"{devices[0]} → {devices[1]}")

    def _above(self, before: CardKey, after: CardKey) -> Iterator[Cause]:
        old, new = (run.cards[key].get("inputs") or {} for run, key in ((self.old, before), (self.new, after)))
        for name in sorted({*old, *new}):
            if name not in old or name not in new:
                yield Cause(kind="inputs", stage=after[0], what=f"{name} is {'new' if name in new else 'gone'}")
            elif old[name] != new[name]:
                yield from self._of_input(name, before, after, str(old[name]), str(new[name]))

    def _of_input(self, name: str, before: CardKey, after: CardKey, old: str, new: str) -> Iterator[Cause]:
        first = nearest(self.old_makers.get(old, []), before, self.old.cards)
        second = nearest(self.new_makers.get(new, []), after, self.new.cards)
        if first is None and second is None:
            yield Cause(kind="data", stage=after[0], what=f"{name} of {after[1] or 'all'} is another file")
        elif first is None or second is None:
            lacking = "earlier" if first is None else "later"
            what = f"who wrote {name} of {after[1] or 'all'} in the {lacking} run left no card"
            yield Cause(kind="missing", stage=after[0], what=what)
        elif first[0] != second[0]:
            yield Cause(kind="inputs", stage=after[0], what=f"{name} comes from {second[0]}, before from {first[0]}")
        else:
            yield from self.causes(first, second)


def nearest(makers: Sequence[CardKey], reader: CardKey, cards: Mapping[CardKey, Mapping[str, Any]]) -> CardKey | None:
    """Return the card, of those that wrote the same bytes, whose cell has most in common with the reader's."""
    cell = (cards[reader].get("cell") or {}).items()
    return max(makers, key=lambda key: len(cell & (cards[key].get("cell") or {}).items()), default=None)


def _own_settings(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return a card's settings without the digest of those above it: their own cards say what they are."""
    return {name: value for name, value in (card.get("spec") or {}).items() if name != "above"}


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield ``training.epochs 3 → 4`` for each value that differs, and which keys are new or gone."""
    for name in sorted({*old, *new}):
        path = f"{prefix}{name}"
        if name not in old:
            yield f"{path} is new: {new[name]}"
        elif name not in new:
            yield f"{path} is gone: {old[name]}"
        elif isinstance(old[name], Mapping) and isinstance(new[name], Mapping):
            yield from differences(old[name], new[name], f"{path}.")
        elif old[name] != new[name]:
            yield f"{path} {old[name]} → {new[name]}"


def report_lines(found: Difference, old: Run, new: Run, *, most: int = 12) -> Iterator[str]:
    """Yield what a person reads: counts, then each set of causes with its cells and their rates.

    Parameters
    ----------
    found : Difference
        What :func:`compare` returned for the same runs.
    old, new : Run
        For the rates.
    most : int
        Of more cells with the same causes only so many are listed.
    """
    counts = f"{len(found.same)} the same, {len(found.new)} new, {len(found.gone)} gone"
    yield f"{len(found.changed)} of {len(found.changed) + len(found.same)} cells in both runs changed; {counts}."
    if found.same and not (old.rates.keys() & new.rates.keys()):
        yield "Answers alone were compared: the runs have no rates of the same cells in metrics/cells.csv."
    by_causes: dict[tuple[Cause, ...], list[str]] = defaultdict(list)
    for name, causes in found.changed.items():
        by_causes[causes].append(name)
    for causes, names in sorted(by_causes.items(), key=lambda item: (-len(item[1]), item[0])):
        yield ""
        yield f"{len(names)} {'cell' if len(names) == 1 else 'cells'}, because of"
        yield from (f"  {cause}" for cause in causes)
        yield from _listed((f"{name}{_rates(name, old, new)}" for name in names), len(names), most)
    for title, names in (("new", found.new), ("gone", found.gone)):
        if names:
            yield ""
            yield f"{title}:"
            yield from _listed(names, len(names), most)


def _listed(lines: Iterable[str], total: int, most: int) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number == most:
            yield f"    and {total - most} more"
            return
        yield f"    {line}"


def _rates(name: str, old: Run, new: Run) -> str:
    before, after = old.rates.get(name, {}), new.rates.get(name, {})
    shown = dict.fromkeys((*_ALWAYS_SHOWN, *other_rates(name, old, new)))
    texts = [
        f"{metric.upper() if metric in _ALWAYS_SHOWN else metric} {_percent(before[metric])} → {_percent(after[metric])} %"
        for metric in shown
        if metric in before and metric in after
    ]
    return f"  {', '.join(texts)}" if texts else ""


def _percent(rate: float | None) -> str:
    return "none" if rate is None else rounded(100 * rate)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the differences of two runs; return 0, or 2 where a folder holds no run."""
    parser = argparse.ArgumentParser(prog="python -m infoconflict.diff", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("old", help="folder of the earlier run, or its results folder")
    parser.add_argument("new", nargs="?", default="results", help="the later one; results, if not given")
    parser.add_argument("--all", action="store_true", help="list all cells, not the first few of each cause")
    given = parser.parse_args(arguments)
    try:
        old, new = read_run(given.old), read_run(given.new)
    except UserError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    most = len(old.cards) + len(new.cards) if given.all else 12
    sys.stdout.writelines(f"{line}\n" for line in report_lines(compare(old, new), old, new, most=most))
    return 0


if __name__ == "__main__":
    sys.exit(main())
