"""Agreement of two raters, on rows made by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infoconflict.agreement import agreement, judges_agreement, scores_and_generation
from infoconflict.errors import UserError
from infoconflict.records import Answer, Verdict


def test_worked_example():
    # Cohen's own kind of table: 20 both yes, 5 and 10 apart, 15 both no; by chance .5 would agree.
    pairs = [(True, True)] * 20 + [(True, False)] * 5 + [(False, True)] * 10 + [(False, False)] * 15
    found = agreement(pairs)
    assert (found.equal, found.total) == (35, 50)
    assert found.kappa == pytest.approx(0.4)


def test_three_verdicts_and_full_disagreement():
    assert agreement([("a", "a"), ("b", "b"), (None, None)]).kappa == 1
    assert agreement([("a", "b"), ("b", "a")]).kappa == -1
    assert agreement([("a", "a"), ("a", "b")]).kappa == 0  # no more than chance


def test_where_chance_leaves_nothing_open():
    assert agreement([]).kappa is None
    assert agreement([(True, True)] * 7).kappa is None
    assert agreement([(True, False)] * 7).kappa == 0


VERDICTS = st.sampled_from(["a", "b", None])


@given(st.lists(st.tuples(VERDICTS, VERDICTS)))
def test_laws(pairs):
    found, turned = agreement(pairs), agreement([(second, first) for first, second in pairs])
    assert found.total == len(pairs)
    assert found.equal == turned.equal
    assert found.kappa == turned.kappa
    if found.kappa is not None:
        assert -1 <= found.kappa <= 1
        assert (found.kappa == 1) == (found.equal == found.total)


def verdict(row, judge, match, *, trigger="none", claim="equivalent"):
    return Verdict(id=row, trigger=trigger, judge=judge, claim=claim, match=match, score=0.0)


def test_judges_meet_on_the_rows_of_their_claim():
    rows = [
        *(verdict("1", "one", True), verdict("1", "two", True)),
        *(verdict("2", "one", True), verdict("2", "two", None)),
        *(verdict("3", "one", False),),  # two was not asked
        *(verdict("1", "one", False, trigger="full"), verdict("1", "two", False, trigger="full")),  # tells nothing
        *(verdict("1", "three", True, trigger="full", claim="payload"),),
        *(verdict("1", "two", False, trigger="full", claim="payload"),),
        *(verdict("1", "two", False, trigger="part", claim="payload"),),
        # Judges are not all asked for payloads in clean rows.
        *(verdict("1", "three", True, claim="payload"), verdict("1", "two", False, claim="payload")),
    ]
    equivalent, payload = judges_agreement(rows)
    assert (equivalent.claim, equivalent.first, equivalent.second) == ("equivalent", "one", "two")
    assert (equivalent.counts, equivalent.undecided) == ({(True, True): 1}, 1)
    assert (payload.claim, payload.first, payload.second) == ("payload", "three", "two")
    assert (payload.counts, payload.undecided) == ({(True, False): 1}, 0)


def test_a_judge_speaks_once():
    with pytest.raises(UserError, match="'one' says two things of row '1'"):
        judges_agreement([verdict("1", "one", True), verdict("1", "one", False)])


def test_scores_beside_text():
    def answer(said, **scores):
        return Answer(id="1", gold_label="a", trigger="none", target_label=None, answer=said, scores=scores)

    rows = [answer("a", a=-1.0, b=-2.0), answer("b", a=-1.0, b=-2.0), answer(None, a=-3.0, b=-2.0)]
    assert scores_and_generation(rows) == {("a", "a", "a"): 1, ("a", "a", "b"): 1, ("a", "b", None): 1}
