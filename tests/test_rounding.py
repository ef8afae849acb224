"""Numbers are rounded as people do."""

import pytest

from infoconflict.rounding import rounded, signed


@pytest.mark.parametrize(
    ("hits", "total", "text"), [(23, 80, "28.8"), (563, 2000, "28.2"), (1, 3, "33.3"), (0, 5, "0.0"), (5, 5, "100.0")]
)
def test_half_goes_up(hits, total, text):
    assert rounded(100 * hits / total) == text
    assert rounded(-100 * hits / total) == (f"-{text}" if hits else text)


def test_every_half_of_a_small_count_goes_up():
    halves = [(hits, total) for total in range(1, 401) for hits in range(total) if (2000 * hits) % total == 0]
    ties = [(hits, total) for hits, total in halves if (2000 * hits // total) % 2]
    assert len(ties) > 100
    for hits, total in ties:
        tenths = (2000 * hits // total + 1) // 2
        assert rounded(100 * hits / total) == f"{tenths // 10}.{tenths % 10}"


def test_a_difference_has_a_sign_but_zero_has_no_minus():
    assert [signed(value) for value in (4.25, -4.25, -0.04, 0)] == ["+4.3", "\N{MINUS SIGN}4.3", "+0.0", "+0.0"]
    assert signed(2.964, 2) == "+2.96"
    assert rounded(12.5, 0) == "13"
