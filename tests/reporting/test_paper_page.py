"""Claims, figures and the page "paper and ours", on made-up metric files."""

import re
from dataclasses import replace

import pytest
from pydantic import ValidationError

from infoconflict.config.evaluation import CLAIMS, PaperNames
from infoconflict.field_texts import field_texts
from infoconflict.metrics import CELL_COLUMNS, read_csv, write_csv
from infoconflict.reporting.page_words import cell_anchor
from infoconflict.reporting.paper_cells import Roles
from infoconflict.reporting.paper_claims import claims_of
from infoconflict.reporting.paper_figures import direct_accuracy, share_curves, write_paper_figure
from infoconflict.reporting.paper_links import REPORT, standing_alone
from infoconflict.reporting.paper_measures import COST_COLUMNS, Measured, read_measured
from infoconflict.reporting.paper_page import write_paper_page
from infoconflict.reporting.paper_tables import build_table
from tests.reporting.paper_made_up import ROLES, make_paper_run, rate_fields
from tests.reporting.well_formed import check_html

CONFIG = {
    "name": "made <b>up</b>",
    "models": {"gpt2_xl": {"repo": "openai-community/gpt2-xl"}, "smollm2_135m": {"package": "smollm2_135m_instruct"}},
    "datasets": {"sst2": {"repo": "stanfordnlp/sst2"}},
    "clean_share": {"share": 0.1},
    "defenses": {"conflict": {"method": "conflict", "merge": "linear"}},
    "merges": {"linear": {"method": "linear", "t": 0.5}},
    "evidence": {"words": {"provider": {"kind": "recorded"}}},
    "evaluation": {"judge": {"kind": "exact"}, "payload_judge": {"kind": "pattern"}},
}
EMPTY = Measured(cells={}, costs={})
# The pages that the page leads to.
BESIDE = (REPORT, *(f"table_{number}.html" for number in range(1, 10)))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    files = make_paper_run(tmp_path_factory.mktemp("paper"))
    extra = {name: files[name] for name in ("clean_share", "direct", "role_swap")}
    return read_measured([files["cells"]], [files["costs"]], confidence=0.95, **extra)


@pytest.fixture(scope="module")
def figures(measured, tmp_path_factory):
    folder = tmp_path_factory.mktemp("figures")
    for name in ("figure_3", "figure_4"):
        paths = {kind: folder / f"{name}.{kind}" for kind in ("pdf", "png", "csv")}
        write_paper_figure(name, measured, ROLES, **paths, dpi=60)
    return folder


def claims(measured, roles=ROLES):
    return claims_of({number: build_table(number, measured, roles) for number in range(1, 10)}, measured, roles)


def of(found, words):
    return next(claim for claim in found if words in claim.text and words)


def test_the_papers_own_numbers_decide_its_side():
    found = claims(EMPTY, Roles())
    assert {claim.verdict for claim in found} == {"not measured"}
    assert all("mean 2.4 %" in claim.paper for claim in found if claim.id == "lowest_sst2")
    counts = {claim.where: claim.paper for claim in found if claim.paper.startswith("in ") and ";" not in claim.paper}
    assert counts == {
        "Abstract, Table 1": "in 6 of 20",
        "Abstract, Table 2": "in 8 of 20",
        "Abstract, Table 3": "in 10 of 12",
        "Section 5.2, Table 4": "in 33 of 40",
        "Section 5.2, Table 5": "in 10 of 12",
        "Section 5.3, Table 8": "in 43 of 52",
        "Section 5.5, Table 9": "in 75 of 180",
    }
    lowest = [claim for claim in found if "lowest mean" in claim.text]
    assert [claim.paper_holds for claim in lowest] == [True] * 3
    kept = [claim for claim in found if "In almost all cases" in claim.text]
    assert [claim.where for claim in kept] == [f"Section 5.1, Table {number}" for number in (1, 2, 3)]
    # By hand from Tables 1 to 3; the most is 91.66 to 88.70, BadEdit on Emotion with LLaMA.
    assert [claim.paper.split(";")[0] for claim in kept] == ["in 20 of 20", "in 20 of 20", "in 12 of 12"]
    assert "less than 3 points" in kept[0].text
    assert "ours" in kept[0].text


