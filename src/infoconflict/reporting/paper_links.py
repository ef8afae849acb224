"""From the paper's tables to the pages beside them: a number to its answers, a method's name to its card, a table to its own page.

The links are relative, as the pages lie in ``results``; nothing here asks whether the report is there.
"""

import re
from collections.abc import Mapping
from typing import Any

from infoconflict.metrics import CELL_COLUMNS
from infoconflict.reporting.html import Html, tag
from infoconflict.reporting.methods import SECTIONS, method_anchor, method_cards
from infoconflict.reporting.page_words import cell_anchor
from infoconflict.reporting.paper_measures import CellKey

REPORT = "../report/index.html"
MethodLinks = Mapping[tuple[str, str], str]
"""Where a method's card is, by the section of the config (``attacks``, ``defenses``, ``merges``) and the method or its id."""


def to_cell(cell: CellKey | None, text: str) -> Html | str:
    """Return a number as a link to the report's account of what it was counted from; plain, where it is of no cell."""
    if cell is None:
        return text
    anchor = cell_anchor(dict(zip(CELL_COLUMNS[:4], cell, strict=True)))
    return tag("a", text, href=f"{REPORT}#{anchor}", class_="cell")


def method_links(config: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    """Return the links to the cards that the report of a config has."""
    return {
        (section, name): f"{REPORT}#{method_anchor(section, card.name)}"
        for section in SECTIONS
        for card in method_cards(section, config)
        for name in (card.name, *card.used_by)
    }


def to_method(links: MethodLinks, section: str, name: str, label: str) -> Html | str:
    """Return the name of a method as a link to its card; plain, where the report has none."""
    href = links.get((section, name))
    return tag("a", label, href=href, class_="cell") if href else label


def table_page(number: int) -> str:
    """Return where the page of one table lies, beside the page of all."""
    return f"table_{number}.html"


def beside(*children: str) -> Html:
    """Return a line of links to other pages; a page that stands alone is without it."""
    return tag("p", *children, class_="beside")


def to_run(run: str) -> Html:
    """Return the name of a run as a link to what is said of it, in the folder beside that of the page."""
    return tag("a", run, href=f"../{run}/README.md")


def standing_alone(page: str) -> str:
    """Return a page without links to pages of the same run: lines of such links are left out, other links become plain text."""
    page = re.sub(r'<p class="beside">.*?</p>', "", page)
    own = r"#|https?:|\.\./\w+/README\.md"
    return re.sub(rf'<a (?:[^>]* )?href="(?!{own})[^"]*"[^>]*>(.*?)</a>', r"\1", page)
