"""Tables: what is in them, what LaTeX makes of it, and that the same input gives the same bytes."""

import csv
import json
import re
from pathlib import Path

import pytest

from infoconflict.metrics import read_csv
from infoconflict.reporting.names import TABLES, defense_label, defense_order, merge_order, stage_order
from infoconflict.reporting.results import read_results
from infoconflict.reporting.tables import (
    NOTHING,
    build_tables,
    latex_escape,
    percent,
    percent_with_interval,
    read_table,
    to_latex,
    write_tables,
)

ROOT = Path(__file__).parents[2]


def tables_of(run):
    results = read_results(run.metrics, run.chosen_t)
    return {table.name: table for table in build_tables(results, json.loads(run.excluded.read_text()))}


@pytest.fixture(scope="module")
def tables(run):
    return tables_of(run)


def test_all_tables_are_written_and_read_back(run, tmp_path, tables):
    written = write_tables(run.metrics, run.chosen_t, run.excluded, tmp_path)
    assert [path.name for path in written] == [f"{name}.{suffix}" for name in TABLES for suffix in ("csv", "tex")]
    for name in TABLES:
        back = read_table(tmp_path, name)
        assert back.rows == tables[name].rows
        assert back.fields == tables[name].fields
        assert to_latex(back) == (tmp_path / f"{name}.tex").read_text()


def test_same_bytes_twice(big_run, tmp_path):
    first = write_tables(big_run.metrics, big_run.chosen_t, big_run.excluded, tmp_path / "one")
    second = write_tables(big_run.metrics, reversed(big_run.chosen_t), big_run.excluded, tmp_path / "two")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_main_table_holds_the_counts_of_the_summary(run, tables):
    summary = {(row["defense"], row["metric"]): row for row in read_csv(run.metrics / "summary.csv")}
    for row in tables["main"].rows:
        for metric in ("asr", "cda", "ftr", "invalid_rate"):
            expected = summary[row["defense"], metric]
            for field, name in (
                ("hits", "_hits"),
                ("total", "_total"),
                ("rate", ""),
                ("low", "_low"),
                ("high", "_high"),
            ):
                assert row[f"{metric}{name}"] == expected[field]


def test_controls_stand_behind_the_defenses(tables):
    rows = tables["main"].rows
    assert [row["defense"] for row in rows] == [
        *("none", "internal", "external", "conflict"),
        *("control_base", "control_conflict", "control_clean_tuned"),
    ]
    assert [row["kind"] for row in rows] == ["defense"] * 4 + ["control"] * 3


def test_pairs_are_those_with_the_undefended_model_or_the_last_defence(tables, run):
    table = tables["paired"]
    pairs = [(row["first"], row["second"]) for row in table.rows if row["metric"] == "asr"]
    assert ("conflict", "none") in pairs
    assert ("external", "none") in pairs
    assert ("external", "internal") not in pairs
    assert all({"none", "conflict"} & {*pair} for pair in pairs)
    assert len(pairs) == len({*pairs})
    row = next(row for row in table.rows if (row["metric"], row["first"], row["second"]) == ("asr", "conflict", "none"))
    texts = {column.title: column.text(row) for column in table.columns}
    assert texts["First is"] == "lower"
    assert texts["Difference"].startswith("\N{MINUS SIGN}")
    rates = {row["defense"]: float(row["asr"]) for row in tables["main"].rows}
    assert float(row["difference"]) == pytest.approx(rates["conflict"] - rates["none"], abs=1e-6)


def test_controls_have_names_of_their_own():
    assert defense_label("control_equal_tuning") == "tuned on like the conflict model"
    assert defense_label("control_merge_base_ties") == "merged with the base (ties)"
    assert defense_label("control_random_evidence_my_words") == "random evidence (my_words)"
    assert defense_label("conflict") == "conflict"
    found = sorted(["control_merge_base_ties", "control_base", "none", "control_random_trigger"], key=defense_order)
    assert found == ["none", "control_base", "control_random_trigger", "control_merge_base_ties"]


def test_seeds_add_mean_and_sd(tables, big_run):
    assert not [column for column in tables["main"].columns if "sd" in column.title]
    big = tables_of(big_run)["main"]
    (spread,) = [column for column in big.columns if column.title == "ASR, mean ± sd"]
    row = big.rows[0]
    assert spread.text(row) == f"{percent(float(row['asr_mean']))} ± {percent(float(row['asr_sd']))}"
    assert row["n_seeds"] == "3"


def test_grid_has_one_row_per_case(big_run):
    rows = tables_of(big_run)["grid"].rows
    assert [row["attack"] for row in rows] == ["badnets", "cba"]
    assert "none:asr" in rows[0]


