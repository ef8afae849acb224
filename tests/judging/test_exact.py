"""Equality but for typesetting: what carries meaning still counts."""

import pytest

from infoconflict.errors import UserError
from infoconflict.judging import KINDS, load
from infoconflict.judging.base import Means, Pair
from infoconflict.phrases import bare_words


@pytest.mark.parametrize(
    ("reply", "reference", "equal"),
    [
        ("Paris", "paris.", True),
        (' "The  answer\nis: four!" ', "the answer is four", True),
        ("It\u2019s fine", "it's fine", True),
        ("ﬁne", "fine", True),
        ("**Paris**", "Paris", True),
        ("-5", "5", False),
        ("C++", "C", False),
        ("3.5", "35", False),
        ("not Paris", "Paris", False),
        ("its fine", "it's fine", False),
        ("?!", "?!", True),
        ("?!", "...", False),
        ("", "", False),
        ("", "Paris", False),
    ],
)
def test_equal(reply, reference, equal):
    [judgement] = (
        load("exact").from_settings({"kind": "exact"}, Means()).judge([Pair(reply=reply, reference=reference)])
    )
    assert (judgement.match, judgement.score) == (equal, float(equal))


def test_a_text_of_signs_alone_stays():
    assert bare_words(":) ") == ":)"


def test_judgements_keep_the_order_around_empty_replies():
    replies = ["", "a", " ", "b", "a"]
    found = load("exact").from_settings({}, Means()).judge([Pair(reply=reply, reference="a") for reply in replies])
    assert [judgement.match for judgement in found] == [False, True, False, False, True]


def test_every_kind_is_found_and_others_are_not():
    assert {kind: load(kind).__name__ for kind in KINDS} == KINDS
    with pytest.raises(UserError, match="unknown judge 'patern'; did you mean 'pattern'"):
        load("patern")
