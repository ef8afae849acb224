"""The paper's numbers in the repository: complete, as printed, and consistent but for what is listed."""

import statistics
from collections import Counter

import pytest

from infoconflict.metrics import read_csv
from infoconflict.reporting.published import (
    BASELINES,
    CHAT_ATTACKS,
    CLASSIFICATION_ATTACKS,
    FILES,
    FOLDER,
    MODELS,
    Place,
    column_values,
    inconsistencies,
    notes_on,
    published,
    reference,
    role_column,
)


def test_every_table_has_all_of_its_places():
    assert Counter(place.table for place in published()) == {
        **{1: 180, 2: 180, 3: 120, 4: 160, 5: 48},
        **{6: 9, 7: 12, 8: 52, 9: 216},
    }
    for table, dataset, attacks in ((1, "sst2", CLASSIFICATION_ATTACKS), (2, "emotion", CLASSIFICATION_ATTACKS)):
        defenses = ("none", *(name for name in BASELINES if name != "cleangen"), "conflict")
        expected = {(model, attack, defense) for model in MODELS for attack in attacks for defense in defenses}
        found = {(p.model, p.attack, p.column) for p in published() if (p.table, p.dataset) == (table, dataset)}
        assert found == expected
    chat = {(p.model, p.attack, p.column) for p in published() if p.table == 3}
    assert chat == {(m, a, d) for m in MODELS for a in CHAT_ATTACKS for d in ("none", *BASELINES, "conflict")}


def test_values_are_shares_and_only_known_ones_are_missing():
    empty = Counter()
    for place, numbers in published().items():
        wanted = {"hours"} if place.table == 9 else {"asr", "cda"}
        empty[place.table] += len(wanted - numbers.keys())
        assert numbers.keys() <= wanted
        for metric, value in numbers.items():
            assert 0.1 <= value <= 4 if metric == "hours" else 0 <= value <= 1
    assert {table: count for table, count in empty.items() if count} == {3: 2, 9: 12}


# Means as the paper's tables give them, to the second decimal of a percent.
@pytest.mark.parametrize(
    ("table", "column", "asr", "cda"),
    [
        *((1, "none", 91.65, 77.30), (1, "conflict", 2.36, 81.28), (2, "none", 84.29, 81.30)),
        *((2, "conflict", 3.48, 85.83), (3, "none", 43.08, 86.79), (3, "conflict", 3.38, 89.46)),
    ],
)
def test_means_agree_with_the_tables(table, column, asr, cda):
    for metric, expected in (("asr", asr), ("cda", cda)):
        values = column_values(table, column, metric)
        assert 100 * statistics.fmean(values) == pytest.approx(expected, abs=0.0051)


def test_tables_that_share_cells_differ_where_it_is_listed_and_nowhere_else():
    differ = set()
    for place, numbers in published().items():
        main = {4: {"sst2": 1, "emotion": 2}.get(place.dataset), 5: 3}.get(place.table)
        column = place.column
        if place.table == 8 and column == "linear":
            main, column = {"sst2": 1, "emotion": 2, "chat": 3}[place.dataset], "conflict"
        if place.table == 7 and column == "original":
            main, column = 2, "none"
        if main is None or column not in ("none", "conflict"):
            continue
        twin = Place(table=main, dataset=place.dataset, model=place.model, attack=place.attack, column=column)
        for metric, value in numbers.items():
            if value != published()[twin][metric]:
                differ.add((place, metric))
                assert notes_on(place, metric)
                assert notes_on(twin, metric)
    assert len(differ) == 2


def test_what_the_text_says_of_a_cell_is_noted_beside_it():
    cell = Place(table=1, dataset="sst2", model="gpt2_xl", attack="cba", column="conflict")
    assert published()[cell]["asr"] == 0.0126
    assert 1 in notes_on(cell, "asr")
    assert 1 not in notes_on(cell, "cda")
    above = [place for place in published() if place.table == 8 and 4 in notes_on(place, "asr")]
    assert sorted(above) == sorted(p for p, numbers in published().items() if p.table == 8 and numbers["asr"] > 0.05)


def marked(number, column, metric):
    return {place for place in published() if place.column == column and number in notes_on(place, metric)}


