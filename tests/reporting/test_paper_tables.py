"""The paper's tables beside ours: places, marks, and the three forms of each table."""

import re
from dataclasses import replace
from pathlib import Path

import matplotlib
import pytest
from matplotlib.ft2font import FT2Font

from infoconflict.metrics import CELL_COLUMNS, read_csv, write_csv
from infoconflict.reporting.paper_cells import COLUMNS, Roles
from infoconflict.reporting.paper_html import write_table_page
from infoconflict.reporting.paper_links import REPORT
from infoconflict.reporting.paper_measures import COST_COLUMNS, Measured, read_measured
from infoconflict.reporting.paper_tables import (
    NOT_COMPUTED,
    build_table,
    csv_fields,
    csv_rows,
    to_html,
    to_latex,
    write_paper_table,
)
from infoconflict.reporting.published import published
from tests.reporting.paper_made_up import ROLES, make_paper_run, rate_fields
from tests.reporting.well_formed import check_html

NUMBERS = range(1, 10)
NOTHING = Measured(cells={}, costs={})
# What stands behind the seconds of a line of costs.
REST = ("1.5", "0.000", "12000", "2.500", "cpu")


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    files = make_paper_run(tmp_path_factory.mktemp("paper"))
    extra = {name: files[name] for name in ("clean_share", "direct", "role_swap")}
    return read_measured([files["cells"]], [files["costs"]], confidence=0.95, **extra)


@pytest.fixture(scope="module")
def tables(measured):
    return {number: build_table(number, measured, ROLES) for number in NUMBERS}


@pytest.mark.parametrize("number", NUMBERS)
def test_without_a_run_every_printed_number_stands_there_and_none_of_ours(number):
    table = build_table(number, NOTHING, Roles())
    assert table.computed == 0
    rows = [dict(zip(csv_fields(table), row, strict=True)) for row in csv_rows(table)]
    assert {row["status"] for row in rows} == {NOT_COMPUTED}
    assert not any(row[name] for row in rows for name in ("value", "hits", "mean", "difference", "agreement", "best"))
    printed = sorted(value for place, found in published().items() if place.table == number for value in found.values())
    assert sorted(float(row["paper"]) for row in rows if row["paper"]) == pytest.approx(printed, abs=1e-6)
    assert NOT_COMPUTED in to_html(table)
    assert "n.c." in to_latex(table)


def test_a_place_has_ours_the_papers_and_the_difference(tables, measured):
    table = tables[1]
    entry = table.entry(("gpt2_xl", "sst2", "cba"), "conflict", "asr")
    ours = measured.cells["gpt2_xl", "sst2", "cba", "conflict"]["asr"]
    assert entry.ours == ours
    assert (ours.n_seeds, ours.rate.total) == (3, 600)
    assert entry.paper.value == 0.0126
    assert entry.difference == pytest.approx(ours.value - 0.0126)
    assert 1 in entry.notes
    assert table.entry(("gpt2_xl", "sst2", "cba"), "editing", "asr").ours is None
    # Our fine-tuning has another id.
    assert table.entry(("gpt2_xl", "sst2", "cba"), "fine_tuning", "cda").source == "ft_full"


def test_a_model_that_is_not_in_the_paper_has_the_notes_of_all_numbers_that_its_mean_is_of(tmp_path):
    table = made(tmp_path, [("smollm2_135m", "sst2", "cba", "wanda", 150)])
    entry = table.entry(("smollm2_135m", "sst2", "cba"), "wanda", "cda")
    # One of the four is the doubtful zero.
    assert (entry.paper.models, entry.paper.low) == (4, 0.0)
    assert 19 in entry.notes
    for found in table.entries.values():
        assert found.paper or not found.notes
    assert '<a href="#inconsistency-19">19</a>' in to_html(table)


