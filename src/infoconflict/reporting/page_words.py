"""What the sections of the page have in common: words for numbers and cases."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infoconflict.metrics import cell_name
from infoconflict.reporting.html import Html, join, tag
from infoconflict.reporting.names import attack_label
from infoconflict.reporting.results import Case, Measure, Measures, Results
from infoconflict.reporting.tables import Table, percent, read_table

MARKS: Mapping[str, tuple[str, str]] = {
    "met": ("✓", "met"),
    "met, not certain": ("≈", "doubt"),
    "missed, not certain": ("≈", "doubt"),
    "missed": ("✗", "missed"),
    "not measured": ("?", "soft"),
    "supported": ("✓", "met"),
    "supported, not certain": ("≈", "doubt"),
    "not supported, not certain": ("≈", "doubt"),
    "not supported": ("✗", "missed"),
}
"""Mark and style of each verdict; the words stand beside it, so that nothing hangs on the color."""


def table_of(tables_dir: Path, name: str, results: Results) -> Table:
    """Read a table of the run back."""
    return read_table(tables_dir, name, confidence=results.confidence)


def rate_text(measure: Measure) -> str:
    """Return a rate in percent with its interval."""
    return f"{percent(measure.value)} % [{percent(measure.low)}, {percent(measure.high)}]"


def soft_brackets(text: str) -> Html:
    """Set intervals back, so that the eye meets the rates first."""
    parts = re.split(r"( \[[^\]]*\])", text)
    return join(tag("span", part, class_="interval") if part.startswith(" [") else part for part in parts)


def level(results: Results) -> str:
    """Return what brackets are."""
    return f"{100 * results.confidence:g} % Wilson intervals"


def grouped(number: float) -> str:
    """Return a number with thin spaces between thousands."""
    return f"{number:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def case_name(case: Case) -> str:
    """Return a case in words."""
    model, dataset, attack = case
    return f"{attack_label(attack)} on {dataset} with {model}"


def anchor(text: str) -> str:
    """Return the id of a section."""
    return "".join(letter if letter.isalnum() else "-" for letter in text.lower())


def cell_anchor(cell: Mapping[str, Any]) -> str:
    """Return where the report shows the answers of a cell: the same for all seeds, and in every run that has the cell."""
    return f"cell-{cell_name({name: value for name, value in cell.items() if name != 'seed'})}"


def both_rates(measures: Measures) -> str:
    """Return attack success and clean accuracy, each with its interval."""
    texts = [f"{name} {rate_text(measures[metric])}" for name, metric in (("ASR", "asr"), ("CDA", "cda"))]
    return " and ".join(texts)


def has_rates(measures: Measures) -> bool:
    """Whether attack success and clean accuracy were both measured."""
    return all(metric in measures and measures[metric].value is not None for metric in ("asr", "cda"))


def verdict_mark(verdict: str) -> Html:
    """Return a verdict with its mark."""
    mark, style = MARKS[verdict]
    return tag("span", f"{mark} {verdict}", class_=style)