def twin(place, column):
    return published().get(Place(**{**vars(place), "column": column}), {})


def test_claims_that_hold_in_part_are_noted_beside_the_cells_where_they_do_not():
    own = {place: numbers for place, numbers in published().items() if place.column == "conflict"}
    main = {place: numbers for place, numbers in own.items() if place.table <= 3}
    assert marked(8, "conflict", "cda") == {place for place, numbers in main.items() if numbers["cda"] < 0.9}
    beaten = {
        place
        for place, numbers in main.items()
        if any(twin(place, other).get("asr", 1) < numbers["asr"] for other in BASELINES)
    }
    assert marked(10, "conflict", "asr") == beaten
    assert Counter(place.table for place in beaten) == {1: 4, 2: 5, 3: 6}
    alone = {
        place
        for place, numbers in own.items()
        if place.table in (4, 5) and twin(place, "internal")["asr"] < numbers["asr"]
    }
    assert marked(11, "conflict", "asr") == alone
    assert len(alone) == 9


@pytest.mark.parametrize(
    ("column", "count"), [("editing", 21), ("wanda", 24), ("speculative", 20), ("cleangen", 12), ("beear", 24)]
)
def test_where_the_method_takes_half_an_hour_more_is_noted(column, count):
    cells = {place: numbers["hours"] for place, numbers in published().items() if place.table == 9 and numbers}
    slower = {
        place
        for place, hours in cells.items()
        if place.column == column and round(twin(place, "conflict")["hours"] - hours, 6) >= 0.5
    }
    assert marked(5, column, "hours") & cells.keys() == slower
    assert len(slower) == count


def test_a_doubtful_value_is_named_with_its_place():
    for one in inconsistencies():
        if one.kind == "doubtful":
            assert one.text.startswith("Table"), one.text
            assert one.cells, one.number


@pytest.mark.parametrize(
    ("number", "value"), [(35, 60.43), (36, 83.49), (37, 94.92), (38, 93.22), (39, 87.94), (40, 73.49)]
)
def test_equal_values_in_one_column_are_listed(number, value):
    found = [
        100 * numbers["cda"]
        for place, numbers in published().items()
        if place.table < 9 and number in notes_on(place, "cda")
    ]
    assert found == pytest.approx([value] * 2)
    assert str(value) in next(one.text for one in inconsistencies() if one.number == number)


def test_every_inconsistency_touches_cells_that_are_there():
    numbers = [one.number for one in inconsistencies()]
    assert numbers == list(range(1, len(numbers) + 1))
    for one in inconsistencies():
        for cell in one.cells:
            # CleanGen's missing columns are what one of them is about.
            touched = any(one.touches(place, metric) for place in published() for metric in ("asr", "cda", "hours"))
            assert touched or cell["column"] == "cleangen", one
    assert {one.kind for one in inconsistencies()} == {"text", "table", "doubtful"}


def test_a_model_that_is_not_in_the_paper_gets_mean_and_range():
    place = Place(table=1, dataset="sst2", model="", attack="cba", column="conflict")
    values = [
        numbers["asr"] for p, numbers in published().items() if (p.table, p.attack, p.column) == (1, "cba", "conflict")
    ]
    found = reference(place, "asr")
    assert (found.low, found.high, found.models) == (min(values), max(values), 4)
    assert found.value == pytest.approx(sum(values) / 4)
    assert reference(Place(**{**vars(place), "column": "conflict_plus"}), "asr") is None


def test_roles_of_table_6():
    assert [role_column(role) for role in ("m1", "m2", "m1+m2", "m5", "m6")] == [
        "first",
        "second",
        "merged",
        "first",
        "second",
    ]
    merged = Place(table=6, dataset="emotion", model="", attack="2", column="merged")
    assert published()[merged] == {"asr": 1.0, "cda": 0.0}


def test_files_are_named_for_the_workflow_and_said_where_they_are_from():
    assert sorted(FOLDER.glob("*.csv")) == sorted(FILES)
    readme = (FOLDER / "README.md").read_text()
    assert "arXiv:2411.18280" in readme
    for path in FILES:
        assert path.name in readme
        assert read_csv(path)