def test_what_was_not_computed_at_all_is_folded_into_one_line(tmp_path):
    table = made(tmp_path, [("smollm2_135m", "sst2", "cba", "conflict", 2), ("gpt2_xl", "sst2", "rome", "conflict", 2)])
    text = to_html(table)
    assert "Nothing was computed of 19 of 21 rows (GPT2-XL 4, GPT-J-6B 5, LLaMA-7B 5, Llama-2-7B 5)" in text
    shown, _, folded = text.partition("<details")
    assert shown.count("<tr") == 1 + 2 * 2
    assert folded.count("<tr") == 1 + 2 * 19
    nothing = to_html(build_table(1, NOTHING, Roles()))
    assert nothing.startswith("<details")
    assert 'id="paper-table-1"' in nothing


def test_the_run_of_a_number_is_named_where_there_are_several(tmp_path):
    lines = [["smollm2_135m", "sst2", "cba", "conflict", "0", "asr", *rate_fields(2, 200), "further"]]
    write_csv(tmp_path / "cells.csv", (*CELL_COLUMNS, "run"), lines)
    table = build_table(1, read_measured([tmp_path / "cells.csv"], confidence=0.95), ROLES)
    rows = [dict(zip(csv_fields(table), row, strict=True)) for row in csv_rows(table)]
    assert {(row["status"], row["run"]) for row in rows if row["cell"]} >= {("computed", "further")}
    assert {row["run"] for row in rows if not row["cell"]} == {""}
    assert "run" not in csv_fields(made(tmp_path, [("smollm2_135m", "sst2", "cba", "conflict", 2)]))


def test_rows_follow_the_paper_and_other_models_come_first(tables):
    rows = tables[1].rows
    assert [row[0] for row in rows[:5]] == ["smollm2_135m"] * 5
    # A row of ours takes the place of the paper's; what was not run keeps the paper's name.
    assert rows[5] == ("gpt2_xl", "sst2", "cba")
    assert ("gpt2_xl", "sst2", "lwp") in rows
    assert ("my_llama", "sst2", "cba") in rows
    assert ("llama", "sst2", "cba") not in rows
    assert ("llama2", "sst2", "memit") in rows
    assert len(rows) == 25
    foreign = tables[1].entry(rows[0], "conflict", "asr").paper
    assert (foreign.models, foreign.low, foreign.high) == (4, 0.0078, 0.0751)


def test_table_7_pairs_the_original_with_the_adaptive_attack(tables, measured):
    row = ("my_llama", "emotion", "adaptive_cba")
    found = [tables[7].entry(row, column, "asr") for column in COLUMNS[7]]
    cells = [("cba", "none"), ("adaptive_cba", "none"), ("adaptive_cba", "conflict")]
    assert [one.ours for one in found] == [
        measured.cells["my_llama", "emotion", attack, defense]["asr"] for attack, defense in cells
    ]
    assert [one.paper.value for one in found] == [0.997, 0.707, 0.0859]


def test_table_8_has_llama_and_models_that_are_not_in_the_paper(tables):
    assert {row[0] for row in tables[8].rows if row[0] != "llama"} == {"my_llama", "smollm2_135m"}
    row = ("my_llama", "emotion", "cba")
    assert [tables[8].entry(row, merge, "asr").source for merge in COLUMNS[8]] == [
        "conflict",
        "conflict_ties",
        "conflict_slerp",
        "",
    ]


def made(tmp_path, lines, roles=ROLES, number=1, confidence=0.95):
    """A table from (model, data set, attack, defense, ASR hits of 200)."""
    rows = [[*line[:4], "0", metric, *rate_fields(line[4], 200)] for line in lines for metric in ("asr", "cda")]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, rows)
    return build_table(number, read_measured([tmp_path / "cells.csv"], confidence=confidence), roles)


ALL_OF_TABLE_1 = [
    ("smollm2_135m", "sst2", "cba", defense, 150)
    for defense in ("none", "editing", "wanda", "ft_full", "fine_pruning", "speculative", "nad", "beear")
]