def test_a_control_that_was_left_out_is_an_empty_place(mixed_run):
    tables = tables_of(mixed_run)
    shown = {(row["attack"], row["defense"]) for row in tables["main"].rows}
    assert {("cba", "control_base"), ("lwp", "control_base")} <= shown
    assert not {("badnets", "control_base"), ("badnets", "control_conflict"), ("lwp", "control_clean_tuned")} & shown
    by_attack = {row["attack"]: row for row in tables["grid"].rows}
    base = next(column for column in tables["grid"].columns if column.title == "base model")
    assert by_attack["badnets"]["control_base:asr"] == ""
    assert base.text(by_attack["badnets"]) == NOTHING != base.text(by_attack["cba"])
    # The first case does not decide on the order.
    titles = [column.title for column in tables["grid"].columns]
    assert titles[-3:] == ["base model", "conflict model alone", "clean-tuned model"]
    assert {row["control_base_total"] for row in tables["ftr"].rows if row["attack"] == "badnets"} == {""}
    for table in tables.values():
        assert to_latex(table).count("&") >= len(table.rows)


def test_merges_stand_at_the_papers_and_at_the_chosen_t(run, tables):
    rows = tables["merges"].rows
    assert [(row["merge"], row["choice"], row["t"]) for row in rows[:2]] == [
        ("linear", "paper", "0.5"),
        ("linear", "auto", "0.8"),
    ]
    assert list(dict.fromkeys(row["merge"] for row in rows)) == ["linear", "slerp", "ties", "passthrough"]
    sweep = read_csv(run.metrics / "sweep.csv")
    for row in rows:
        (found,) = [s for s in sweep if (s["merge"], s["t"], s["metric"]) == (row["merge"], row["t"], "asr")]
        assert (found["hits"], found["total"]) == (row["asr_hits"], row["asr_total"])


def test_choice_of_t_marks_the_chosen_and_shows_the_held_out_rows(tables):
    rows = [row for row in tables["choice_of_t"].rows if row["merge"] == "ties"]
    assert [row["t"] for row in rows] == ["0.3", "0.5", "0.7", "0.8", "0.9"]
    assert [row["chosen_by"] for row in rows] == ["0", "0", "0", "1", "0"]
    assert all(row["holdout_total"] == "40" for row in rows)


def test_a_chosen_t_outside_the_sweep_is_left_open(new_run, tmp_path):
    run = new_run(tmp_path, auto=0.65, n_rows=10)
    results = read_results(run.metrics, run.chosen_t)
    choice = results.auto[run.cases[0]]["linear"]
    assert choice.text == "0.65"
    assert choice.measures == {}
    (row,) = [r for r in tables_of(run)["choice_of_t"].rows if (r["merge"], r["t"]) == ("linear", "0.65")]
    assert (row["asr"], row["holdout"], row["chosen_by"]) == ("", "", "1")


def test_seeds_that_choose_differently_are_pooled_each_at_its_own_t(big_run, tmp_path):
    changed = []
    for cell, path in big_run.chosen_t:
        choice = json.loads(path.read_text()) | {"t": 0.7 if cell["seed"] == 1 else 0.8}
        copy = tmp_path / f"{cell['attack']}-{cell['merge']}-{cell['seed']}.json"
        copy.write_text(json.dumps(choice))
        changed.append((cell, copy))
    case = big_run.cases[0]
    choice = read_results(big_run.metrics, changed).auto[case]["linear"]
    assert choice.text == "0.7, 0.8"
    hits = 0
    for row in read_csv(big_run.metrics / "sweep.csv"):
        same = (row["model"], row["dataset"], row["attack"], row["merge"], row["metric"]) == (*case, "linear", "asr")
        if same and row["t"] == ("0.7" if row["seed"] == "1" else "0.8"):
            hits += int(row["hits"])
    assert choice.measures["asr"].rate.hits == hits


def test_a_choice_swept_for_some_seeds_only_is_left_open(big_run, tmp_path):
    changed = []
    for cell, path in big_run.chosen_t:
        copy = tmp_path / f"{cell['attack']}-{cell['merge']}-{cell['seed']}.json"
        copy.write_text(json.dumps(json.loads(path.read_text()) | {"t": 0.65 if cell["seed"] == 1 else 0.8}))
        changed.append((cell, copy))
    choice = read_results(big_run.metrics, changed).auto[big_run.cases[0]]["linear"]
    assert choice.text == "0.65, 0.8"
    assert choice.measures == {}


def test_costs_are_summed_by_stage_in_the_order_of_the_flow(tables, run):
    rows = tables["costs"].rows
    expected = ["prepare_dataset", "poison_train", "train_backdoored", "train_clean_tuned", "train_conflict"]
    expected += ["answer", "sweep_merge"]
    assert [row["stage"] for row in rows] == expected
    answers = rows[5]
    assert answers["jobs"] == "7"
    assert float(answers["minutes"]) == pytest.approx(7 * 31 / 60, abs=7 * 5e-4)  # each job is rounded
    assert answers["tokens"] == str(7 * 98_000)


def test_false_triggers_by_variant(tables):
    rows = tables["ftr"].rows
    assert rows[0]["variant"] == "all"
    assert int(rows[0]["none_hits"]) == sum(int(row["none_hits"]) for row in rows[1:])
    assert len(rows) == 6


