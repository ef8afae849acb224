"""The pages in a real browser, from a file: they open without an error, sort, lead to sources, fit a phone, print whole."""

import itertools
import re

import pytest

from infoconflict.reporting.figures import write_figures
from infoconflict.reporting.page import write_page
from infoconflict.reporting.paper_cells import Roles
from infoconflict.reporting.paper_figures import write_paper_figure
from infoconflict.reporting.paper_html import write_table_page
from infoconflict.reporting.paper_links import REPORT
from infoconflict.reporting.paper_measures import read_measured
from infoconflict.reporting.paper_page import write_paper_page
from infoconflict.reporting.paper_tables import build_table
from infoconflict.reporting.tables import write_tables
from tests.reporting.browser import browser, needs_browser
from tests.reporting.paper_made_up import ROLES, make_paper_run

pytestmark = needs_browser
PHONE = 360


@pytest.fixture(scope="module")
def report(big_run):
    """The page of two cases with three seeds, with figures."""
    run, root = big_run, big_run.root / "in_browser"
    write_figures(run.metrics, run.chosen_t, root / "figures", figures=["defenses"], dpi=60)
    write_tables(run.metrics, run.chosen_t, run.excluded, root / "tables")
    # Where the run has it, so that the paper's page finds it.
    page = root / "report/index.html"
    write_page(
        page,
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
    return page


@pytest.fixture(scope="module")
def paper_of_run(big_run, report):
    """The page "paper and ours" of the same run, beside its report."""
    roles = Roles(
        datasets={"film_reviews": "sst2"},
        attacks={"cba": "cba"},
        defenses={name: name for name in ("none", "internal", "external", "conflict")},
        merges={"conflict": "linear"},
    )
    page = report.parents[1] / "paper/index.html"
    measured = read_measured([big_run.metrics / "cells.csv"], confidence=0.95)
    write_paper_page(page, measured=measured, roles=roles, config=big_run.config, figures={})
    return page


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The page "paper and ours" with every table filled, and both figures; the page of Table 1 beside it."""
    root = tmp_path_factory.mktemp("paper")
    files = make_paper_run(root)
    extra = {name: files[name] for name in ("clean_share", "direct", "role_swap")}
    measured = read_measured([files["cells"]], [files["costs"]], confidence=0.95, **extra)
    figures = {name: root / f"{name}.png" for name in ("figure_3", "figure_4")}
    for name, png in figures.items():
        write_paper_figure(name, measured, ROLES, png=png, pdf=root / "f.pdf", csv=root / "f.csv", dpi=60)
    page = root / "index.html"
    write_paper_page(page, measured=measured, roles=ROLES, config=big_config(), figures=figures)
    write_table_page(root / "table_1.html", build_table(1, measured, ROLES))
    return page


def big_config():
    """A config whose report has a card of each method in the tables."""
    methods = {"conflict_plus": "conflict", "ft_full": "fine_tuning"}
    return {
        "name": "made up",
        "attacks": {name: {"method": name} for name in ROLES.attacks},
        "defenses": {
            name: {"method": methods.get(name, name)} for name in (*ROLES.defenses, "conflict_plus") if name != "none"
        },
        "merges": {name: {"method": name, "t": 0.5} for name in ("linear", "ties", "slerp")},
    }


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
        dispatchEvent(new Event("hashchange"));
        return !document.getElementById("viewer").open;
      })""")
    assert broken == []


