"""The page in a real browser, from a file: it opens without an error, sorts, leads from a number to its sources, fits a phone."""

import os
import re

import pytest

from infoconflict.reporting.figures import write_figures
from infoconflict.reporting.page import write_page
from infoconflict.reporting.tables import write_tables
from tests.reporting.browser import PROGRAMS, browser, program

# Under CI a browser that is not there is a failure, elsewhere a reason to skip.
pytestmark = pytest.mark.skipif(
    program() is None and not os.environ.get("CI"),
    reason=f"none of {', '.join(PROGRAMS)} is installed; on Debian: apt-get install chromium",
)
PHONE = 360


@pytest.fixture(scope="module")
def report(big_run):
    """The page of two cases with three seeds, with figures."""
    run, root = big_run, big_run.root / "in_browser"
    write_figures(run.metrics, run.chosen_t, root / "figures", figures=["defenses"], dpi=60)
    write_tables(run.metrics, run.chosen_t, run.excluded, root / "tables")
    write_page(
        root / "index.html",
        metrics_dir=run.metrics,
        tables_dir=root / "tables",
        figures_dir=root / "figures",
        cards=run.cards,
        config=run.config,
        excluded=run.excluded,
        chosen_t=run.chosen_t,
        evidence_files=run.evidence,
        answers=run.answers,
    )
    return root / "index.html"


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(tab, report):
    tab.errors.clear()
    tab.requests.clear()
    tab.open(report)
    return tab


def test_it_opens_without_an_error_or_a_request(page):
    assert page.run("document.querySelector('h1').textContent") == "infoconflict: made up"
    assert page.run("document.querySelector('main table').id") == "table-claims"
    assert page.errors == []
    # The page itself, and pictures that it holds.
    assert {re.sub(r":.*", "", url) for url in page.requests} <= {"file", "data"}
    assert sum(url.startswith("file:") for url in page.requests) == 1
    assert page.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_every_link_holds(page):
    broken = page.run("""
      [...document.querySelectorAll("a[href]")].map((link) => link.getAttribute("href")).filter((href) => {
        if (!href.startsWith("#")) return true;
        if (document.getElementById(href.slice(1))) return false;
        location.hash = href;
        return !/^#(cell|card)-\\d+$/.test(href);
      })""")
    assert broken == []


def test_every_card_and_cell_can_be_shown(page):
    shown = page.run("""
      (async () => {
        const data = JSON.parse(document.getElementById("provenance-data").textContent), bad = [];
        for (const [kind, all] of [["cell", data.cells], ["card", data.cards]])
          for (const number of all.keys()) {
            location.hash = `#${kind}-${number}`;
            await new Promise((done) => addEventListener("hashchange", done, {once: true}));
            const links = [...viewer.querySelectorAll("a")].map((link) => link.getAttribute("href"));
            if (!viewer.open || !links.every((href) => /^#card-\\d+$/.test(href))) bad.push(location.hash);
          }
        return bad;
      })()""")
    assert shown == []
    assert page.errors == []


def column(page, number):
    return page.run(
        f"[...document.querySelector('#table-main').tBodies[0].rows].map((row) => row.cells[{number}].dataset.sort)"
    )


def test_sorting_by_hand_and_by_key(page):
    number = page.run(
        "[...document.querySelector('#table-main').tHead.rows[0].cells].findIndex((cell) => cell.textContent === 'ASR')"
    )
    before = [float(text) for text in column(page, number)]
    button = f"#table-main thead th:nth-child({number + 1}) button"
    page.click(button)
    assert [float(text) for text in column(page, number)] == sorted(before) != before
    assert page.run(f"document.querySelector('{button}').parentNode.ariaSort") == "ascending"
    page.run(f"document.querySelector('{button}').focus()")
    page.press("Enter")
    assert [float(text) for text in column(page, number)] == sorted(before, reverse=True)


def test_from_a_number_to_its_sources_in_clicks(page):
    cell = "#table-main tbody tr:last-child a.cell"
    page.click(cell)
    page.wait("document.getElementById('viewer').open")
    title = page.run("document.getElementById('viewer-title').textContent")
    assert title.startswith("clean-tuned model: CBA on film_reviews")
    # Three seeds, each with counts; first rows once.
    assert page.run("viewer.querySelectorAll('section').length") == 3
    assert "ASR, non-target rows" in page.run("viewer.textContent")
    assert page.run("viewer.querySelectorAll('section:first-of-type table:last-of-type tbody tr').length") >= 4
    page.click("#viewer section a[href^='#card-']")
    page.wait("document.getElementById('viewer-title').textContent.startsWith('answer ')")
    way = []
    while page.run("viewer.querySelector('dl a') !== null"):
        before = page.run("location.hash")
        page.click("#viewer dl a")
        page.wait(f"location.hash !== '{before}'")
        page.wait("viewer.querySelector('h2') !== null")
        way.append(page.run("document.getElementById('viewer-title').textContent.split(' ')[0]"))
    assert way == ["train_backdoored", "poison_train", "prepare_dataset"]
    page.click("#viewer header button")
    page.wait("document.getElementById('viewer-title').textContent.startsWith('poison_train')")
    page.press("Escape")
    page.wait("!document.getElementById('viewer').open")
    assert page.errors == []


def test_cards_are_found_by_words(page):
    hits = page.run("""
      (() => {
        const field = document.getElementById("card-search");
        field.value = "train_conflict s2";
        field.dispatchEvent(new Event("input"));
        return [...document.querySelectorAll("#card-list li")].map((item) => item.textContent);
      })()""")
    # Once for each case: the made-up run has its cards twice.
    assert set(hits) == {"train_conflict smollm2_135m/film_reviews/s2"}


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_without_scrolling_the_page_sideways(page, report, dark):
    page.open(report, width=PHONE, height=740, dark=dark)
    page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert page.run("document.documentElement.scrollWidth") <= PHONE
    page.click("#table-main a.cell")
    page.wait("document.getElementById('viewer').open")
    assert page.run("viewer.scrollWidth <= viewer.clientWidth")
    page.click("#viewer section a[href^='#card-']")
    page.wait("document.getElementById('viewer-title').textContent.startsWith('answer ')")
    assert page.run("viewer.scrollWidth <= viewer.clientWidth")
    assert page.run("document.documentElement.scrollWidth") <= PHONE


def test_printing_opens_every_case(page):
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("[...document.querySelectorAll('details.case')].every((part) => part.open)")
    assert len(page.call("Page.printToPDF")["data"]) > 10_000
