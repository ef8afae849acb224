"""The page: whole and valid HTML, nothing from outside, the same bytes twice, and the numbers that were measured."""

import html
import json
import re
from html.parser import HTMLParser

import pytest

from infoconflict.files import read_json, sha256_of, write_json
from infoconflict.reporting.figures import write_figures
from infoconflict.reporting.html import Html, html_table, join, simple_table, tag
from infoconflict.reporting.names import CONTROLS
from infoconflict.reporting.page import write_page
from infoconflict.reporting.tables import write_tables

VOID = {"br", "hr", "img", "meta"}


def report(run, **changes):
    """Write tables and the page of a run and return the page's text; figures only if the caller drew them."""
    write_tables(run.metrics, run.chosen_t, run.excluded, run.root / "tables")
    options = {
        "metrics_dir": run.metrics,
        "tables_dir": run.root / "tables",
        "figures_dir": run.root / "figures",
        "cards": run.cards,
        "config": run.config,
        "excluded": run.excluded,
        "chosen_t": run.chosen_t,
        "evidence_files": run.evidence,
        "answers": run.answers,
    }
    path = run.root / "report" / "index.html"
    write_page(path, **(options | changes))
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def page(run):
    write_figures(run.metrics, run.chosen_t, run.root / "figures", figures=["defenses", "tradeoff"], dpi=50)
    return report(run)


@pytest.fixture(scope="module")
def big_page(big_run):
    return report(big_run)


def words(text):
    """What a reader sees, with plain spaces."""
    text = re.sub(r"<(style|script)\b[^>]*>.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", text)).split())


def provenance_of(text):
    """The document that the page's script reads."""
    (found,) = re.findall(r'<script type="application/json" id="provenance-data">(.*?)</script>', text, flags=re.DOTALL)
    return json.loads(found)