def test_the_best_of_a_row_without_all_of_the_papers_columns_has_no_mark(tmp_path):
    own = ("smollm2_135m", "sst2", "cba", "conflict", 2)
    row = own[:3]
    whole = made(tmp_path, [*ALL_OF_TABLE_1, own])
    assert whole.best(row, "asr") == "conflict"
    assert to_latex(whole).count(r"\textbf{1.0}") == 1
    assert made(tmp_path, [*ALL_OF_TABLE_1[:-1], own]).best(row, "asr") is None
    few = made(tmp_path, [*ALL_OF_TABLE_1[:2], own])
    assert few.best(row, "asr") is None
    assert r"\textbf" not in to_latex(few)


def test_another_id_stands_in_its_row_under_its_name(tmp_path):
    lines = [
        ("smollm2_135m", "sst2", "cba", "ft_full", 150),
        ("smollm2_135m", "sst2", "cba", "ft_10", 160),
        ("smollm2_135m", "sst2", "rome", "ft_10", 170),
        ("smollm2_135m", "sst2", "rome", "nad", 180),
    ]
    table = made(tmp_path, lines)
    entries = [table.entry(("smollm2_135m", "sst2", attack), "fine_tuning", "asr") for attack in ("cba", "rome")]
    assert [(entry.source, entry.ours.rate.hits) for entry in entries] == [("ft_full", 150), ("ft_10", 170)]
    text = to_latex(table)
    assert r"85.0\textsuperscript{b}" in text
    assert r"a: ft\_full. b: ft\_10." in text
    assert to_html(table).count(" ft_10</span>") == 2
    assert "nad</span>" not in to_html(table)
    alone = to_latex(made(tmp_path, lines[2:]))
    assert r"fine\_tuning is ft\_10 here." in alone
    assert "textsuperscript" not in alone


def test_rows_of_models_that_the_run_has_not_are_no_lack_of_it(tmp_path):
    table = made(tmp_path, [("smollm2_135m", "sst2", "cba", "conflict", 2), ("gpt2_xl", "sst2", "rome", "conflict", 2)])
    assert len(table.rows) == 21
    assert len(table.of_run) == 1 + 5
    assert table.places == 6 * len(table.columns)
    assert build_table(1, NOTHING, Roles()).places == 0


GRID = {
    "1": [("smollm2_135m", "sst2", "cba"), ("smollm2_135m", "sst2", "rome"), ("my_llama", "sst2", "cba")],
    "2": [("smollm2_135m", "emotion", "memit")],
    "7": [("smollm2_135m", "emotion", "adaptive_cba")],
    "8": [("smollm2_135m", "emotion", "cba")],
    "9": [("smollm2_135m", "emotion", "cba")],
}


def test_a_row_of_the_grid_of_which_nothing_was_computed_stands_there_and_counts(tmp_path):
    roles = replace(ROLES, rows=GRID)
    lines = [("smollm2_135m", "sst2", "cba", "conflict", 2)]
    table = made(tmp_path, lines, roles)
    row = ("smollm2_135m", "sst2", "rome")
    assert table.rows[:2] == (("smollm2_135m", "sst2", "cba"), row)
    # The paper's model has the paper's five rows, one of them under the name that it has here.
    assert ("my_llama", "sst2", "cba") in table.rows
    assert ("llama", "sst2", "cba") not in table.rows
    assert len(table.of_run) == 2 + 5
    assert (table.places, table.computed) == (7 * len(table.columns), 1)
    found = [dict(zip(csv_fields(table), line, strict=True)) for line in csv_rows(table)]
    of_row = [one for one in found if one["attack"] == "rome" and one["model"] == row[0]]
    assert {one["status"] for one in of_row} == {NOT_COMPUTED}
    assert len(of_row) == 2 * len(table.columns)
    # A row that was computed outside of the grid is there, too.
    more = made(tmp_path, [*lines, ("smollm2_135m", "sst2", "lwp", "conflict", 2)], roles)
    assert more.rows[2] == ("smollm2_135m", "sst2", "lwp")


@pytest.mark.parametrize("number", [int(number) for number in GRID])
def test_a_run_of_which_nothing_was_computed_has_the_rows_of_its_grid(number):
    table = build_table(number, NOTHING, replace(ROLES, rows=GRID))
    mine = {row for row in GRID[str(number)] if row[0] == "smollm2_135m"}
    assert mine <= table.of_run
    assert {row for row in table.rows if row[0] == "smollm2_135m"} == mine
    assert table.computed == 0
    entry = table.entry(next(iter(mine)), table.columns[0], table.metrics[0])
    assert entry.value is None
    assert (entry.paper.models if entry.paper else 0) > 0
    assert NOT_COMPUTED in to_html(table)