def test_claims_of_a_run_with_clear_rates(measured):
    found = claims(measured)
    # Editing was not tried with one of the models.
    assert of(found, "lowest mean attack success on SST-2").verdict == "met, not certain"
    assert of(found, "lowest mean attack success on chat").verdict == "met, not certain"
    assert of(found, "is 90 % or more on Emotion").verdict == "missed"
    assert of(found, "adaptive").verdict == "met"
    assert of(found, "merge methods").verdict == "missed"
    assert of(found, "keeps what each parent").verdict == "met"
    assert of(found, "roles exchanged").verdict == "met"
    assert of(found, "half an hour").verdict == "met, not certain"
    assert of(found, "half an hour").rows == "90 pairs"
    assert of(found, "More clean data").verdict == "met"
    assert of(found, "More clean data").ours.startswith("conflict against cba on emotion with smollm2_135m: ")
    assert of(found, "external model that gives it evidence, on Emotion").verdict == "met"


def run_of(tmp_path, rates, rows=200):
    """Measured from (defense: (asr hits, cda hits)) of one case of Table 1."""
    lines = [
        ["gpt2_xl", "sst2", "cba", defense, "0", metric, *rate_fields(count, rows)]
        for defense, both in rates.items()
        for metric, count in zip(("asr", "cda"), both, strict=True)
    ]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, lines)
    return read_measured([tmp_path / "cells.csv"], confidence=0.95)


def all_against(conflict, nad):
    others = ("editing", "wanda", "ft_full", "fine_pruning", "speculative", "beear")
    return {
        "none": (190, 180),
        "conflict": (conflict, 180),
        "nad": (nad, 180),
        **dict.fromkeys(others, (190, 180)),
    }


@pytest.mark.parametrize(
    ("conflict", "nad", "verdict"),
    [(2, 60, "met"), (10, 12, "met, not certain"), (12, 10, "missed, not certain"), (60, 2, "missed")],
)
def test_a_lowest_mean_is_certain_only_beyond_the_interval(tmp_path, conflict, nad, verdict):
    claim = of(claims(run_of(tmp_path, all_against(conflict, nad))), "lowest mean attack success on SST-2")
    assert claim.verdict == verdict
    assert "against 7 of 7 baselines, the best of them nad" in claim.ours
    # The run has one model of the paper, which has five rows.
    assert claim.rows == "1 of 5"


@pytest.mark.parametrize(("conflict", "nad", "verdict"), [(2, 60, "met, not certain"), (60, 2, "missed")])
def test_one_baseline_refutes_a_lowest_mean_but_does_not_prove_it(tmp_path, conflict, nad, verdict):
    rates = {"none": (190, 180), "conflict": (conflict, 180), "nad": (nad, 180)}
    claim = of(claims(run_of(tmp_path, rates)), "lowest mean attack success on SST-2")
    assert claim.verdict == verdict
    assert "against 1 of 7 baselines" in claim.ours


def test_a_baseline_that_is_better_in_some_rows_alone_refutes_nothing_for_certain(tmp_path):
    rates = {("cba", "conflict"): 60, ("cba", "nad"): 2, ("rome", "conflict"): 60}
    lines = [
        ["gpt2_xl", "sst2", attack, defense, "0", "asr", *rate_fields(hits, 200)]
        for (attack, defense), hits in rates.items()
    ]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, lines)
    measured = read_measured([tmp_path / "cells.csv"], confidence=0.95)
    assert of(claims(measured), "lowest mean attack success on SST-2").verdict == "missed, not certain"


def test_the_method_alone_beats_nobody(tmp_path):
    claim = of(
        claims(run_of(tmp_path, {"none": (190, 180), "conflict": (2, 180)})), "lowest mean attack success on SST-2"
    )
    assert claim.verdict == "not measured"
    assert "no other defense was computed" in claim.ours


@pytest.mark.parametrize(
    ("before", "after", "rows", "verdict"),
    [
        (180, 195, 200, "met"),
        (180, 176, 200, "met, not certain"),
        # Three points are not less than three points.
        (180, 174, 200, "missed, not certain"),
        (180, 120, 200, "missed"),
    ],
)
def test_accuracy_is_kept_within_three_points(tmp_path, before, after, rows, verdict):
    found = claims(run_of(tmp_path, {"none": (190, before), "conflict": (2, after)}, rows))
    assert of(found, "accuracy falls by less than 3 points on SST-2").verdict == verdict


