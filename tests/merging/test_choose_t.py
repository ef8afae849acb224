"""The rule that chooses t, on made-up curves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.errors import UserError
from infoconflict.merging.choose_t import choose_t, choose_t_by_likelihood, standard_error


def rights(hits: int, total: int) -> list[bool]:
    return [row < hits for row in range(total)]


def choose(curve: dict[float, int], total: int, **options):
    return choose_t(lambda t: rights(curve[t], total), list(curve), **options)


def test_worked_example():
    # Best: 90 of 100; its standard error is sqrt(.885 * .115 / 100) = .032, so 87 is as good and 86 is not.
    result = choose({0.5: 88, 0.6: 90, 0.7: 87, 0.8: 86, 0.9: 60}, 100, merge="linear", suspect=rights(91, 100))
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
    assert choose_t(lambda t: rights(3, 10), [0.5, 0.5])["curve"] == [{"t": 0.5, "hits": 3, "total": 10}]


def test_each_candidate_is_scored_once_in_ascending_order():
    asked = []
    choose_t(lambda t: asked.append(t) or rights(5, 10), [0.9, 0.5, 0.7, 0.5])
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
        choose_t(lambda t: [], [0.5])


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
        choose_t(lambda t: rights(5, 10), candidates, **options)


def test_different_numbers_of_rows_are_an_error():
    with pytest.raises(ValueError, match="different numbers of rows"):
        choose_t(lambda t: rights(1, int(t * 10)), [0.5, 0.6])


# --- by a paired test ---------------------------------------------------------------------------------------------------


def test_worked_example_of_the_paired_test():
    # Against 0.5, right on the first 18 of 20 rows: 0.7 misses five of these, p = 2 / 2**5 = .0625; 0.9 misses six, p = 2 / 2**6.
    rows = {t: [False] * missed + [True] * (18 - missed) + [False] * 2 for t, missed in ((0.5, 0), (0.7, 5), (0.9, 6))}
    result = choose_t(lambda t: rows[t], list(rows), rule="paired_test")
    assert result["t"] == 0.7
    assert [(point["hits"], point["p"]) for point in result["curve"]] == [(18, 1.0), (13, 0.0625), (12, 0.03125)]
    # One standard error of 18 of 20 is 1.5 rows.
    assert choose_t(lambda t: rows[t], list(rows))["t"] == 0.5


def test_rows_that_change_sides_are_a_doubt():
    # Six rows fewer again, but of eighteen that changed: six one way, twelve the other.
    rows = {0.5: [True] * 18 + [False] * 6, 0.9: [True] * 6 + [False] * 12 + [True] * 6}
    assert choose_t(lambda t: rows[t], list(rows), rule="paired_test")["t"] == 0.9


@given(st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=30))
def test_what_is_chosen_is_the_largest_that_is_not_worse(rows):
    right = dict(zip((0.5, 0.7, 0.9), zip(*rows, strict=True), strict=True))
    result = choose_t(lambda t: list(right[t]), list(right), rule="paired_test")
    best = max(sum(found) for found in right.values())
    assert result["t"] >= max(t for t, found in right.items() if sum(found) == best)
    assert all(point["p"] < 0.05 for point in result["curve"] if point["t"] > result["t"])


# --- by likelihood ----------------------------------------------------------------------------------------------------


def by_likelihood(rows: dict[float, list[float]], **options):
    return choose_t_by_likelihood(lambda t: rows[t], list(rows), **options)


def test_worked_example_of_likelihoods():
    # Against 0.5, the best: 0.7 loses .1, .3, .2 with error .1 / sqrt(3) = .058, and is out; 0.9 loses -.4, .8, .2 with
    # error .6 / sqrt(3) = .35, more than its mean loss of .2.
    rows = {0.5: [-1.0, -2.0, -3.0], 0.7: [-1.1, -2.3, -3.2], 0.9: [-0.6, -2.8, -3.2]}
    result = by_likelihood(rows, merge="linear", suspect=[-1.0, -1.0, -4.0])
    assert result["t"] == 0.9
    assert by_likelihood({t: rows[t] for t in (0.5, 0.7)})["t"] == 0.5
    assert result["merge"] == "linear"
    assert result["measure"] == "log_likelihood"
    assert result["suspect"] == {"mean": -2.0, "rows": 3}
    assert [point["t"] for point in result["curve"]] == [0.5, 0.7, 0.9]
    assert result["curve"][1]["mean"] == pytest.approx(-2.2)
    assert result["curve"][1]["loss"] == pytest.approx(0.2)
    assert result["curve"][1]["standard_error"] == pytest.approx(0.1 / 3**0.5)


def test_the_paired_test_of_likelihoods_is_of_1_96_errors():
    # 0.7 of the worked example loses .2 with an error of .058, 3.5 errors; this one loses .1 with .058, 1.7 errors.
    rows = {0.5: [-1.0, -2.0, -3.0], 0.7: [-1.0, -2.2, -3.1]}
    assert by_likelihood(rows)["t"] == 0.5
    assert by_likelihood(rows, rule="paired_test")["t"] == 0.7
    assert by_likelihood({0.5: [-1.0, -2.0, -3.0], 0.7: [-1.1, -2.3, -3.2]}, rule="paired_test")["t"] == 0.5


def test_rows_that_differ_from_each_other_are_no_doubt_about_candidates():
    rows = {0.5: [-1.0, -5.0, -9.0, -2.0], 0.9: [-1.1, -5.1, -9.1, -2.12]}
    assert by_likelihood(rows)["t"] == 0.5


def test_equal_likelihoods_give_the_largest_and_one_row_leaves_no_doubt():
    assert by_likelihood({0.5: [-1.0, -2.0], 0.8: [-1.0, -2.0]})["t"] == 0.8
    assert by_likelihood({0.5: [-1.0], 0.8: [-1.1]})["t"] == 0.5


@given(
    rows=st.lists(st.tuples(*[st.floats(-5, 0)] * 3), min_size=2, max_size=8),
    shift=st.floats(-3, 3),
    order=st.permutations([0.5, 0.6, 0.9]),
)
def test_what_all_candidates_have_in_common_decides_nothing(rows, shift, order):
    by_t = {t: [row[at] for row in rows] for at, t in enumerate([0.5, 0.6, 0.9])}
    chosen = by_likelihood(by_t)
    assert chosen["t"] == by_likelihood({t: by_t[t] for t in order})["t"]
    best = max(sum(values) for values in by_t.values())
    assert min(point["loss"] for point in chosen["curve"]) >= -1e-9
    if len({sum(values) for values in by_t.values()}) == 3:
        moved = by_likelihood({t: [value + shift for value in values] for t, values in by_t.items()})
        losses = [(point["loss"], point["standard_error"]) for point in chosen["curve"]]
        if all(abs(loss - error) > 1e-6 for loss, error in losses if loss):
            assert moved["t"] == chosen["t"]
    assert sum(by_t[chosen["t"]]) <= best + 1e-9


def test_likelihoods_without_rows_or_with_different_rows():
    with pytest.raises(UserError, match="has no held-out clean rows"):
        by_likelihood({0.5: []})
    with pytest.raises(ValueError, match="different numbers of rows"):
        by_likelihood({0.5: [-1.0], 0.6: [-1.0, -2.0]})
    with pytest.raises(ValueError, match="unknown rule"):
        by_likelihood({0.5: [-1.0]}, rule="best")