def test_the_level_of_the_intervals_is_the_configs(tmp_path):
    table = made(tmp_path, [("smollm2_135m", "sst2", "cba", "conflict", 2)], confidence=0.9)
    assert r"the 90 \% Wilson intervals" in to_latex(table)


def test_table_7_has_what_other_data_the_run_attacks(tmp_path):
    roles = replace(ROLES, datasets={"sst2": "sst2"})
    lines = [("smollm2_135m", "sst2", "adaptive_cba", "none", 190), ("smollm2_135m", "sst2", "cba", "none", 180)]
    table = made(tmp_path, [*lines, ("smollm2_135m", "sst2", "adaptive_cba", "conflict", 90)], roles, 7)
    row = ("smollm2_135m", "sst2", "adaptive_cba")
    assert table.of_run == {row}
    found = [table.entry(row, column, "asr") for column in COLUMNS[7]]
    assert [entry.ours.rate.hits for entry in found] == [180, 190, 90]
    assert [entry.paper for entry in found] == [None] * 3
    # What was computed, and what was not, each with its head.
    assert to_html(table).count("<tr") == 2 + 2 * 5


def test_table_8_says_what_is_merged_and_with_what(tmp_path):
    roles = replace(ROLES, merges={"internal": "linear", "internal_ties": "ties"}, merge_kind="internal")
    lines = [("smollm2_135m", "sst2", "cba", "internal", 40), ("smollm2_135m", "sst2", "cba", "internal_ties", 50)]
    table = made(tmp_path, lines, roles, 8)
    rows = [dict(zip(csv_fields(table), row, strict=True)) for row in csv_rows(table)]
    assert [(row["cell"], row["cell_method"]) for row in rows if row["value"] and row["metric"] == "asr"] == [
        ("internal", "internal"),
        ("internal_ties", "internal"),
    ]
    for text in (to_html(table), to_latex(table)):
        assert "the merge alone, without evidence" in text
        assert "its whole method" in text
    assert " internal_ties</span>" in to_html(table)
    assert r"ties is internal\_ties here." in to_latex(table)


def test_table_6_takes_one_merge(tables):
    table = tables[6]
    assert table.rows == tuple(("smollm2_135m", "emotion", name) for name in ("ours", "1", "2"))
    merged = table.entry(("smollm2_135m", "emotion", "ours"), "merged", "asr")
    assert (merged.ours.rate.hits, merged.ours.rate.total, merged.source) == (14, 200, "linear")
    assert merged.paper.value == 0.08
    assert table.entry(("smollm2_135m", "emotion", "2"), "second", "cda").paper.value == 0.0


def test_table_9_names_hours_memory_tokens_and_device(tables):
    entry = tables[9].entry(("my_llama", "emotion", "cba"), "conflict", "hours")
    assert (entry.value, entry.paper.value) == (pytest.approx(2400 / 3600), 0.87)
    assert entry.agreement is None
    rows = [dict(zip(csv_fields(tables[9]), row, strict=True)) for row in csv_rows(tables[9])]
    row = next(row for row in rows if (row["model"], row["attack"], row["defense"]) == ("my_llama", "cba", "conflict"))
    names = ("tokens", "peak_memory_gib", "device", "stored_mib", "slowdown")
    # 600 seconds of answering where the undefended model takes 400.
    assert [row[name] for name in names] == ["24000", "1.500000", "cpu", "2.500000", "1.500000"]
    text = to_latex(tables[9])
    assert "GiB & 1.5" in text
    assert "tokens & 24000" in text
    assert "Ours on cpu." in text
    lines = re.findall(r'<span class="interval"> (.*?)</span>', to_html(tables[9]))
    start = lines.index("1.5 times undefended")
    assert lines[start - 1 : start + 5] == [
        *("0.17 h answering", "1.5 times undefended", "1.5 GiB", "24000 tokens", "2.5 MiB stored", "cpu"),
    ]