@pytest.mark.parametrize(
    ("plus", "verdict"),
    [((10, 1780), "met"), ((55, 1780), "met, not certain"), ((200, 1780), "missed"), ((10, 1500), "missed")],
)
def test_a_further_defense_is_held_against_our_goal(tmp_path, plus, verdict):
    # The clean-tuned model: 1 % and 88 %.
    rates = {"none": (1900, 1700), "conflict_plus": plus, "control_clean_tuned": (20, 1760)}
    claim = of(claims(run_of(tmp_path, rates, 2000)), "conflict_plus on SST-2")
    assert claim.verdict == verdict
    assert (claim.is_goal, claim.where) == (True, "our goal, no claim of the paper")
    assert "at most 2 points above the clean-tuned model's own rate" in claim.text
    without = of(claims(run_of(tmp_path, {"conflict_plus": plus}, 2000)), "conflict_plus on SST-2")
    assert without.verdict == "not measured"


def test_what_is_more_than_before_was_gained(tmp_path):
    found = claims(run_of(tmp_path, {"none": (190, 170), "conflict": (2, 180)}))
    text = of(found, "accuracy falls by less than 3 points on SST-2").ours
    assert "85.0 → 90.0 %, gained 5.0 points [" in text
    assert "every row gained, the least 5.0 points" in text
    assert "lost" not in text


def test_a_loss_next_to_the_limit_has_two_decimals():
    kept = [claim for claim in claims(EMPTY) if claim.id == "accuracy_kept_emotion"]
    assert kept[0].paper.endswith("most lost in a row: 2.96 points")


def test_hours_of_a_small_model_say_nothing_of_the_papers(tmp_path):
    lines = [
        [model, "emotion", "cba", defense, "0", "answer", str(seconds), "1", "0", "", "", "cpu"]
        for model in ("smollm2_135m", "my_llama")
        for defense, seconds in (("wanda", 60), ("conflict", 120))
    ]

    def claim(rows):
        write_csv(tmp_path / "costs.csv", COST_COLUMNS, rows)
        return of(claims(read_measured([], [tmp_path / "costs.csv"], confidence=0.95)), "half an hour")

    small = claim(lines[:2])
    assert (small.verdict, small.rows) == ("not measured", "0 pairs")
    assert small.ours.startswith("cannot be told from smollm2_135m")
    both = claim(lines)
    assert (both.verdict, both.rows) == ("met, not certain", "1 pairs")
    assert both.ours.startswith("with LLaMA-7B: in 1 of 1")
    assert "against 1 of 8 baselines" in both.ours


def test_the_adaptive_attack_on_other_data_counts_and_is_marked(tmp_path):
    lines = [
        ["smollm2_135m", dataset, "adaptive_cba", defense, "0", metric, *rate_fields(hits, 200)]
        for dataset, left in (("emotion", 4), ("sst2", 150))
        for defense, hits in (("none", 190), ("conflict", left))
        for metric in ("asr", "cda")
    ]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, lines)
    claim = of(claims(read_measured([tmp_path / "cells.csv"], confidence=0.95)), "adaptive")
    assert (claim.verdict, claim.rows) == ("missed", "2 of 2")
    assert "1 on sst2, other data than the paper's" in claim.ours


def test_reasons_stand_below_their_claims(tmp_path):
    measured = run_of(tmp_path, {"none": (190, 180), "conflict": (2, 180)})
    config = {"name": "x", "paper": {"reasons": {"accuracy_above_sst2": "The model is small."}}}
    write_paper_page(tmp_path / "page.html", measured=measured, roles=ROLES, config=config, figures={})
    text = (tmp_path / "page.html").read_text()
    check_html(text, whole_page=True, beside=BESIDE)
    assert text.count("Why: The model is small.") == 1
    assert text.index("or more on SST-2") < text.index("Why: ") < text.index("or more on Emotion")


def test_reasons_are_for_the_pages_claims():
    assert [claim.id for claim in claims(EMPTY)] == list(CLAIMS)
    assert PaperNames(further_defenses=["mine"], reasons={"goal_mine_chat": "x"}).reasons
    with pytest.raises(
        ValidationError, match="reasons has 'accuracy_above_sst', which is no claim; did you mean 'accuracy_above_"
    ):
        PaperNames(reasons={"accuracy_above_sst": "x"})


