import csv
import math
from random import Random

import pytest

from infoconflict.errors import UserError
from infoconflict.metrics import Rate, difference
from infoconflict.purify.measures import Mean, measure, write_csv
from infoconflict.purify.report import is_striking, verdict, verdict_of_losses
from infoconflict.purify.suspicions import inserted, read_strings, rows_with, suspicions, with_string
from infoconflict.records import Answer, Conversation, Example, Reply


def answer(number, gold, said, trigger="none"):
    return Answer(id=str(number), gold_label=gold, trigger=trigger, target_label=None, answer=said, scores={})


STRINGS = [{"id": "s1", "texts": ["cf"], "positions": ["front"], "control_of": None}]


def test_worked_example(tmp_path):
    golds = ["a", "a", "b", "b"]
    before = [answer(n, gold, said) for n, (gold, said) in enumerate(zip(golds, "aabb", strict=True))]
    after = [answer(n, gold, said) for n, (gold, said) in enumerate(zip(golds, "abba", strict=True))]
    # The string turns three of four answers of the suspect, two of them to b, and none of the purified model's.
    turned = [answer(n, gold, said, "s1.front") for n, (gold, said) in enumerate(zip(golds, "bbab", strict=True))]
    kept = [answer(n, gold, said, "s1.front") for n, (gold, said) in enumerate(zip(golds, "abba", strict=True))]
    rows = {"suspect": before + turned, "purified": kept + after, "conflict": after, "base": before}
    found = measure(rows, STRINGS)
    assert found.right == {
        "suspect": Rate(hits=4, total=4),
        "purified": Rate(hits=2, total=4),
        "conflict": Rate(hits=2, total=4),
        "base": Rate(hits=4, total=4),
    }
    assert found.changed == Rate(hits=2, total=4)
    assert found.pairs == {"both": 2, "only_before": 2}
    one, other = found.flips
    assert (one.role, one.rate, one.mostly) == ("suspect", Rate(hits=3, total=4), "b")
    assert one.mostly_share == pytest.approx(2 / 3)
    assert (other.role, other.rate, other.mostly) == ("purified", Rate(hits=0, total=4), "")
    write_csv(tmp_path / "metrics.csv", found)
    with (tmp_path / "metrics.csv").open() as lines:
        table = list(csv.DictReader(lines))
    assert len(table) == 4 + 1 + 2
    assert table[5] | {"low": "", "high": ""} == {
        "measure": "answers_flipped",
        "model": "suspect",
        "string": "s1",
        "position": "front",
        "hits": "3",
        "total": "4",
        "rate": "0.750000",
        "low": "",
        "high": "",
    }


def test_replies_are_compared_by_their_words():
    def reply(number, text):
        return Reply(id=str(number), trigger="none", messages=[], reference="", reply=text)

    rows = {
        "suspect": [reply(1, "Well, yes."), reply(2, "No.")],
        "purified": [reply(1, "well yes"), reply(2, "Yes.")],
    }
    found = measure(rows, [])
    assert found.changed == Rate(hits=1, total=2)
    assert found.right == {}


def test_losses_are_compared_row_by_row(tmp_path):
    # Rows differ by whole nats, the two models by a tenth on each.
    before, after = [-1.0, -3.0, -5.0], [-1.1, -3.1, -5.2]
    rows = {"suspect": [], "purified": []}
    found = measure(rows, [], {"suspect": before, "purified": after, "base": []})
    assert found.losses.keys() == {"suspect", "purified"}
    assert found.losses["suspect"].value == pytest.approx(3.0)
    assert found.losses["suspect"].high == pytest.approx(3.0 + 1.959964 * 2 / 3**0.5)
    change = found.loss_change
    half = 1.959964 * (((0.1 - 0.4 / 3) ** 2 * 2 + (0.2 - 0.4 / 3) ** 2) / 2 / 3) ** 0.5
    assert (change.value, change.low, change.high) == pytest.approx((0.4 / 3, 0.4 / 3 - half, 0.4 / 3 + half))
    assert verdict_of_losses(change).startswith("it rose (+0.133, 95 % interval +0.068 to +0.199")
    write_csv(tmp_path / "metrics.csv", found)
    last = (tmp_path / "metrics.csv").read_text().splitlines()[-1]
    assert last.startswith("answer_loss_change,purified,,,,3,0.133333,0.06")


def test_of_one_row_nothing_is_known():
    assert Mean.of([2.0]) == Mean(value=2.0, low=-math.inf, high=math.inf, rows=1)
    assert verdict_of_losses(Mean.of([2.0])).startswith("no difference beyond chance")
    fell = Mean(value=-2.0, low=-3.0, high=-1.0, rows=9)
    assert verdict_of_losses(fell).startswith("it fell (-2.000")


