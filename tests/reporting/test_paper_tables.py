"""The paper's tables beside ours: places, marks, and the three forms of each table."""

import re

import pytest

from infoconflict.metrics import read_csv
from infoconflict.reporting.paper_cells import COLUMNS, Roles
from infoconflict.reporting.paper_html import write_table_page
from infoconflict.reporting.paper_links import REPORT
from infoconflict.reporting.paper_measures import Measured, read_measured
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
from tests.reporting.paper_made_up import RATES, ROLES, cell_rows, make_paper_run
from tests.reporting.well_formed import check_html

NUMBERS = range(1, 10)
NOTHING = Measured(cells={}, costs={})


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
    assert [row[name] for name in ("tokens", "peak_memory_gib", "device")] == ["24000", "1.500000", "cpu"]


def test_the_best_is_bold_once_and_never_the_undefended(tables):
    table = tables[1]
    row = ("gpt2_xl", "sst2", "cba")
    best = table.best(row, "asr")
    assert best in (None, "conflict_plus")
    for one in table.rows:
        for metric in table.metrics:
            assert table.best(one, metric) not in ("none", "editing")
    text = to_latex(table)
    marked = [table.best(one, metric) for one in table.rows for metric in table.metrics]
    assert len(re.findall(r"\\textbf\{", text)) == sum(name is not None for name in marked) > 0


def test_values_that_overlap_have_no_mark(tmp_path):
    from infoconflict.metrics import CELL_COLUMNS, write_csv

    cells = [("gpt2_xl", "sst2", "cba", defense) for defense in ("none", "ft_full", "nad")]
    write_csv(tmp_path / "cells.csv", CELL_COLUMNS, cell_rows(cells, seeds=(0,)))
    assert abs(RATES["ft_full"][0] - RATES["nad"][0]) < 0.05
    table = build_table(1, read_measured([tmp_path / "cells.csv"], confidence=0.95), ROLES)
    assert table.best(("gpt2_xl", "sst2", "cba"), "asr") is None
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
    reader = check_html(text, whole_page=True, beside=REPORT)
    assert text.startswith("<!doctype html>")
    assert "<style>" in text
    touched = {f"inconsistency-{note}" for one in table.entries.values() for note in one.notes}
    assert {name for name in reader.ids if name.startswith("inconsistency-")} == touched
    assert text.count("<tr") == 1 + len(table.rows) * len(table.metrics)
    check_latex(paths["tex"].read_text(), len(table.rows) * len(table.metrics), 4 + len(table.columns))


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
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", text)[1]
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(columns) == n_columns
    assert len(lines) == n_rows + 1
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {n_columns - 1}
    assert not re.search(r"(?<!\\)[_#]", re.sub(r"\\label\{[^}]*\}", "", bare))