def test_the_configs_help_names_every_claim():
    text = field_texts(PaperNames)["reasons"]
    for claim in claims(EMPTY):
        name = claim.id
        for dataset in ("sst2", "emotion", "chat"):
            if name.startswith(("lowest", "accuracy")):
                name = name.removesuffix(dataset)
        assert f"`{name}`" in text, claim.id


def test_an_adaptive_attack_that_does_not_work_tells_nothing(tmp_path):
    lines = [
        ["gpt2_xl", "emotion", "adaptive_cba", defense, "0", metric, *rate_fields(10, 200)]
        for defense in ("none", "conflict")
        for metric in ("asr", "cda")
    ]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, lines)
    claim = of(claims(read_measured([tmp_path / "cells.csv"], confidence=0.95)), "adaptive")
    assert claim.verdict == "not measured"
    assert "does not work" in claim.ours


def test_figures_have_their_points_beside_them(figures, measured):
    for name in ("figure_3", "figure_4"):
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
        assert (figures / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    curve = read_csv(figures / "figure_3.csv")
    assert [row["share"] for row in curve if row["metric"] == "asr"][:4] == ["0.05", "0.1", "0.5", "1"]
    assert len(curve) == 4 * 4 * 2
    who = [row["who"] for row in read_csv(figures / "figure_4.csv")]
    assert (who.count("external"), who.count("method")) == (2, 14 + 9)
    # Two runs of 200 rows are pooled.
    assert direct_accuracy(measured, ROLES)["gpt35", "emotion"].rate.total == 400
    assert share_curves(measured)["my_llama", "emotion", "cba", "conflict"][0.05]["asr"].rate.hits == 60


def test_figures_without_a_run_say_so(tmp_path):
    paths = {kind: tmp_path / f"f.{kind}" for kind in ("pdf", "png", "csv")}
    for name in ("figure_3", "figure_4"):
        write_paper_figure(name, EMPTY, Roles(), **paths, dpi=60)
        assert read_csv(paths["csv"]) == []


def test_the_page_is_one_whole_file_that_opens_with_the_claims(measured, figures, tmp_path):
    page = tmp_path / "index.html"
    pictures = {name: figures / f"{name}.png" for name in ("figure_3", "figure_4")}
    write_paper_page(page, measured=measured, roles=ROLES, config=CONFIG, figures=pictures)
    text = page.read_text()
    reader = check_html(text, whole_page=True, beside=BESIDE)
    assert text.index("table-claims") < text.index("paper-table-1")
    assert [name for name in reader.ids if name.startswith("paper-table-")] == [
        f"paper-table-{n}" for n in range(1, 10)
    ]
    assert len(reader.sources) == 2
    assert "made &lt;b&gt;up&lt;/b&gt;" in text
    assert "openai-community/gpt2-xl, the paper&#x27;s GPT2-XL" in text
    assert "not in the paper" in text
    assert "▲" in text
    assert "▼" in text
    assert "does not say whether in points or" in text
    assert "over 3 seeds" in text
    again = tmp_path / "again.html"
    write_paper_page(again, measured=measured, roles=ROLES, config=CONFIG, figures=pictures)
    assert again.read_bytes() == page.read_bytes()


def test_one_seed_has_counts(tmp_path):
    write_paper_page(
        tmp_path / "page.html",
        measured=run_of(tmp_path, {"none": (190, 180), "conflict": (2, 180)}),
        roles=ROLES,
        config=CONFIG,
        figures={},
    )
    text = (tmp_path / "page.html").read_text()
    assert ">2 of 200, 1 seed</a></td>" in text
    assert "over 3 seeds" not in text
    assert "section 4.2" in text
    # GPT2-XL's rows: 5 of Table 1, 5, 3, 10, 3, 1 of Table 7, 6 of Table 9; with the further column.
    places = 5 * 10 + 5 * 10 + 3 * 11 + 10 * 4 + 3 * 4 + 3 + 6 * 10
    assert f"4 of the {places} places" in text


def test_the_level_of_the_claims_intervals_is_the_configs(tmp_path):
    measured = replace(EMPTY, confidence=0.9)
    write_paper_page(tmp_path / "page.html", measured=measured, roles=Roles(), config={"name": "x"}, figures={})
    text = (tmp_path / "page.html").read_text().replace("\N{NO-BREAK SPACE}", " ")
    assert "with 90 % intervals" in text
    assert "95 %" not in text


def test_a_page_without_a_run_holds_the_papers_numbers_alone(tmp_path):
    page = tmp_path / "index.html"
    write_paper_page(page, measured=EMPTY, roles=Roles(), config={"name": "none"}, figures={})
    text = page.read_text()
    check_html(text, whole_page=True, beside=BESIDE)
    assert re.search(r"Of 19 claims of the paper, 0 can be told", text)
    assert "Figure 3: not computed" in text
    assert "paper 1.3" in text


def test_numbers_and_names_lead_into_the_report(tmp_path):
    page = tmp_path / "page.html"
    measured = run_of(tmp_path, {"none": (190, 180), "conflict": (2, 180)})
    config = CONFIG | {"grid": {"attacks": ["words"]}, "attacks": {"words": {"method": "cba"}}}
    write_paper_page(page, measured=measured, roles=ROLES, config=config, figures={})
    text = page.read_text()
    cell = {"model": "gpt2_xl", "dataset": "sst2", "attack": "cba"}
    for defense in ("none", "conflict"):
        link = f'class="cell" href="{REPORT}#{cell_anchor(cell | {"defense": defense})}"'
        # ASR and CDA in the tables 1 and 4, where the list of numbers has both again.
        assert sum(sorted(part.split()) == sorted(link.split()) for part in re.findall(r"<a ([^>]*)>", text)) >= 8
    assert f'href="{REPORT}#method-attacks-cba"' in text
    assert f'href="{REPORT}#method-defenses-conflict"' in text
    # What the run has no method of is plain text.
    assert "method-attacks-memit" not in text
    # A number that is printed only leads nowhere.
    assert f"{REPORT}#cell-gpt2_xl/sst2/rome" not in text


def test_the_page_leads_to_the_report_and_to_each_table_alone_or_nowhere(tmp_path):
    page = tmp_path / "page.html"
    measured = run_of(tmp_path, {"none": (190, 180), "conflict": (2, 180)})
    write_paper_page(page, measured=measured, roles=ROLES, config=CONFIG, figures={})
    links = check_html(page.read_text(), whole_page=True, beside=BESIDE).links
    assert {link: links.count(link) for link in BESIDE} == dict.fromkeys(BESIDE, 1)
    alone = standing_alone(page.read_text())
    left = check_html(alone, whole_page=True).links
    assert left == [link for link in links if link.startswith("#")]
    # Numbers and names stay, lines of links do not.
    assert ">2 of 200, 1 seed</td>" in alone
    assert "Table 1 alone" in page.read_text()
    assert "Table 1 alone" not in alone
    assert "The report of this run" not in alone
    assert standing_alone(alone) == alone


def page_text(tmp_path, measured, **options):
    given = {"roles": ROLES, "config": CONFIG, "figures": {}, **options}
    write_paper_page(tmp_path / "page.html", measured=measured, **given)
    return (tmp_path / "page.html").read_text().replace("\N{NO-BREAK SPACE}", " ")


def test_the_lead_tells_what_is_certain_from_what_is_not(tmp_path):
    rates = all_against(60, 2) | {"none": (190, 200)}
    lead = re.search(r'class="lead">(.*?)</p>', page_text(tmp_path, run_of(tmp_path, rates)))[1]
    # Lowest mean: refuted; 100 falls to 90 %: refuted; 90 % or more: just so.
    assert lead.startswith(
        "Of 19 claims of the paper, 3 can be told from what was computed: 1 holds but not for certain; 2 do not hold. "
    )


def test_the_line_of_merges_has_further_defenses_the_rule_for_t_and_the_profile(tmp_path):
    merges = CONFIG["merges"] | {
        "chosen": {"method": "slerp", "t": "auto"},
        "deep": {"method": "linear", "t": 1.0, "depth_profile": [0.0, 1.0, 0.5]},
    }
    defenses = CONFIG["defenses"] | {"conflict_plus": {"merge": "chosen"}, "conflict_deep": {"merge": "deep"}}
    config = CONFIG | {"merges": merges, "defenses": defenses, "choose_t": {"rule": "paired_test"}}
    roles = replace(ROLES, further=("conflict_plus", "conflict_deep"))
    text = page_text(tmp_path, EMPTY, roles=roles, config=config)
    assert (
        "conflict: linear, t = 0.5; conflict_plus: slerp, t chosen on clean rows; conflict_deep: linear, t = 1, times 0, 1, 0.5 "
        "from the first block to the last; chosen: the largest t that is not worse than the best"
    ) in text


def test_a_number_of_one_run_among_several_leads_to_that_run(tmp_path):
    lines = [["smollm2_135m", "sst2", "cba", "conflict", "0", "asr", *rate_fields(2, 200), "further"]]
    write_csv(tmp_path / "cells.csv", (*CELL_COLUMNS, "run"), lines)
    text = standing_alone(page_text(tmp_path, read_measured([tmp_path / "cells.csv"], confidence=0.95)))
    assert '2 of 200, 1 seed, <a href="../further/README.md">further</a></td>' in text
    assert "README.md" not in page_text(tmp_path, run_of(tmp_path, {"conflict": (2, 180)}))


@pytest.mark.parametrize(("cell", "told"), [(30, False), (50, True)])
def test_a_point_of_figure_3_that_is_another_draw_than_the_tables_cell_is_told(tmp_path, cell, told):
    lines = [["smollm2_135m", "emotion", "cba", "conflict", "0", "asr", *rate_fields(cell, 200)]]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, lines)
    cases = [("smollm2_135m", "emotion", "cba", share) for share in ("0.1", "0.5")]
    text = figure_3_caption(tmp_path, cases, [tmp_path / "cells.csv"])
    said = "ASR of conflict against CBA on emotion is 15.0\N{NO-BREAK SPACE}% here and 25.0\N{NO-BREAK SPACE}% in the tables"
    assert (said in text) == told
    assert ("another draw" in text) == told