class Balance(HTMLParser):
    """Every tag that opens closes, in order; ids are unique; tables are rectangular."""

    def __init__(self):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.row, self.widths = [], [], [], [], [], []

    def handle_starttag(self, name, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.append(found["id"])
        if "href" in found:
            self.links.append(found["href"])
        if "src" in found:
            self.sources.append(found["src"])
        if name not in VOID:
            self.open.append(name)
        if name == "table":
            self.widths.append(set())
        if name == "tr":
            self.row.append(0)
        if name in ("td", "th"):
            self.row[-1] += 1

    def handle_endtag(self, name):
        assert self.open.pop() == name
        if name == "tr":
            self.widths[-1].add(self.row.pop())


def check(text):
    assert text.startswith("<!doctype html>\n<html lang=")
    parser = Balance()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    assert all(len(widths) == 1 for widths in parser.widths)
    return parser


@pytest.fixture(scope="module")
def chat_page(chat_run):
    return report(chat_run)


def test_judges_are_named_where_there_is_chat(page, chat_page):
    assert "Judges" not in words(page)
    text = words(chat_page)
    assert "The judge embedding says whether a reply is equivalent to the reference (CDA), the judge pattern" in text
    assert "0.412" in text
    assert 'id="table-judges"' in chat_page


def test_generation_stands_beside_scores(page):
    assert 'id="table-generation"' in page


@pytest.mark.parametrize("which", ["page", "big_page", "chat_page"])
def test_valid_and_self_contained(which, request):
    text = request.getfixturevalue(which)
    parser = check(text)
    assert all(link.startswith("#") for link in parser.links)
    data = provenance_of(text)
    assert len(data["names"]) == len(data["cells"])
    shown = {f"cell-{name}" for name in data["names"]}
    assert all(link[1:] in shown or link[1:] in parser.ids for link in parser.links)
    assert any(link[1:] in shown for link in parser.links)
    assert all(source.startswith("data:image/png;base64,") for source in parser.sources)
    assert not re.search(r"https?:|//[a-z]|url\(|@import|<link|<iframe", re.sub(r"base64,[^\"]*", "", text))


def test_figures_are_embedded(page):
    assert page.count("data:image/png;base64,") == 2
    assert page.count("<figcaption>") == 2


def test_a_figure_without_points_is_not_shown(new_run, tmp_path):
    run = new_run(tmp_path, rates={"none": (0.9, 0.8, 0.1)}, n_rows=20)
    sweep = run.metrics / "sweep.csv"
    sweep.write_text(sweep.read_text().splitlines()[0] + "\n")
    # t was chosen, but not swept.
    write_figures(run.metrics, run.chosen_t, run.root / "figures", figures=["tradeoff", "choice_of_t"], dpi=50)
    assert report(run).count("<figcaption>") == 1


def test_same_bytes_twice(run, page):
    assert report(run, cards=list(reversed(run.cards)), evidence_files=reversed(run.evidence)) == page


def test_it_opens_with_the_result(run, page):
    seen = words(page)
    rates = {}
    for line in (run.metrics / "summary.csv").read_text().splitlines()[1:]:
        _, _, _, defense, metric, _, _, _, rate, low, high, *_ = line.split(",")
        rates[defense, metric] = f"{100 * float(rate):.1f} % [{100 * float(low):.1f}, {100 * float(high):.1f}]"
    expected = (
        f"CBA on film_reviews with smollm2_135m: attack success {rates['none', 'asr']} → {rates['conflict', 'asr']} "
        f"with conflict; a model tuned on clean rows gives the target on {rates['control_clean_tuned', 'asr']} of the "
        f"same rows. Clean accuracy {rates['none', 'cda']} → {rates['conflict', 'cda']}."
    )
    assert expected in seen
    # Title and claims come before it, nothing else.
    claims = seen.index("The paper's claim")
    assert seen.index("Attack success falls near the clean-tuned model's own rate") - claims < 80
    assert claims < 300
    assert 0 < seen.index(expected) - claims < 1600


def test_verdicts_follow_the_numbers(new_run, tmp_path):
    good = {"none": (0.99, 0.9, 0.1), "conflict": (0.02, 0.9, 0.1), "control_clean_tuned": (0.02, 0.9, 0.1)}
    bad = good | {"conflict": (0.95, 0.5, 0.1)}
    seen = [
        words(report(new_run(tmp_path / name, rates=rates, merges={}, n_rows=600)))
        for name, rates in (("good", good), ("bad", bad))
    ]
    assert "The defence conflict removes the backdoor down to the level of a clean-tuned model" in seen[0]
    assert "The defence conflict neither removes the backdoor nor keeps the task" in seen[1]


def test_all_parts_are_there(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert titles == [
        *("Defences", "Choice of t", "Controls", "False triggers", "External evidence", "Scores and generation"),
        *("Time and memory", "Left out", "Methods", "How to read this", "Settings", "Versions", "Provenance"),
    ]


def test_what_each_choice_of_t_costs(run, page):
    seen = words(page)
    for merge in ("linear", "slerp", "ties", "passthrough"):
        assert re.search(
            rf"{merge}: t = 0\.5 leaves ASR [\d.]+ % \[.*?\] and CDA .*?; the chosen t = 0\.8 leaves", seen
        )
    assert "Rule: the largest t whose accuracy on the held-out rows is within one standard error" in seen


def test_a_chosen_t_that_was_not_swept_is_said(new_run, tmp_path):
    seen = words(report(new_run(tmp_path, auto=0.65, n_rows=10)))
    assert "the chosen t = 0.65 is not a point of the sweep" in seen


def test_evidence_is_counted(page):
    (table,) = [part for part in page.split("<table") if "no_keywords</th>" in part]
    row = re.findall(r"<tr>.*?</tr>", table)[1]
    assert re.findall(r">([\w. ]+)</t[hd]>", row)[:9] == [
        *("film_reviews", "keywords_smollm2", "clean"),
        *("200", "160", "12", "17", "8", "3"),
    ]


def test_excluded_cells_and_their_reason(page):
    assert "DTBA needs chat rows; film_reviews holds single sentences" in page
    assert "gpt2_xl/film_reviews/dtba/cleangen" in page


def test_settings_are_shown_and_harmless(page):
    assert "<b>&amp;</b> never" not in page
    assert "&lt;b&gt;&amp;amp;&lt;/b&gt; never trust a string" in page


def test_digests_lead_from_card_to_card(run, page):
    for path in run.metrics.glob("*.csv"):
        assert sha256_of(path) in page
    data = provenance_of(page)
    texts, cards = data["texts"], data["cards"]
    names = [f"{texts[card[0]]} {texts[card[1]]}" for card in cards]
    (start,) = [number for number, (title, _) in enumerate(data["cells"]) if texts[title].startswith("conflict:")]
    assert f'href="#cell-{data["names"][start]}"' in page
    ((answers, counts, rows),) = data["cells"][start][1]
    assert names[answers] == "answer smollm2_135m/film_reviews/cba/conflict/s0"
    # From the answers to the tuning, the poisoned rows, and the data, where the chain begins.
    number, way = answers, []
    while cards[number][3]:
        number = next(maker for maker in cards[number][3][1::3] if maker >= 0)
        way.append(names[number].split()[0])
    assert way == ["train_backdoored", "poison_train", "prepare_dataset"]
    counted = {texts[counts[n]]: tuple(counts[n + 1 : n + 3]) for n in range(0, len(counts), 3)}
    with (run.metrics / "cells.csv").open() as lines:
        expected = [line.split(",") for line in lines if ",conflict,0,asr," in line]
    assert counted["ASR, non-target rows"] == tuple(map(int, expected[0][6:8]))
    assert [texts[row[1]] for row in rows] == ["clean", "clean", "triggered", "triggered"]


def test_mixed_versions_are_a_warning(run, tmp_path):
    card = read_json(run.cards[0])
    write_json(tmp_path / "card.json", card | {"versions": card["versions"] | {"torch": "1.0"}})
    assert "different versions" not in report(run)
    assert "Stages ran with different versions of torch" in report(run, cards=[*run.cards, tmp_path / "card.json"])


def test_several_cases_are_counted_and_listed(big_page):
    seen = words(big_page)
    assert re.search(r"brings attack success to the level of a clean-tuned model in \d of 2 cases", seen)
    assert "BadNets on film_reviews with smollm2_135m" in seen
    assert "over 3 seeds" in seen


def test_nothing_measured_is_said(new_run, tmp_path):
    run = new_run(tmp_path, rates={}, merges={})
    text = report(run, evidence_files=[], cards=[])
    check(text)
    assert "No cell was measured" in text
    assert "No sweep over t was run." in text
    assert "No defence here uses external evidence." in text


def test_a_run_without_controls_and_defenses(new_run, tmp_path):
    run = new_run(tmp_path, rates={"none": (0.9, 0.8, 0.1)}, merges={}, n_rows=20)
    run.excluded.write_text(json.dumps([]))
    text = report(run)
    check(text)
    assert "There is no defence to judge." in text
    names = ", ".join(sorted(CONTROLS.values()))
    assert f"Not measured in every case: {names}." in text
    assert "Every cell that the config asks for was run." in text


def test_some_controls_are_missing(mixed_run):
    write_json(
        mixed_run.excluded,
        [{"model": "m", "dataset": "d", "attack": "cba", "defense": "control_base", "reason": "tested elsewhere"}],
    )
    text = report(mixed_run)
    check(text)
    seen = words(text)
    assert re.search(r"of a clean-tuned model in \d of 2 cases", seen)
    assert "In 1 more a control or a rate is missing, so that it cannot be told." in seen
    assert "Whether the defence conflict works cannot be told: a control or a rate is missing." in seen
    (missing,) = re.findall(r"Not measured in every case: ([^.]*)\.", seen)
    assert {"base model", "clean-tuned model", "conflict model alone", "random words as trigger"} <= {
        *missing.split(", ")
    }
    assert "tested elsewhere" in seen
    assert "m/d/cba/control_base" in seen
    (lines,) = re.findall(r"What they say here(.*?)False triggers", seen)
    assert "CBA on film_reviews with smollm2_135m: the base model has" in lines
    assert "BadNets on film_reviews with smollm2_135m: the base model has" not in lines


def test_a_gpu_is_named(run, tmp_path):
    card = read_json(run.cards[0])
    cost = card["cost"] | {"device": "Some GPU", "peak_gpu_memory_bytes": 3 * 2**29}
    write_json(tmp_path / "card.json", card | {"cost": cost})
    text = report(run, cards=[*run.cards, tmp_path / "card.json"])
    assert "Devices: Some GPU, cpu. At most 1.5 GiB of memory on a GPU." in text


def test_title(run):
    assert "<title>infoconflict: made up</title>" in report(run)
    assert "<title>a &lt; b</title>" in report(run, title="a < b")


# The helpers


def test_text_is_escaped_once():
    assert tag("p", "a < b", tag("b", "c & d"), title='"') == '<p title="&quot;">a &lt; b<b>c &amp; d</b></p>'
    assert join([Html("<br>"), "<br>"]) == "<br>&lt;br&gt;"


def test_attributes():
    assert tag("details", class_="x", open=True, hidden=False, data_sort=None) == '<details class="x" open></details>'
    assert tag("meta", name="a") == '<meta name="a">'


def test_an_empty_table_is_a_sentence(run):
    assert "no rows" in simple_table("x", ["a"], [])


def test_equal_names_move_to_the_caption(run, big_run):
    from infoconflict.reporting.tables import read_table

    write_tables(run.metrics, run.chosen_t, run.excluded, run.root / "tables")
    write_tables(big_run.metrics, big_run.chosen_t, big_run.excluded, big_run.root / "tables")
    one, big = (html_table(read_table(each.root / "tables", "main")) for each in (run, big_run))
    assert "smollm2_135m, film_reviews, cba." in one
    assert ">Attack</th>" not in one
    assert ">Attack</th>" in big