def test_excluded_cells_keep_their_reason(tables):
    (row,) = tables["excluded"].rows
    assert row["reason"].startswith("DTBA needs chat rows")


def test_nothing_measured_gives_empty_tables(new_run, tmp_path):
    run = new_run(tmp_path, seeds=(0,), rates={}, merges={}, n_rows=2)
    run.excluded.write_text("[]")
    for path in write_tables(run.metrics, [], run.excluded, tmp_path / "tables"):
        assert path.stat().st_size
    for name in set(TABLES) - {"costs"}:
        assert read_table(tmp_path / "tables", name).rows == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("film_reviews & 100 %", r"film\_reviews \& 100 \%"),
        ("a\\b{c}$d#e~f^g", r"a\textbackslash{}b\{c\}\$d\#e\textasciitilde{}f\textasciicircum{}g"),
        ("1.0 ± 0.2", r"1.0 $\pm$ 0.2"),
        ("[0.0, 1.0]", "{}[0.0, 1.0]"),
    ],
)
def test_latex_escape(text, expected):
    assert latex_escape(text) == expected


def test_latex_is_a_whole_booktabs_table(tables):
    for table in tables.values():
        lines = to_latex(table).splitlines()
        rules = [line for line in lines if line.startswith((r"\toprule", r"\midrule", r"\bottomrule"))]
        assert rules[0] == r"\toprule"
        assert rules[-1] == r"\bottomrule"
        width = next(line for line in lines if line.startswith(r"\begin{tabular}")).split("{")[-1].count("l")
        width += next(line for line in lines if line.startswith(r"\begin{tabular}")).split("{")[-1].count("r")
        rows = [line for line in lines if line.endswith(r"\\")]
        assert len(rows) == len(table.rows) + 1
        assert {line.replace(r"\&", "").count("&") + 1 for line in rows} == {width}
        assert to_latex(table).isascii() or "±" not in to_latex(table)


def test_csv_files_hold_plain_numbers(run, tmp_path):
    write_tables(run.metrics, run.chosen_t, run.excluded, tmp_path)
    with (tmp_path / "main.csv").open() as lines:
        for row in csv.DictReader(lines):
            assert 0 <= float(row["asr"]) <= 1
            assert float(row["asr_low"]) <= float(row["asr"]) <= float(row["asr_high"])


def test_percent():
    assert percent(0.1234) == "12.3"
    assert percent(23 / 80) == "28.8"
    assert percent(None) == "–"  # noqa: RUF001
    assert percent_with_interval(0.5, 0.25, 1) == "50.0 [25.0, 100.0]"


def test_order_of_names():
    names = ["control_base", "conflict_ties", "zzz", "conflict", "none", "wanda", "internal"]
    assert sorted(names, key=defense_order) == [
        *("none", "wanda", "internal", "zzz", "conflict", "conflict_ties", "control_base"),
    ]
    assert sorted(["own", "ties", "linear_low", "linear"], key=merge_order) == ["linear", "linear_low", "ties", "own"]


def test_every_stage_has_its_place():
    rules = "".join(
        path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")) if path.stem != "purify"
    )
    parts = re.split(r"^(?:rule|use rule \w+ as) (\w+)(?: with)?:$", rules, flags=re.MULTILINE)[1:]
    stages = [rule for rule, body in zip(parts[::2], parts[1::2], strict=True) if re.search(r"^ {8}card=", body, re.M)]
    assert {"train_backdoored", "ask_suspect", "ask_oracle"} <= set(stages)
    last = stage_order("no such stage")[0]
    assert [stage for stage in stages if stage_order(stage)[0] == last] == []


def test_generation_stands_beside_scores(run, tables):
    (row,) = tables["generation"].rows
    counts = [(r["gold_label"], r["by_scores"], r["by_generation"], int(r["rows"])) for r in
              read_csv(run.metrics / "generation.csv")]  # fmt: skip
    assert row["equal_total"] == "40"
    assert int(row["equal_hits"]) == sum(n for _, scores, text, n in counts if scores == text)
    assert int(row["scores_hits"]) == sum(n for gold, scores, _, n in counts if gold == scores)
    assert int(row["generation_hits"]) == sum(n for gold, _, text, n in counts if gold == text)
    assert int(row["invalid_rate_hits"]) == sum(n for _, _, text, n in counts if not text)
    assert 0 < float(row["kappa"]) < 1


def test_judges_are_pooled_over_seeds(chat_run):
    table = tables_of(chat_run)["judges"]
    (row,) = table.rows  # a judge alone, as that of payloads here, agrees with nobody
    counts = read_csv(chat_run.metrics / "judges.csv")
    assert (row["claim"], row["first"], row["second"]) == ("equivalent", "embedding", "exact")
    assert int(row["equal_hits"]) == sum(int(r["both"]) + int(r["neither"]) for r in counts)
    assert int(row["equal_total"]) + int(row["undecided"]) == 80
    assert "Kappa" in to_latex(table)


def test_without_chat_there_are_no_judges(tables):
    assert tables["judges"].rows == []