def figure_3_caption(tmp_path, rows, cells=()):
    names = ("model", "dataset", "attack", "defense", "share", "seed", "metric", "hits", "total", "rate", "low", "high")
    lines = [[*case, "conflict", share, "0", "asr", *rate_fields(30, 200)] for *case, share in rows]
    write_csv(tmp_path / "curve.csv", names, lines)
    measured = read_measured(cells, confidence=0.95, clean_share=tmp_path / "curve.csv")
    (tmp_path / "figure_3.png").write_bytes(b"")
    figures = {"figure_3": tmp_path / "figure_3.png"}
    write_paper_page(tmp_path / "page.html", measured=measured, roles=ROLES, config=CONFIG, figures=figures)
    return re.search(r"<figcaption>(.*?)</figcaption>", (tmp_path / "page.html").read_text())[1]


@pytest.mark.parametrize(
    ("rows", "drawn"),
    [
        ([("my_llama", "emotion", "cba", "0.1")], True),
        ([("smollm2_135m", "talks", "dtba", "0.1")], True),
        # The paper's tables have neither this data set's curve nor this attack, and no other share.
        ([("my_llama", "sst2", "cba", "0.1")], False),
        ([("my_llama", "emotion", "badnets", "0.1")], False),
        ([("my_llama", "emotion", "cba", "0.5")], False),
    ],
)
def test_the_caption_of_figure_3_speaks_of_a_diamond_where_one_is_drawn(tmp_path, rows, drawn):
    assert ("diamond" in figure_3_caption(tmp_path, rows)) == drawn


def test_an_external_model_asked_on_sst_2_is_not_in_figure_4(tmp_path):
    # The paper's figure has Emotion and conversations only.
    names = ("direct", "dataset", "attack", "run", "seed", "metric", "hits", "total", "rate", "low", "high")
    write_csv(tmp_path / "direct.csv", names, [["gpt35", "sst2", "", "0", "0", "cda", *rate_fields(110, 200)]])
    measured = read_measured([], confidence=0.95, direct=tmp_path / "direct.csv")
    write_paper_figure(
        "figure_4", measured, ROLES, **{kind: tmp_path / f"f.{kind}" for kind in ("pdf", "png", "csv")}, dpi=60
    )
    assert read_csv(tmp_path / "f.csv") == []
