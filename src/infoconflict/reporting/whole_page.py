"""The frame of every page: one file with its style and its scripts, which asks for nothing else."""

from collections.abc import Mapping

from infoconflict.reporting.html import Html, join, tag
from infoconflict.reporting.page_script import SCRIPT, VIEWER
from infoconflict.reporting.page_style import STYLE
from infoconflict.reporting.page_words import anchor


def whole_page(
    title: str,
    sections: Mapping[str, Html],
    *,
    style: str = "",
    provenance: Html | None = None,
    contents_first: bool = False,
) -> str:
    """Return a page with a section for each name; the first one has the page's title, and the contents after it.

    ``contents_first``: the contents stand below the title already.

    ``style`` is added to the common one. ``provenance`` is the element that the viewer of answers and cards reads.
    """
    links = [tag("a", name, href=f"#{anchor(name)}") for name in sections]
    parts = []
    for number, (name, content) in enumerate(sections.items()):
        heading = tag("h2", name) if number else tag("h1", title)
        contents = [tag("nav", join(links, " "), aria_label="Contents")] if not number and len(sections) > 1 else []
        above, below = (contents, []) if contents_first else ([], contents)
        parts += [tag("section", heading, *above, content, id=anchor(name)), *below]
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(STYLE + style)),
    )
    script = SCRIPT if provenance is None else f"{SCRIPT}\n{{{VIEWER}}}\n"
    body = tag("body", tag("main", *parts), provenance or Html(), tag("script", Html(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"
