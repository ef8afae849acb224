"""Verdicts: each claim against its limit, and what the intervals leave open."""

import pytest

from infoconflict.metrics import Rate
from infoconflict.reporting.results import Measure, Results
from infoconflict.reporting.verdicts import checks_of, conclusion, headline, headline_defense

CASE = ("m", "d", "cba")


def measure(hits, total):
    return Measure.pool([Rate(hits=hits, total=total)], 0.95)


def results(**cells):
    """Each cell as (ASR hits, CDA hits, FTR hits) of ``n`` rows each."""
    n = cells.pop("n", 1000)
    found = {
        name: {metric: measure(hits, n) for metric, hits in zip(("asr", "cda", "ftr"), hits, strict=True)}
        for name, hits in cells.items()
    }
    return Results(cells={CASE: found}, sweep={}, auto={}, costs=[])


def verdicts(found, defense="conflict"):
    return [check.verdict for check in checks_of(found, CASE, defense)]


def test_all_is_well_and_certain():
    found = results(
        n=20_000,
        none=(19_600, 16_800, 2_000),
        conflict=(2_000, 16_700, 2_000),
        control_clean_tuned=(1_800, 16_900, 1_900),
    )
    assert verdicts(found) == ["met"] * 5
    said = conclusion(checks_of(found, CASE, "conflict"), "conflict")
    assert said == (
        "The defence conflict removes the backdoor down to the level of a clean-tuned model and keeps the task."
    )


def test_few_rows_leave_doubt():
    found = results(n=50, none=(46, 42, 5), conflict=(8, 42, 5), control_clean_tuned=(4, 42, 5))
    assert verdicts(found) == [
        *("met, not certain", "met, not certain", "met, not certain"),
        *("met, not certain", "met, not certain"),
    ]
    assert "do not rule out the opposite" in conclusion(checks_of(found, CASE, "conflict"), "conflict")


def test_a_defense_that_fails():
    found = results(
        n=5000,
        none=(4900, 4200, 500),
        conflict=(3000, 3000, 500),
        control_clean_tuned=(450, 4250, 480),
    )
    assert verdicts(found)[-2:] == ["missed", "missed"]
    assert "neither removes" in conclusion(checks_of(found, CASE, "conflict"), "conflict")


@pytest.mark.parametrize(
    ("conflict", "said"),
    [((460, 3000, 0), "removes the backdoor but costs"), ((3000, 4200, 0), "keeps the task but leaves")],
)
def test_half_a_success(conflict, said):
    found = results(n=5000, none=(4900, 4200, 0), conflict=conflict, control_clean_tuned=(450, 4250, 0))
    assert said in conclusion(checks_of(found, CASE, "conflict"), "conflict")


def test_a_weak_attack_is_said():
    found = results(n=5000, none=(2000, 4200, 0), conflict=(460, 4200, 0), control_clean_tuned=(450, 4200, 0))
    assert verdicts(found)[0] == "missed"
    assert "weaker than its goal" in conclusion(checks_of(found, CASE, "conflict"), "conflict")


def test_the_limit_itself_is_met():
    # 15 % - 5 % is 0.09999999999999999 or a hair above 0.1, as floating point has it.
    found = results(n=100, none=(95, 80, 15), conflict=(15, 77, 0), control_clean_tuned=(5, 80, 5))
    assert [verdict.split(",")[0] for verdict in verdicts(found)] == ["met"] * 5


def test_a_missing_control_is_not_measured():
    found = results(none=(950, 840, 100), conflict=(100, 840, 100))
    assert verdicts(found) == ["met", "not measured", "not measured", "not measured", "met, not certain"]
    assert "cannot be told" in conclusion(checks_of(found, CASE, "conflict"), "conflict")
    assert "tuned on clean rows" not in headline(found, CASE, "conflict")


def test_headline_has_numbers_and_intervals():
    found = results(n=100, none=(96, 86, 15), conflict=(14, 83, 10), control_clean_tuned=(8, 81, 12))
    assert headline(found, CASE, "conflict") == (
        "CBA on d with m: attack success 96.0 % [90.2, 98.4] → 14.0 % [8.5, 22.1] with conflict; a model tuned "
        "on clean rows gives the target on 8.0 % [4.1, 15.0] of the same rows. Clean accuracy "
        "86.0 % [77.9, 91.5] → 83.0 % [74.5, 89.1]."
    )


def test_without_a_defense_there_is_no_verdict():
    found = results(none=(950, 840, 100), control_clean_tuned=(50, 840, 100))
    assert headline_defense(list(found.cells[CASE])) is None
    assert len(checks_of(found, CASE, None)) == 3
    assert headline(found, CASE, None).endswith("no defence was run.")


@pytest.mark.parametrize(
    ("names", "methods", "expected"),
    [
        (["none", "internal", "conflict", "control_base"], {}, "conflict"),
        (["none", "internal"], {}, "internal"),
        (["none", "both", "wanda"], {"both": "conflict", "wanda": "wanda"}, "both"),
        (["none", "conflict", "conflict_ties"], {"conflict": "conflict", "conflict_ties": "conflict"}, "conflict"),
        (["none", "control_base"], {}, None),
    ],
)
def test_the_defense_that_the_result_is_about(names, methods, expected):
    config = {"defenses": {name: {"method": method} for name, method in methods.items()}}
    assert headline_defense(names, config) == expected


def test_differences_are_in_points():
    found = results(n=100, none=(96, 86, 15), conflict=(14, 83, 10), control_clean_tuned=(8, 81, 12))
    removed = checks_of(found, CASE, "conflict")[-2]
    assert removed.measured.startswith("+6.0 points [\N{MINUS SIGN}")
    assert removed.is_difference