def test_times_undefended_compare_models_that_were_asked_in_the_same_way(tmp_path):
    stands = {"none": "none", "cleangen": "cleangen", "wanda": "wanda", "conflict": "conflict"}
    seconds = {"none": 100, "cleangen": 800, "wanda": 154, "conflict": 120, "none_generated": 400}
    roles = replace(
        ROLES,
        defenses=stands,
        stand_ins={"none": ("none_generated",)},
        generating=("cleangen", "none_generated"),
        as_fast=("wanda",),
    )

    def slowdowns(names, data):
        rows = [
            [
                *("smollm2_135m", data, "dtba" if data == "talks" else "cba", name, "0", "answer", str(seconds[name])),
                *REST,
            ]
            for name in names
        ]
        write_csv(tmp_path / "costs.csv", COST_COLUMNS, rows)
        table = build_table(9, read_measured([], [tmp_path / "costs.csv"], confidence=0.95), roles)
        return {column: entry.slowdown for (row, column, _), entry in table.entries.items() if entry.cost is not None}

    # Eight times the time of label scores says nothing of generated text; other weights are no slower.
    assert slowdowns(seconds, "emotion") == {"cleangen": 2.0, "wanda": None, "conflict": 1.2}
    without = [name for name in seconds if name != "none_generated"]
    assert slowdowns(without, "emotion") == {"cleangen": None, "wanda": None, "conflict": 1.2}
    # Conversations are always answered by text.
    assert slowdowns(without, "talks") == {"cleangen": 8.0, "wanda": None, "conflict": 1.2}


def test_the_best_is_bold_once_and_never_the_undefended(tables):
    table = tables[1]
    assert table.best(("my_llama", "sst2", "cba"), "asr") in (None, "conflict_plus")
    # Editing was not tried with GPT2-XL: nothing there is better than all.
    assert table.best(("gpt2_xl", "sst2", "cba"), "asr") is None
    for one in table.rows:
        for metric in table.metrics:
            assert one[0] != "gpt2_xl" or table.best(one, metric) is None
            assert table.best(one, metric) != "none"
    text = to_latex(table)
    marked = [table.best(one, metric) for one in table.rows for metric in table.metrics]
    assert len(re.findall(r"\\textbf\{", text)) == sum(name is not None for name in marked)


def test_values_that_overlap_have_no_mark(tmp_path):
    # 2 and 5 of 200; all columns are there.
    lines = [(*line[:4], 5 if line[3] == "nad" else line[4]) for line in ALL_OF_TABLE_1]
    table = made(tmp_path, [*lines, ("smollm2_135m", "sst2", "cba", "conflict", 2)])
    assert table.best(("smollm2_135m", "sst2", "cba"), "asr") is None
    assert r"\textbf" not in to_latex(table)


@pytest.mark.parametrize("number", NUMBERS)
def test_all_three_forms_hold_every_place(number, tables, tmp_path):
    table = tables[number]
    paths = {name: tmp_path / f"table.{name}" for name in ("csv", "tex", "html")}
    write_paper_table(table, csv=paths["csv"], tex=paths["tex"])
    write_table_page(paths["html"], table)
    rows = read_csv(paths["csv"])
    assert len(rows) == len(table.rows) * len(table.columns) * len(table.metrics)
    assert sum(row["status"] == "computed" for row in rows) == sum(
        one.value is not None for one in table.entries.values()
    )
    text = paths["html"].read_text()
    reader = check_html(text, whole_page=True, beside=[REPORT])
    assert text.startswith("<!doctype html>")
    assert "<style>" in text
    touched = {f"inconsistency-{note}" for one in table.entries.values() for note in one.notes}
    assert {name for name in reader.ids if name.startswith("inconsistency-")} == touched
    assert text.count("<tr") == sum(map(bool, table.split_rows)) + len(table.rows) * len(table.metrics)
    cost_lines = 2 * len({row for (row, _, _), entry in table.entries.items() if entry.cost is not None})
    n_rows = len(table.rows) * len(table.metrics) + cost_lines
    check_latex(paths["tex"].read_text(), n_rows, 4 + len(table.columns))


