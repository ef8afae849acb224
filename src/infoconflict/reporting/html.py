"""A few lines that build HTML: every tag is closed, every plain text escaped."""

import html
import re
from collections.abc import Callable, Iterable, Sequence

from infoconflict.reporting.tables import Column, Row, Table

Link = Callable[[Row, Column], str | None]
"""Where a number of a table leads: to the answers that it was counted from."""

_MANY_COLUMNS = 7
_VOID = frozenset({"br", "hr", "img", "meta", "wbr"})
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")


class Html(str):
    """Text that is HTML already; all other text is escaped where it enters."""

    __slots__ = ()


def tag(name: str, /, *children: str, **attributes: str | bool | None) -> Html:
    """Return an element. A trailing underscore of an attribute's name is dropped (``class_``), others become dashes."""
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        written = key.removesuffix("_").replace("_", "-")
        parts.append(written if value is True else f'{written}="{html.escape(str(value))}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening) if name in _VOID else Html(f"{opening}{join(children)}</{name}>")


def join(children: Iterable[str], between: str = "") -> Html:
    """Return the children one after another, plain text escaped."""
    return Html(between.join(child if isinstance(child, Html) else _escape(child) for child in children))


def _escape(text: str) -> str:
    # A percent sign stays with its number.
    return html.escape(text).replace(" %", "\N{NO-BREAK SPACE}%")


def breakable(text: str) -> Html:
    """Return a name that may go on in another line after an underscore."""
    return join(text.split("_"), join(["_", tag("wbr")]))


def caption(text: str) -> Html:
    """Return a caption that keeps within the window where its table is wider."""
    return tag("caption", tag("span", text))


def details(
    summary: str, *children: str, open_: bool = False, class_: str | None = None, id_: str | None = None
) -> Html:
    """Return a part that a reader can fold out."""
    return tag("details", tag("summary", summary), *children, open=open_, class_=class_, id=id_)


def html_table(table: Table, *, label: str | None = None, link: Link | None = None) -> Html:
    """Return a table in a box that scrolls sideways; a model or attack that all rows share stands in the caption.

    ``link`` says where the numbers lead.
    """
    if not table.rows:
        return tag("p", "There are no rows.", class_="soft")
    shown, constant = [], []
    for column in table.columns:
        values = {column.text(row) for row in table.rows}
        if column.title in ("Model", "Dataset", "Attack") and len(values) == 1 and len(table.columns) > 3:
            constant.append(values.pop())
        else:
            shown.append(column)
    where = f" {', '.join(constant)}." if constant else ""
    head = [tag("th", column.title, scope="col", class_="number" if column.number else None) for column in shown]
    body = []
    for row in table.rows:
        cells = []
        for position, column in enumerate(shown):
            number = column.number(row) if column.number else None
            text = column.text(row)
            name = "th" if position == 0 else "td"
            shown_text = _with_interval(text) if column.number else text
            href = link(row, column) if link and column.number and number else None
            cells.append(
                tag(
                    name,
                    tag("a", shown_text, href=href, class_="cell") if href else shown_text,
                    scope="row" if position == 0 else None,
                    class_="number" if column.number else None,
                    data_sort=number,
                )
            )
        body.append(tag("tr", *cells, class_="control" if row.get("kind") == "control" else None))
    return tag(
        "div",
        tag(
            "table",
            caption((label or table.caption) + where),
            tag("thead", tag("tr", *head)),
            tag("tbody", *body),
            id=f"table-{table.name.replace('_', '-')}",
            class_="compact" if len(shown) > _MANY_COLUMNS else None,
        ),
        class_="scroll",
        tabindex="0",
    )


def sort_key(text: str) -> str:
    """Return the number that a text begins with as a program writes it; empty where it begins with none."""
    found = _NUMBER.match(text.replace("\N{NARROW NO-BREAK SPACE}", "").replace("\N{MINUS SIGN}", "-"))
    return found[0].removeprefix("+") if found else ""


def simple_table(
    label: str,
    head: list[str],
    rows: Sequence[Sequence[str]],
    *,
    numbers: frozenset[int] = frozenset(),
    groups: Sequence[str] = (),
) -> Html:
    """Return a table of texts; ``numbers`` are the columns to align right.

    ``groups`` has a word for each row: rows of one word stay together when they are sorted by a number.
    """
    if not rows:
        return tag("p", "There are no rows.", class_="soft")

    def cell(position: int, text: str) -> Html:
        name = "th" if position == 0 else "td"
        scope = "row" if position == 0 else None
        sort = sort_key(text) if position in numbers else None
        return tag(name, text, scope=scope, class_="number" if position in numbers else None, data_sort=sort)

    titles = [
        tag("th", title, scope="col", class_="number" if position in numbers else None)
        for position, title in enumerate(head)
    ]
    marks: Sequence[str | None] = groups or [None] * len(rows)
    body = [
        tag("tr", *(cell(position, text) for position, text in enumerate(row)), data_group=mark)
        for row, mark in zip(rows, marks, strict=True)
    ]
    return tag(
        "div",
        tag(
            "table",
            caption(label),
            tag("thead", tag("tr", *titles)),
            tag("tbody", *body),
            class_="compact" if len(head) > _MANY_COLUMNS else None,
        ),
        class_="scroll",
        tabindex="0",
    )


def _with_interval(text: str) -> Html:
    """Set an interval apart, so that it can take its own line where there is little room."""
    value, bracket, rest = text.partition(" [")
    return join([value, tag("span", f" [{rest}", class_="interval")]) if bracket else join([text])