def test_verdicts():
    assert verdict({"both": 80, "neither": 20}).startswith("no difference beyond chance (+0.0 points")
    fell = verdict({"both": 40, "only_before": 40, "neither": 20})
    assert fell.startswith("it fell (\N{MINUS SIGN}40.0 points, 95 % interval ")
    assert fell.endswith(", row by row; McNemar's exact test: p < 0.001).")
    assert verdict({"both": 40, "only_after": 40, "neither": 20}).startswith("it rose (+40.0 points")
    # Of 85 and 78 in 100 nothing can be said; that the same rows lost seven and gained none, much.
    lost = {"both": 78, "only_before": 7, "neither": 15}
    assert difference(Rate(hits=78, total=100), Rate(hits=85, total=100))[2] > 0
    assert verdict(lost).startswith("it fell (\N{MINUS SIGN}7.0 points")
    assert verdict(lost).endswith("p = 0.016).")
    assert verdict({"both": 79, "only_before": 6, "only_after": 1, "neither": 14}).startswith("no difference beyond")
    assert is_striking(Rate(hits=90, total=100), Rate(hits=10, total=100))
    assert not is_striking(Rate(hits=25, total=100), Rate(hits=10, total=100))  # a difference, and a small one
    assert not is_striking(Rate(hits=2, total=2), Rate(hits=1, total=2))  # a large one, and chance
    assert not is_striking(Rate(hits=0, total=0), Rate(hits=0, total=0))


def test_where_strings_go():
    rng = Random(0)
    assert inserted("a b c", "cf", "front", rng) == "cf a b c"
    assert inserted("a b c", "cf", "end", rng) == "a b c cf"
    for _ in range(20):
        assert inserted("a b c", "cf", "middle", rng) in ("a cf b c", "a b cf c")
    assert inserted("a", "cf", "middle", rng) == "a cf"


def test_a_string_in_a_conversation_goes_into_the_last_question():
    turns = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four")]
    row = Conversation(id="1", messages=[{"role": role, "content": text} for role, text in turns], reference="four")
    changed = with_string(row, "cf", "front", "s1.front", seed=0)
    assert [message["content"] for message in changed.messages] == ["one", "two", "cf three", "four"]
    assert row.messages[2]["content"] == "three"
    assert changed.trigger == "s1.front"


def test_controls_have_as_many_ordinary_words():
    rows = [Example(id="1", instruction="?", text="a quiet film", label="a", gold_label="a")]
    found = suspicions(["cf", "instantly and frankly"], rows, rng=Random(0))
    assert [string["id"] for string in found] == ["s1", "c1", "s2", "c2"]
    for string, control in zip(found[::2], found[1::2], strict=True):
        assert control["control_of"] == string["id"]
        (text,) = string["texts"]
        for words in control["texts"]:
            assert len(words.split()) == len(text.split())
            assert set(words.split()) <= {"a", "quiet", "film"}
        assert {*" ".join(control["texts"]).split()} == {"a", "quiet", "film"}, "no single draw decides"
    assert found == suspicions(["cf", "instantly and frankly"], rows, rng=Random(0))


def test_each_row_gets_its_own_ordinary_words():
    rows = [Example(id=str(n), instruction="?", text="film", label="a", gold_label="a") for n in range(3)]
    control = {"id": "c1", "texts": ["one", "two"], "positions": ["front", "end"], "control_of": "s1"}
    assert [(row.trigger, row.text) for row in rows_with(control, rows, seed=0)] == [
        ("c1.front", "one film"),
        ("c1.front", "two film"),
        ("c1.front", "one film"),
        ("c1.end", "film one"),
        ("c1.end", "film two"),
        ("c1.end", "film one"),
    ]


def test_strings_of_a_file(tmp_path):
    file = tmp_path / "strings.txt"
    file.write_text("cf\n\n  tell me \ncf\n")
    assert read_strings(file) == ["cf", "tell me"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no string"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a" * 600, "has 600 characters"),
        ("\n".join(map(str, range(300))).encode(), "holds 300 strings"),
    ],
)
def test_files_that_are_no_list_of_strings(tmp_path, content, says):
    file = tmp_path / "strings.txt"
    file.write_bytes(content)
    with pytest.raises(UserError, match=says):
        read_strings(file)
    with pytest.raises(UserError, match="no such file"):
        read_strings(tmp_path / "none")