# 10 pt article on A4: the height of the text, which is the width of a line across the sheet.
LANDSCAPE_PT = 592


@pytest.mark.parametrize("number", NUMBERS)
def test_no_table_is_wider_than_its_sheet(number, tables):
    text = to_latex(tables[number])
    if r"\begin{longtable}" not in text:
        assert r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%" in text
        assert "graphicx" in text.splitlines()[0]
        return
    across = r"\begin{landscape}" in text
    assert across == (r"\end{landscape}" in text) == ("pdflscape" in text.splitlines()[0])
    letters, separator, limit = (5, 4, LANDSCAPE_PT) if across else (7, 6, 345)
    assert (r"\tiny\setlength{\tabcolsep}{2pt}" in text) == across
    assert latex_width(text, letters, separator) <= limit


def test_a_long_wide_table_stands_across_the_sheet(tables):
    across = {number for number, table in tables.items() if r"\begin{landscape}" in to_latex(table)}
    assert {1, 2, 9} <= across
    assert across.isdisjoint({4, 5, 6, 7})


def latex_width(text, size, separator):
    """The width of a table in points, set in Computer Modern."""
    folder = Path(matplotlib.get_data_path()) / "fonts/ttf"
    font = FT2Font(str(folder / "cmr10.ttf"))
    font.set_size(size, 72)

    def width(cell):
        plain = re.sub(r"\\text\w+|[{}]", "", cell).replace("\\", "")
        font.set_text(plain, 0)
        return font.get_width_height()[0] / 64

    lines = [line.removesuffix(r" \\") for line in text.splitlines() if line.endswith(r"\\") and "&" in line]
    rows = [re.split(r"(?<!\\)&", line) for line in lines if not line.startswith(r"\caption")]
    return sum(max(map(width, column)) + separator for column in zip(*rows, strict=True))


def test_tables_longer_than_a_page_do_not_float(tables):
    long = {number for number, table in tables.items() if r"\begin{longtable}" in to_latex(table)}
    # The made-up run has three models; Table 6 has three rows, Table 7 five.
    assert {4, 9} <= long
    assert long.isdisjoint({6, 7})
    assert all(to_latex(tables[number]).count(r"\endhead") == 1 for number in long)


def check_latex(text, n_rows, n_columns):
    """Braces and environments close in order, every line of the table has as many cells as columns."""
    bare = re.sub(r"(?<!\\)%.*", "", text)
    depth = 0
    for mark in re.findall(r"(?<!\\)[{}]", bare):
        depth += 1 if mark == "{" else -1
        assert depth >= 0
    assert depth == 0
    opened = []
    for kind, name in re.findall(r"\\(begin|end)\{([^}]*)\}", bare):
        if kind == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    kind, columns = re.search(r"\\begin\{(tabular|longtable)\}\{(\w+)\}", text).groups()
    lines = [line for line in text.splitlines() if line.endswith(r"\\") and not line.startswith(r"\caption")]
    assert len(columns) == n_columns
    # What is longer than a page does not float, and has its head twice: for the first page, and for the others.
    assert kind == ("longtable" if n_rows > 45 else "tabular")
    assert (r"\begin{table*}" in text) == (kind == "tabular")
    assert len(lines) == n_rows + (2 if kind == "longtable" else 1)
    if kind == "longtable":
        first, other, rest = re.split(r"\\endfirsthead|\\endhead", text)
        assert lines[0] in first
        assert lines[0] in other
        assert first.count(r"\caption{") == text.count(r"\caption{") == text.count(r"\label{") == 1
        assert r"\bottomrule" in rest.partition(r"\endfoot")[0]
        assert not rest.partition(r"\endfoot")[2].lstrip().startswith((r"\midrule", r"\addlinespace"))
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {n_columns - 1}
    assert not re.search(r"(?<!\\)[_#]", re.sub(r"\\label\{[^}]*\}", "", bare))
