"""A check that HTML closes what it opens, that ids are unique, and that links within a page lead somewhere."""

from html.parser import HTMLParser


class Reader(HTMLParser):
    """Keep track of open elements, ids and inner links."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources = [], [], [], []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if "id" in names:
            self.ids.append(names["id"])
        if names.get("href"):
            self.links.append(names["href"])
        if names.get("src"):
            self.sources.append(names["src"])
        if tag not in ("br", "hr", "img", "meta", "wbr"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def check_html(text, *, whole_page=False, beside=()):
    """Read the text; of a whole page check inner links, too, and that nothing comes from elsewhere.

    ``beside`` are other pages that links may lead to.
    """
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert not reader.open
    assert len(reader.ids) == len(set(reader.ids))
    if whole_page:
        inner = [link for link in reader.links if link.partition("#")[0] not in beside]
        assert [link for link in inner if not link.startswith("#") or link[1:] not in reader.ids] == []
        assert all(source.startswith("data:") for source in reader.sources)
    return reader
