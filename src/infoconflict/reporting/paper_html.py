"""What the page "paper and ours" and the page of one table share: their style, and the list of the paper's inconsistencies."""

from collections.abc import Container

from infoconflict.files import PathLike, write_text
from infoconflict.reporting.html import Html, join, tag
from infoconflict.reporting.paper_tables import PaperTable, to_html
from infoconflict.reporting.published import inconsistencies
from infoconflict.reporting.whole_page import whole_page

PAPER_STYLE = """
body { max-width: 92rem; }
ol { max-width: 60rem; }
.tall { max-height: 92vh; overflow: auto; }
.paper td { min-width: 5.5rem; }
.paper :is(td, th) { padding-right: .5rem; }
.paper thead { font-size: .82rem; }
.paper td.number, .paper .none { white-space: normal; }
.paper.costs td { min-width: 7.8rem; }
.paper th[scope="row"] { min-width: 8.5rem; }
.paper th[scope="row"] :is(span, b) { font-weight: 400; }
.paper th[scope="row"] span:has(b) { display: block; color: var(--soft); }
.paper thead th { position: sticky; top: 0; z-index: 1; background: var(--paper); }
.paper th:first-child { position: sticky; left: 0; background: var(--paper) padding-box; }
.paper thead th:first-child { z-index: 2; }
.paper td .interval, .printed { display: block; font-size: .78rem; }
.paper td .interval { white-space: normal; }
.printed { color: var(--soft); }
.printed .printed { font-size: .72rem; }
.printed sup a { text-decoration: none; }
.none { color: var(--soft); font-style: italic; font-size: .82rem; }
.paper .ours { font-size: 1rem; }
.apart { color: var(--bad); font-weight: 600; }
.paper tbody tr:not(.first) th { color: var(--soft); }
td.wide { min-width: 13rem; }
#table-claims th[scope="row"] { min-width: 12rem; }
#table-claims td:nth-child(2) { min-width: 6.5rem; }
.printed sup + sup::before { content: ", "; }
#what-differs td { overflow-wrap: anywhere; min-width: 7rem; }
@media (max-width: 36rem) {
  .paper th:first-child { min-width: 6rem; max-width: 6rem; font-size: .78rem; overflow-wrap: anywhere; }
  .paper th[scope="row"] span { display: block; }
  #table-claims th[scope="row"] { color: var(--ink); font-size: 1rem; }
  #what-differs table { table-layout: fixed; width: 100%; }
  #what-differs :is(th, td) { min-width: 0; overflow-wrap: anywhere; }
  #table-claims td[data-head]::before { content: attr(data-head) ": "; color: var(--soft); }
}
@page { size: A4 landscape; margin: 12mm; }
@media print {
  .tall { max-height: none; overflow: visible; }
  .paper thead th, .paper th:first-child { position: static; }
  .not-computed > :not(summary) { display: none; }
  .paper.costs td, .paper th[scope="row"] { min-width: 0; }
  .compact { font-size: 7pt; }
  .paper td { min-width: 0; }
  .paper :is(th, td) { padding-right: 4pt; }
  .paper .ours { font-size: 7.5pt; }
  .paper :is(.none, .printed, .printed .printed), .paper td .interval { font-size: 6pt; }
  .paper :is(.none, .printed), .paper thead .number, .compact .number { white-space: normal; }
}
"""


def inconsistency_list(numbers: Container[int] | None = None) -> Html:
    """Return the paper's inconsistencies, each under the anchor that cells lead to; ``numbers``, if not all of them."""
    kinds = {"text": "text against tables", "table": "table against table", "doubtful": "doubtful value"}
    items = []
    for one in inconsistencies():
        if numbers is not None and one.number not in numbers:
            continue
        places = sorted({f"Table {cell['table']}" for cell in one.cells})
        where = f" ({kinds[one.kind]}{': ' + ', '.join(places) if places else ''})"
        item = tag(
            "li", one.text, tag("span", where, class_="soft"), id=f"inconsistency-{one.number}", value=str(one.number)
        )
        items.append(item)
    intro = "Where the paper does not agree with itself, by the numbers that stand beside the cells they touch."
    return join([tag("p", intro), tag("ol", *items)])


def write_table_page(out_path: PathLike, table: PaperTable) -> None:
    """Write a page of one table, with the inconsistencies of the paper that touch it."""
    touched = {note for entry in table.entries.values() for note in entry.notes}
    sections = {f"Table {table.number}": to_html(table)}
    if touched:
        sections["The paper's inconsistencies"] = inconsistency_list(touched)
    write_text(out_path, whole_page(f"Table {table.number}: {table.title}", sections, style=PAPER_STYLE))
