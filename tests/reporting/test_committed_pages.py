"""The committed pages: each stands alone, its links hold, it opens in a browser; and how the paper's page of a run is made anew."""

import json
import re
import shutil
from pathlib import Path

import pytest

from infoconflict.metrics import read_csv
from infoconflict.reporting.paper_tables import NOT_COMPUTED
from reports.paper.combine import combined, config_of, settings
from reports.paper_pages import main
from tests.reporting.browser import browser, needs_browser
from tests.reporting.well_formed import Reader, check_html

REPORTS = Path(__file__).parents[2] / "reports"
PAGES = sorted(page for name in ("index", "paper", "report") for page in REPORTS.glob(f"*/{name}.html"))
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPORTS)))


def targets_of_viewer(text):
    """Return the anchors that a report's viewer shows, which are no ids of the page."""
    found = re.search(r'id="provenance-data">(.*?)</script>', text, flags=re.DOTALL)
    if not found:
        return set()
    data = json.loads(found[1])
    # A page from before cells had names counts them.
    cells = data.get("names", range(len(data["cells"])))
    return {f"cell-{cell}" for cell in cells} | {f"card-{number}" for number in range(len(data["cards"]))}


def dead_links(text, folder):
    """Return the links of a page that lead nowhere: to no place on it, to no file beside it."""
    reader = Reader()
    reader.feed(text)
    there = {*reader.ids, *targets_of_viewer(text)}

    def holds(link):
        if link.startswith(("https://", "http://")):
            return True
        path, _, anchor = link.partition("#")
        return (folder / path).is_file() if path else anchor in there

    return [link for link in reader.links if not holds(link)]


def test_there_are_pages():
    assert {page.name for page in PAGES} == {"index.html", "paper.html", "report.html"}


@each_page
def test_links_of_a_committed_page_hold(page):
    text = page.read_text()
    assert dead_links(text, page.parent) == []
    reader = check_html(text)
    assert all(source.startswith("data:") for source in reader.sources)


def test_the_page_of_all_runs_says_why_a_claim_does_not_hold():
    """Claims that fail, and our goals where they are missed; each has its reason from the folder's config.yaml."""
    text = (REPORTS / "paper" / "paper.html").read_text()
    claims = re.findall(r"<tr>.*?</tr>", text[: text.index('id="what-differs"')], flags=re.DOTALL)
    missed = [claim for claim in claims if "does not hold" in claim]
    assert missed
    assert [re.sub("<[^>]+>", " ", claim) for claim in missed if "Why:" not in claim] == []


def test_the_page_of_all_runs_is_of_one_setting():
    """The committed cells are what combine.py takes of the runs: each of one run, with the attack and rule of the page."""
    rows = read_csv(REPORTS / "paper" / "cells.csv")
    assert rows == combined("cells.csv")
    runs = {}
    for row in rows:
        runs.setdefault((row["dataset"], row["attack"], row["defense"]), set()).add(row["run"])
    assert all(len(of_cell) == 1 for of_cell in runs.values())
    # Ran with values of its own for each request, and with an older rule for t.
    assert not {"classification", "smol"} & runs["sst2", "memit", "none"]
    assert not {"classification", "smol"} & runs["sst2", "cba", "conflict_plus"]


@pytest.mark.parametrize(
    ("defense", "part", "change"),
    [
        ("none", "attacks", {"cba": {"method": "cba", "poisoning_rate": 0.2}}),
        ("internal", "merges", {"linear": {"method": "linear", "t": 0.6}}),
        ("conflict_plus", "choose_t", {"rule": "one_standard_error"}),
        ("control_merge_base_linear_auto", "choose_t", {"rule": "one_standard_error"}),
        ("external", "evidence", {"keywords_smollm2": {"branch": "construction"}}),
    ],
)
def test_another_setting_of_a_run_is_seen(defense, part, change):
    page = config_of("paper")
    cell = {"dataset": "sst2", "attack": "cba", "defense": defense}
    assert settings(page, cell) == settings({**page, "name": "other", "training": {}}, cell)
    assert settings(page, cell) != settings({**page, part: {**page[part], **change}}, cell)


def test_a_dead_link_is_found(tmp_path):
    (tmp_path / "there.csv").touch()
    data = json.dumps({"names": ["a/b"], "cells": [[]], "cards": [{}]})
    links = ("#here", "#cell-a/b", "#card-0", "there.csv", "https://example.org")
    dead = ["#gone", "#cell-a/c", "#card-1", "../paper/index.html", "../report/index.html#cell-a/b"]
    text = "".join(f'<a href="{link}"></a>' for link in (*links, *dead))
    text += f'<p id="here"></p><script id="provenance-data">{data}</script>'
    assert dead_links(text, tmp_path) == dead


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@needs_browser
@each_page
def test_a_committed_page_opens_without_an_error_or_a_request_and_its_links_hold(tab, page):
    tab.errors.clear()
    tab.requests.clear()
    tab.open(page)
    assert tab.run("document.querySelector('h1').textContent")
    assert tab.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    # What is no place on the page is shown by the viewer.
    broken = tab.run("""
      [...new Set([...document.querySelectorAll("a[href^='#']")].map((link) => link.getAttribute("href")))].filter((href) => {
        if (document.getElementById(href.slice(1))) return false;
        location.hash = href;
        dispatchEvent(new Event("hashchange"));
        return !document.getElementById("viewer")?.open;
      })""")
    assert broken == []
    assert tab.errors == []
    assert [url for url in tab.requests if not url.startswith("data:")] == [page.resolve().as_uri()]


def test_a_page_of_several_runs_names_them_and_leads_to_each(tmp_path):
    folder = tmp_path / "paper"
    folder.mkdir()
    for name in ("config.yaml", "cells.csv"):
        shutil.copy(REPORTS / "emotion" / name, folder)
    with (REPORTS / "emotion/cells.csv").open() as lines:
        head, *rows = lines.read().splitlines()
    (folder / "cells.csv").write_text("\n".join([f"{head},run", *(f"{row},emotion" for row in rows)]) + "\n")
    (tmp_path / "emotion").mkdir()
    (tmp_path / "emotion/README.md").touch()
    main(folder)
    text = (folder / "paper.html").read_text()
    assert "<title>Paper and ours: all runs</title>" in text
    assert dead_links(text, folder) == []
    assert text.count('href="../emotion/README.md"') > 10
    runs = {row["run"] for row in read_csv(folder / "table_2.csv") if row["status"] == "computed"}
    assert runs == {"emotion"}


def test_a_page_made_anew_has_what_was_not_computed_and_no_dead_link(tmp_path):
    for name in ("config.yaml", "cells.csv"):
        shutil.copy(REPORTS / "classification" / name, tmp_path)
    main(tmp_path)
    text = (tmp_path / "paper.html").read_text()
    assert dead_links(text, tmp_path) == []
    assert "alone</a>" not in text
    # LWP on Emotion was skipped as not computed.
    rows = [
        row for row in read_csv(tmp_path / "table_2.csv") if (row["model"], row["attack"]) == ("smollm2_135m", "lwp")
    ]
    assert {row["status"] for row in rows} == {NOT_COMPUTED}
    # Of hours nothing is said: they are in another file.
    hours = re.search(r'<table id="paper-table-9".*?</table>', text, flags=re.DOTALL)
    assert hours is not None
    assert "smollm2_135m" not in hours[0]
