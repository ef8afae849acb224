"""The rule that chooses t, on made-up curves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.errors import UserError
from infoconflict.merging.choose_t import choose_t, standard_error


def choose(curve: dict[float, int], total: int, **options):
    return choose_t(lambda t: (curve[t], total), list(curve), **options)


def test_worked_example():
    # Best: 90 of 100; its standard error is sqrt(.885 * .115 / 100) = .032, so 87 is as good and 86 is not.
    result = choose({0.5: 88, 0.6: 90, 0.7: 87, 0.8: 86, 0.9: 60}, 100, merge="linear", suspect=(91, 100))
    assert result == {
        "merge": "linear",
        "t": 0.7,
        "rule": "one_standard_error",
        "curve": [
            {"t": t, "hits": hits, "total": 100} for t, hits in [(0.5, 88), (0.6, 90), (0.7, 87), (0.8, 86), (0.9, 60)]
        ],
        "suspect": {"hits": 91, "total": 100},
    }


def test_a_later_t_may_be_taken_beyond_a_dip():
    assert choose({0.5: 90, 0.6: 70, 0.7: 89}, 100)["t"] == 0.7


def test_of_equals_the_largest_is_taken():
    assert choose({0.9: 40, 0.5: 40, 0.7: 40}, 50)["t"] == 0.9


def test_a_best_without_mistakes_still_has_a_doubt():
    assert choose({0.5: 20, 0.6: 19, 0.7: 17}, 20)["t"] == 0.6
    assert choose({0.5: 0, 0.6: 0}, 20)["t"] == 0.6


def test_one_candidate_and_repeats():
    assert choose_t(lambda t: (3, 10), [0.5, 0.5])["curve"] == [{"t": 0.5, "hits": 3, "total": 10}]


def test_each_candidate_is_scored_once_in_ascending_order():
    asked = []
    choose_t(lambda t: asked.append(t) or (5, 10), [0.9, 0.5, 0.7, 0.5])
    assert asked == [0.5, 0.7, 0.9]


@given(st.dictionaries(st.sampled_from([0.1, 0.3, 0.5, 0.7, 0.9]), st.integers(0, 50), min_size=1))
def test_laws(curve):
    result = choose(curve, 50)
    best = max(curve.values())
    assert result["t"] >= max(t for t, hits in curve.items() if hits == best)
    assert curve[result["t"]] >= best - 50 * standard_error(best, 50)
    assert [point["t"] for point in result["curve"]] == sorted(curve)


def test_no_rows_is_a_user_error():
    with pytest.raises(UserError, match=r"no held-out clean rows .* clean_share"):
        choose_t(lambda t: (0, 0), [0.5])


@pytest.mark.parametrize(
    ("candidates", "options", "message"),
    [
        ([], {}, "at least one candidate"),
        ([1.5], {}, r"t must be in \[0, 1\]"),
        ([0.5], {"rule": "one_standard_eror"}, "did you mean 'one_standard_error'"),
    ],
)
def test_wrong_use_is_an_error(candidates, options, message):
    with pytest.raises(ValueError, match=message):
        choose_t(lambda t: (5, 10), candidates, **options)


def test_different_numbers_of_rows_are_an_error():
    with pytest.raises(ValueError, match="different numbers of rows"):
        choose_t(lambda t: (1, int(t * 10)), [0.5, 0.6])