def test_every_card_and_cell_can_be_shown(page):
    shown = page.run("""
      (async () => {
        const data = JSON.parse(document.getElementById("provenance-data").textContent), bad = [];
        for (const [kind, all] of [["cell", data.cells], ["card", data.cards]])
          for (const number of all.keys()) {
            location.hash = `#${kind}-${kind === "cell" ? data.names[number] : number}`;
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


def test_printing_opens_what_is_folded(page, report):
    page.open(report)
    folded = page.run("document.querySelectorAll('details:not([open])').length")
    assert page.run("document.querySelectorAll('details.method:not([open])').length") > 0
    page.run("dispatchEvent(new Event('beforeprint'))")
    assert page.run("document.querySelectorAll('details:not([open])').length") == 0
    page.run("dispatchEvent(new Event('afterprint'))")
    assert page.run("document.querySelectorAll('details:not([open])').length") == folded
    assert len(page.call("Page.printToPDF")["data"]) > 10_000


# The page "paper and ours"


@pytest.fixture
def paper_page(tab, paper):
    tab.errors.clear()
    tab.requests.clear()
    tab.open(paper)
    return tab


def test_the_paper_page_opens_without_an_error_or_a_request(paper_page):
    assert paper_page.run("document.querySelector('h1').textContent") == "Paper and ours: made up"
    assert paper_page.run("document.querySelector('main table').id") == "table-claims"
    assert paper_page.errors == []
    assert sum(url.startswith("file:") for url in paper_page.requests) == 1
    assert paper_page.run("[...document.images].every((image) => image.complete && image.naturalWidth > 0)")


def test_the_page_of_one_table_has_its_style_and_its_links(paper_page, paper):
    paper_page.open(paper.parent / "table_1.html")
    assert paper_page.run("getComputedStyle(document.querySelector('td.number')).textAlign") == "right"
    assert inner_links_that_lead_nowhere(paper_page) == []
    assert paper_page.run("document.querySelectorAll('a[href^=\"#inconsistency-\"]').length") > 0
    # The numbers in the list are those beside the cells.
    assert paper_page.run(
        "[...document.querySelectorAll('ol li')].every((item) => item.id === `inconsistency-${item.value}`)"
    )
    assert paper_page.errors == []


def inner_links_that_lead_nowhere(page):
    return page.run("""
      [...document.querySelectorAll("a[href^='#']")].map((link) => link.getAttribute("href"))
        .filter((href) => !document.getElementById(href.slice(1)))""")


def test_links_of_the_paper_page_hold(paper_page, paper_of_run, report):
    assert inner_links_that_lead_nowhere(paper_page) == []
    paper_page.open(paper_of_run)
    assert inner_links_that_lead_nowhere(paper_page) == []
    outside = set(
        paper_page.run("[...document.querySelectorAll('a:not([href^=\"#\"])')].map((a) => a.getAttribute('href'))")
    )
    tables = {f"table_{number}.html" for number in range(1, 10)}
    assert {link.partition("#")[0] for link in outside} == {REPORT, *tables}
    anchors = {link.partition("#")[2] for link in outside} - {""}
    assert {name for name in anchors if name.startswith("cell-")} == {
        f"cell-smollm2_135m/film_reviews/cba/{defense}" for defense in ("none", "internal", "external", "conflict")
    }
    assert "method-attacks-cba" in anchors
    # The report has each of them: a cell is shown, a method's card is folded out.
    for anchor in sorted(anchors):
        paper_page.call("Page.navigate", url="about:blank")
        paper_page.call("Page.navigate", url=f"{report.resolve().as_uri()}#{anchor}")
        shown = "document.getElementById('viewer')?.open"
        if anchor.startswith("method-"):
            shown = f"document.getElementById('{anchor}')?.open"
        paper_page.wait(f"document.readyState === 'complete' && location.protocol === 'file:' && {shown}")
    assert paper_page.errors == []


def test_from_the_papers_table_to_the_sources_in_clicks(paper_page, paper_of_run):
    paper_page.open(paper_of_run)
    paper_page.click("#paper-table-1 a[href$='/conflict']")
    paper_page.wait("document.getElementById('viewer')?.open === true")
    title = paper_page.run("document.getElementById('viewer-title').textContent")
    assert title == "conflict: CBA on film_reviews with smollm2_135m"
    paper_page.click("#viewer section a[href^='#card-']")
    paper_page.wait("document.getElementById('viewer-title').textContent.startsWith('answer ')")
    assert paper_page.errors == []


def sorted_column(page, table, number):
    """Sort a column in both directions; return the words and keys of its rows before, and after each."""
    rows = f"[...document.querySelector('{table}').tBodies[0].rows]"
    read = f"{rows}.map((row) => [row.dataset.group, row.cells[{number}].dataset.sort])"
    found = [page.run(read)]
    for _ in range(2):
        # As a hand does, where it can be seen: a list may be folded in.
        page.run(f"document.querySelector('{table}').closest('details')?.setAttribute('open', '')")
        page.click(f"{table} thead th:nth-child({number + 1}) button")
        found.append(page.run(read))
    return found


def test_the_papers_tables_are_sorted_within_a_metric(paper_page):
    # Editing, which one of the models lacks.
    number = 2
    before, up, down = sorted_column(paper_page, "#paper-table-1", number)
    assert not all(key for _, key in before)
    assert [name for name, _ in before[:4]] == ["asr", "cda", "asr", "cda"]
    for after, backwards in ((up, False), (down, True)):
        assert sorted(after) == sorted(before) != after
        assert [name for name, _ in itertools.groupby(after, key=lambda row: row[0])] == ["asr", "cda"]
        for metric in ("asr", "cda"):
            keys = [key for name, key in after if name == metric]
            # What was not computed comes last, whichever way.
            numbers = [float(key) for key in keys if key]
            assert keys[: len(numbers)] == [key for key in keys if key]
            assert numbers == sorted(numbers, reverse=backwards)
            assert len(set(numbers)) > 3


def test_differences_are_sorted_as_numbers(paper_page):
    table = "#table-1 details.case table"
    number = paper_page.run(
        f"[...document.querySelector('{table}').tHead.rows[0].cells].findIndex((cell) => cell.textContent === 'Difference')"
    )
    before, up, down = sorted_column(paper_page, table, number)
    # A defense that the paper does not have has no difference.
    numbers = [float(key) for _, key in before if key]
    assert min(numbers) < 0 < max(numbers)
    for after, backwards in ((up, False), (down, True)):
        for metric in ("ASR", "CDA"):
            keys = [float(key) for name, key in after if name == metric and key]
            assert keys == sorted(keys, reverse=backwards)


def test_a_column_that_leads_to_a_method_can_be_sorted(paper_page):
    head = "#paper-table-1 thead th:last-child"
    assert (
        paper_page.run(f"document.querySelector('{head} a').getAttribute('href')")
        == f"{REPORT}#method-defenses-conflict"
    )
    assert paper_page.run(f"document.querySelector('{head} button').ariaLabel") == "Sort by conflict"


def test_a_phone_shows_numbers_of_the_papers_tables_beside_their_rows(paper_page, paper):
    paper_page.open(paper, width=390, height=844)
    for table in ("#paper-table-1", "#paper-table-9"):
        shown = paper_page.run(f"""
          (() => {{
            const table = document.querySelector("{table}"), row = table.tBodies[0].rows[3];
            row.scrollIntoView({{block: "center", behavior: "instant"}});
            const inside = (cell) => {{
              const box = cell.getBoundingClientRect();
              return box.left >= 0 && box.right <= innerWidth && box.top >= 0 && box.bottom <= innerHeight;
            }};
            const found = [row.cells[0], table.tHead.rows[0].cells[0], table.tHead.rows[0].cells[1]].map(inside);
            return [...found, [...row.querySelectorAll("td.number")].filter(inside).length];
          }})()""")
        assert shown[:3] == [True] * 3
        assert shown[3] >= 1


def test_the_contents_stand_above_the_claims(paper_page):
    assert paper_page.run("""
      document.querySelector("nav").compareDocumentPosition(document.querySelector("#table-claims"))
        & Node.DOCUMENT_POSITION_FOLLOWING""")


def test_what_was_not_computed_is_not_printed(paper_page):
    paper_page.run("dispatchEvent(new Event('beforeprint'))")
    paper_page.call("Emulation.setEmulatedMedia", media="print")
    shown = paper_page.run("""
      [...document.querySelectorAll("details.not-computed")]
        .map((part) => [...part.children].filter((one) => one.offsetHeight).length)""")
    paper_page.call("Emulation.setEmulatedMedia", media="")
    # The line that says so.
    assert set(shown) == {1}


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_the_paper_page_without_scrolling_it_sideways(paper_page, paper, dark):
    for page in (paper, paper.parent / "table_1.html"):
        paper_page.open(page, width=PHONE, height=740, dark=dark)
        paper_page.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert paper_page.run("document.documentElement.scrollWidth") <= PHONE
    paper_page.open(paper, width=PHONE, height=740)
    # The claims stand one below the other, and say whose numbers follow.
    assert "Ours" in paper_page.run(
        "getComputedStyle(document.querySelector('#table-claims td.wide'), '::before').content"
    )
    assert paper_page.run("getComputedStyle(document.querySelector('#table-claims td')).display") == "block"
    assert paper_page.run(
        "(() => { const box = document.querySelector('#table-claims').parentNode; return box.scrollWidth <= box.clientWidth; })()"
    )


def test_printing_the_paper_page_opens_what_is_folded_and_cuts_nothing_off(paper_page, paper):
    # As wide as a sheet across, less its margins.
    paper_page.open(paper, width=1032)
    assert paper_page.run("document.querySelectorAll('details:not([open])').length") > 0
    paper_page.run("dispatchEvent(new Event('beforeprint'))")
    assert paper_page.run("document.querySelectorAll('details:not([open])').length") == 0
    paper_page.call("Emulation.setEmulatedMedia", media="print")
    wide = paper_page.run("""
      [...document.querySelectorAll("table")].filter((table) => table.getBoundingClientRect().right > innerWidth)
        .map((table) => table.caption.textContent.slice(0, 40))""")
    paper_page.call("Emulation.setEmulatedMedia", media="")
    assert wide == []
