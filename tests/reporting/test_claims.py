"""The paper's claims on made-up counts: pooled by hand, and with each verdict."""

import pytest

from infoconflict.metrics import Rate, difference
from infoconflict.reporting.claims import claims_of, is_adaptive
from infoconflict.reporting.results import Measure, Results

CONFIG = {
    "attacks": {"cba": {"method": "cba"}, "subtracted": {"method": "adaptive_cba"}},
    "defenses": {"none": {"method": "none"}, "pruned": {"method": "wanda"}, "conflict": {"method": "conflict"}},
}


def measures(asr, cda):
    return {
        "asr": Measure.pool([Rate(hits=asr[0], total=asr[1])], 0.95),
        "cda": Measure.pool([Rate(hits=cda[0], total=cda[1])], 0.95),
    }


def results(**cells):
    """Cells by case (``model__dataset__attack``) and defense."""
    found = {tuple(name.split("__")): measured for name, measured in cells.items()}
    return Results(cells=found, sweep={}, auto={}, costs=[])


def case(*, none=(95, 100), conflict=(5, 100), clean=(4, 100), pruned=(50, 100), cda=(90, 90)):
    return {
        "none": measures(none, (cda[0], 100)),
        "pruned": measures(pruned, (cda[1], 100)),
        "conflict": measures(conflict, (cda[1], 100)),
        "control_clean_tuned": measures(clean, (cda[0], 100)),
    }


def test_worked_example():
    found = claims_of(
        results(m__d__cba=case(), m2__d__cba=case(conflict=(7, 100)), m__d__subtracted=case(conflict=(40, 100))),
        CONFIG,
    )
    assert [claim.support for claim in found] == ["supported", "supported, not certain", "supported", "not supported"]
    # 12 of 200 against 8 of 200, by hand; the adaptive case is not among them.
    value, low, high = difference(Rate(hits=12, total=200), Rate(hits=8, total=200))
    signed = [f"{100 * one:+.1f}".replace("-", "\N{MINUS SIGN}") for one in (low, high)]
    assert found[0].measured.startswith(f"+2.0 points [{signed[0]}, {signed[1]}]: conflict 6.0 % [")
    assert value == pytest.approx(0.02)
    assert "(12 of 200), clean-tuned 4.0 % [" in found[0].measured
    assert found[0].measured.endswith("(8 of 200); 2 cases")
    assert "(40 of 100)" in found[3].measured
    assert found[3].measured.endswith("; 1 case")


def test_limits_that_the_paper_does_not_state_are_said_to_be_ours():
    found = claims_of(results(m__d__cba=case(), m__d__subtracted=case()), CONFIG)
    assert ["our limit: " in claim.claim for claim in found] == [True, True, False, True]


@pytest.mark.parametrize(
    ("hits", "support"),
    [
        (0, "supported"),
        (12, "supported, not certain"),
        (18, "not supported, not certain"),
        (90, "not supported"),
    ],
)
def test_near_the_clean_tuned_model(hits, support):
    # The limit is 10 points above 4 of 100.
    assert claims_of(results(m__d__cba=case(conflict=(hits, 100))), CONFIG)[0].support == support


def test_the_best_rival_counts_and_parts_of_the_method_are_none():
    cells = case(pruned=(2, 100))
    cells["internal"] = measures((0, 100), (90, 100))
    cells["internal_ties"] = measures((0, 100), (90, 100))
    claim = claims_of(results(m__d__cba=cells), CONFIG)[2]
    assert "the best of 1 other defence (pruned) 2.0 %" in claim.measured
    assert claim.support == "not supported, not certain"


def test_a_rival_that_was_not_measured_everywhere_is_none():
    lacking = case()
    del lacking["pruned"]
    claim = claims_of(results(m__d__cba=case(), m2__d__cba=lacking), CONFIG)[2]
    assert (claim.support, claim.measured) == ("not measured", "no other defence was measured in the same cases")


def test_data_sets_are_kept_apart_and_holes_are_said():
    found = claims_of(results(m__d__cba=case(), m__e__cba={"none": measures((9, 10), (9, 10))}), CONFIG)
    assert [claim.dataset for claim in found] == ["d"] * 4 + ["e"] * 4
    assert {claim.support for claim in found[4:]} == {"not measured"}
    assert claims_of(results(), CONFIG) == []


def test_an_adaptive_attack_is_told_by_its_method():
    assert is_adaptive("subtracted", CONFIG)
    assert is_adaptive("adaptive_cba", {})
    assert not is_adaptive("cba", CONFIG)
