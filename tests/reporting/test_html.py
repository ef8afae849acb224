"""Tables as a script sorts them: every key is a plain number, or empty."""

import re

import pytest

from infoconflict.reporting.html import simple_table, sort_key

MINUS, THIN, DASH = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}", "\N{EN DASH}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f"{MINUS}5.3", "-5.3"),
        ("+12.0", "12.0"),
        (f"12{THIN}345", "12345"),
        ("0.9 [0.8, 1.0]", "0.9"),
        ("57 of 600", "57"),
        (DASH, ""),
        ("not computed", ""),
        ("", ""),
    ],
)
def test_sort_keys_are_plain_numbers(text, key):
    assert sort_key(text) == key


def test_a_table_has_keys_and_groups():
    rows = [["a", f"{MINUS}5.3"], ["b", DASH]]
    text = simple_table("Two.", ["Name", "Difference"], rows, numbers=frozenset({1}), groups=["ASR", "CDA"])
    assert re.findall(r'data-sort="([^"]*)"', text) == ["-5.3", ""]
    assert re.findall(r'<tr data-group="(\w+)">', text) == ["ASR", "CDA"]
    assert f">{MINUS}5.3<" in text
