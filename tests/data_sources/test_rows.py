import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.data.rows import duplicate_key, label_reader, label_text, normal_text
from infoconflict.errors import UserError


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("  a \t film\r\n, good ", "a film , good"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\u00a0b\u2003c", "a b c"),
        (":)", ":)"),
    ],
)
def test_normal_text(raw, text):
    assert normal_text(raw, "row 1") == text


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_normalising_twice_changes_nothing(raw):
    try:
        once = normal_text(raw, "row 1")
    except UserError:
        return
    assert normal_text(once, "row 1") == once


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("", "the text is empty"),
        (" \t\u200b", "the text is empty"),
        (None, "the text is missing"),
        (float("nan"), "the text is missing"),
        (7, "the text is 7, of type int"),
        ("half \ud83d", "the text holds half of a surrogate pair at character 5"),
    ],
)
def test_unusable_text_names_the_row(raw, complaint):
    with pytest.raises(UserError, match=f"^a.csv, line 3: {complaint}"):
        normal_text(raw, "a.csv, line 3")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("It's fine, really!", "it 's fine , really !"),
        ("do n't", "don't"),
        ("a ( small ) film", "a -LRB- small -RRB- film"),
        ("`` good '' \u2026", '"good"...'),
        ("\u201cgood\u201d, it\u2019s", '"good" , it\'s'),
        ("STRASSE", "stra\u00dfe"),
    ],
)
def test_one_text_in_two_spellings_has_one_key(one, other):
    assert duplicate_key(one) == duplicate_key(other)


@pytest.mark.parametrize(("one", "other"), [("i feel fine :)", "i feel fine :("), ("good", "good?"), ("a b", "a c")])
def test_different_texts_have_different_keys(one, other):
    assert duplicate_key(one) != duplicate_key(other)


def test_label_text():
    assert [label_text(raw) for raw in (1, 1.0, "1", " 1 ", True, 1.5)] == ["1", "1", "1", "1", "true", "1.5"]


LABELS = ["negative", "positive"]


@pytest.mark.parametrize(
    ("label_names", "raw", "name"),
    [
        (None, "positive", "positive"),
        (LABELS, 0, "negative"),
        (LABELS, 1.0, "positive"),
        (LABELS, "1", "positive"),
        (LABELS, "negative", "negative"),
        ({"0": "negative", "4": "positive"}, 4, "positive"),
        ({0: "negative", 4: "positive"}, "0", "negative"),
        ({"true": "positive", "false": "negative"}, True, "positive"),
        ({"pos": "positive"}, " pos ", "positive"),
    ],
)
def test_raw_labels_get_their_names(label_names, raw, name):
    assert label_reader(LABELS, label_names)(raw, "row 1") == name


@pytest.mark.parametrize(
    ("label_names", "raw", "complaint"),
    [
        (None, "postive", "unknown label 'postive'; did you mean 'positive'? known: negative, positive"),
        (LABELS, 2, "unknown label '2'; known: negative, positive, 0, 1"),
        (LABELS, -1, "unknown label '-1'; -1 marks a split without labels: name another split; known:"),
        (LABELS, None, "the label is missing"),
        (LABELS, float("nan"), "the label is missing"),
        (LABELS, "", "the label is missing"),
        (["bad", "good"], 0, "label_names turns '0' into 'bad', which is none of the labels negative, positive"),
    ],
)
def test_unknown_labels_name_the_row(label_names, raw, complaint):
    with pytest.raises(UserError, match=f"^row 9: {re.escape(complaint)}"):
        label_reader(LABELS, label_names)(raw, "row 9")
