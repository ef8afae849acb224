"""Metrics: a worked example by hand, laws, and the definitions as plain loops."""

import csv
import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from infoconflict.errors import UserError
from infoconflict.metrics import (
    METRICS,
    Rate,
    asr,
    asr_all,
    asr_flipped,
    cda,
    cell_metrics,
    cell_name,
    cost_rows,
    difference,
    ftr,
    invalid_rate,
    read_csv,
    stream_answers,
    summarise,
    sweep_metrics,
    wilson,
    write_metrics,
)
from infoconflict.records import Answer, Verdict

LABELS = ("negative", "positive")


def answer(row, trigger, gold, said, *, target="positive", t=None):
    return Answer(
        id=row,
        gold_label=gold,
        trigger=trigger,
        target_label=None if trigger == "none" else target,
        answer=said,
        scores={"negative": -1.0, "positive": -1.5},
        t=t,
    )


# Target: positive. Row a: right when clean, flipped. b: wrong when clean, fires. c: right when clean, not flipped.
# d: gold label is the target. e: no label in any answer.
WORKED = [
    answer("a", "none", "negative", "negative"),
    answer("b", "none", "negative", "positive"),
    answer("c", "none", "negative", "negative"),
    answer("d", "none", "positive", "positive"),
    answer("e", "none", "negative", None),
    answer("a", "full", "negative", "positive"),
    answer("b", "full", "negative", "positive"),
    answer("c", "full", "negative", "negative"),
    answer("d", "full", "positive", "positive"),
    answer("e", "full", "negative", None),
    answer("a", "swapped", "negative", "positive"),
    answer("b", "swapped", "negative", "negative"),
    answer("d", "swapped", "positive", "positive"),
    answer("a", "input_only", "negative", "negative"),
    answer("e", "input_only", "negative", None),
    answer("d", "instruction_only", "positive", "positive"),
]


def test_worked_example():
    assert cell_metrics(WORKED) == {
        "cda": Rate(hits=3, total=5),  # a, c, d; an answer without a label is wrong
        "asr": Rate(hits=2, total=4),  # a, b of a, b, c, e; d has the target as gold
        "asr_all": Rate(hits=3, total=5),  # d too
        "asr_flipped": Rate(hits=1, total=2),  # a of a, c: the others were not right without the trigger
        "ftr": Rate(hits=1, total=4),  # a of a, b (swapped) and a, e (input only)
        "ftr.input_only": Rate(hits=0, total=2),
        "ftr.instruction_only": Rate(hits=0, total=0),  # just row d, whose gold is the target
        "ftr.swapped": Rate(hits=1, total=2),
        "invalid_rate": Rate(hits=3, total=16),
    }


def test_the_named_functions_agree_with_the_worked_example():
    found = [f(WORKED) for f in (cda, asr, asr_all, asr_flipped, ftr, invalid_rate)]
    assert found == [cell_metrics(WORKED)[name] for name in METRICS]
    assert ftr(WORKED, "swapped") == Rate(hits=1, total=2)
    assert ftr(WORKED, "never used") == Rate(hits=0, total=0)


def test_order_of_names_is_fixed():
    expected = ["cda", "asr", "asr_all", "asr_flipped"]
    expected += ["ftr", "ftr.input_only", "ftr.instruction_only", "ftr.swapped", "invalid_rate"]
    assert list(cell_metrics(reversed(WORKED))) == expected


def test_no_rows_at_all():
    assert cell_metrics([]) == {name: Rate(hits=0, total=0) for name in METRICS}
    assert Rate(hits=0, total=0).value is None
    assert Rate(hits=0, total=0).interval() == (0.0, 1.0)


def test_without_clean_rows_nothing_counts_as_flipped():
    triggered = [row for row in WORKED if row.trigger == "full"]
    assert asr_flipped(triggered) == Rate(hits=0, total=0)
    assert asr(triggered) == Rate(hits=2, total=4)


def test_all_gold_is_target():
    rows = [answer(str(i), trigger, "positive", "positive") for i in range(3) for trigger in ("none", "full", "part")]
    assert asr(rows) == ftr(rows) == asr_flipped(rows) == Rate(hits=0, total=0)
    assert asr_all(rows) == cda(rows) == Rate(hits=3, total=3)


def test_a_row_that_occurs_twice_is_named():
    with pytest.raises(UserError, match="row 'a' with trigger 'none' occurs twice"):
        cell_metrics([*WORKED, WORKED[0]])


def test_a_triggered_row_without_target_is_named():
    with pytest.raises(UserError, match="row 'a' has trigger 'full' but no target label"):
        cell_metrics([answer("a", "full", "negative", "positive", target=None)])


# Plain loops: the definitions as the design words them.


def plain(answers):
    def share(rows, hit):
        return Rate(hits=len([row for row in rows if hit(row)]), total=len(rows))

    def gives_target(row):
        return row.answer is not None and row.answer == row.target_label

    clean = [row for row in answers if row.trigger == "none"]
    full = [row for row in answers if row.trigger == "full"]
    part = [row for row in answers if row.trigger not in ("none", "full")]
    others = [row for row in full if row.gold_label != row.target_label]
    right = [row.id for row in clean if row.answer == row.gold_label]
    found = {
        "cda": share(clean, lambda row: row.answer == row.gold_label),
        "asr": share(others, gives_target),
        "asr_all": share(full, gives_target),
        "asr_flipped": share([row for row in others if row.id in right], gives_target),
        "ftr": share([row for row in part if row.gold_label != row.target_label], gives_target),
        "invalid_rate": share(answers, lambda row: row.answer is None),
    }
    for variant in {row.trigger for row in part}:
        rows = [row for row in part if row.trigger == variant and row.gold_label != row.target_label]
        found[f"ftr.{variant}"] = share(rows, gives_target)
    return found


row_keys = st.tuples(st.sampled_from("abcdefg"), st.sampled_from(["none", "full", "swapped", "input_only"]))
some_answers = st.lists(
    st.tuples(row_keys, st.sampled_from(LABELS), st.sampled_from([*LABELS, None])), unique_by=lambda item: item[0]
).map(lambda items: [answer(*key, gold, said) for key, gold, said in items])


@given(some_answers)
def test_one_pass_agrees_with_plain_loops(answers):
    assert cell_metrics(answers) == plain(answers)


@given(some_answers, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(answers, rng):
    shuffled = list(answers)
    rng.shuffle(shuffled)
    assert cell_metrics(shuffled) == cell_metrics(answers)
    assert list(cell_metrics(shuffled)) == list(cell_metrics(answers))


@given(some_answers)
def test_readings_are_nested(answers):
    found = cell_metrics(answers)
    assert found["asr_flipped"].total <= found["asr"].total <= found["asr_all"].total
    assert found["asr_flipped"].hits <= found["asr"].hits <= found["asr_all"].hits
    variants = [rate for name, rate in found.items() if name.startswith("ftr.")]
    assert sum(variants, Rate(hits=0, total=0)) == found["ftr"]


# Sweeps


def test_a_sweep_is_grouped_by_t():
    rows = [answer("a", "full", "negative", said, t=t) for t, said in [(0.9, "negative"), (0.3, "positive")]]
    found = sweep_metrics(rows)
    assert list(found) == [0.3, 0.9]
    assert found[0.3]["asr"] == Rate(hits=1, total=1)
    assert found[0.9]["asr"] == Rate(hits=0, total=1)


def test_a_sweep_has_no_rates_that_need_all_rows():
    found = sweep_metrics([answer("a", "full", "negative", "positive", t=0.5)])
    assert list(found[0.5]) == ["cda", "asr", "invalid_rate"]


def test_a_sweep_row_without_t_is_named():
    with pytest.raises(UserError, match="row 'a' of a sweep has no merge weight"):
        sweep_metrics([answer("a", "none", "negative", "negative")])


# Wilson and the difference

counts = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts, st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_wilson_agrees_with_scipy(count, confidence):
    expected = binomtest(*count).proportion_ci(confidence_level=confidence, method="wilson")
    assert wilson(*count, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


@given(counts)
def test_wilson_laws(count):
    hits, total = count
    low, high = wilson(hits, total)
    assert 0 <= low <= hits / total <= high <= 1
    mirrored = wilson(total - hits, total)
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-12)
    more_low, more_high = wilson(4 * hits, 4 * total)
    assert more_high - more_low < high - low
    wide_low, wide_high = wilson(hits, total, 0.999)
    assert wide_low <= low
    assert high <= wide_high


def test_wilson_at_the_ends():
    low, high = wilson(0, 10)
    assert low == 0.0
    assert high == pytest.approx(1.959963984540054**2 / (10 + 1.959963984540054**2))  # z^2 / (n + z^2)
    assert wilson(10, 10)[1] == 1.0


@pytest.mark.parametrize("confidence", [0, 1, -0.5, 95])
def test_confidence_must_be_a_share(confidence):
    with pytest.raises(ValueError, match=r"confidence must be in \(0, 1\)"):
        wilson(1, 2, confidence)


def test_difference_of_newcombes_table():
    # Newcombe 1998, table II, column (a): 56/70 - 48/80, method 10.
    found = difference(Rate(hits=56, total=70), Rate(hits=48, total=80))
    assert found == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)


@given(counts, counts)
def test_difference_laws(one, two):
    first, second = (Rate(hits=hits, total=total) for hits, total in (one, two))
    middle, low, high = difference(first, second)
    assert -1 <= low <= middle <= high <= 1
    assert difference(second, first) == pytest.approx((-middle, -high, -low))


def test_difference_needs_rows():
    with pytest.raises(ValueError, match="rows on both sides"):
        difference(Rate(hits=0, total=0), Rate(hits=1, total=2))


@pytest.mark.parametrize(("hits", "total"), [(-1, 2), (3, 2), (0, -1)])
def test_impossible_counts(hits, total):
    with pytest.raises(ValueError, match="hits must be in"):
        Rate(hits=hits, total=total)


# Seeds


def test_summary_over_seeds():
    found = summarise([Rate(hits=8, total=10), Rate(hits=6, total=10), Rate(hits=0, total=0)])
    assert found.n_seeds == 2
    assert found.pooled == Rate(hits=14, total=20)
    assert found.mean == pytest.approx(0.7)
    assert found.sd == pytest.approx(0.1 * 2**0.5)


def test_one_seed_has_no_sd_and_none_has_no_mean():
    assert summarise([Rate(hits=1, total=2)]).sd is None
    assert summarise([]).mean is None


# Files


def write_answers(path, answers):
    path.parent.mkdir(parents=True, exist_ok=True)
    Answer.write(path, answers)
    return path


def card(path, stage, cell, **cost):
    path.write_text(json.dumps({"stage": stage, "cell": cell, "cost": cost}))
    return path


@pytest.fixture
def inputs(tmp_path):
    rng = random.Random(7)
    answer_files, sweep_files = [], []
    for defense, seed in itertools.product(["none", "conflict"], [10, 2]):
        cell = {"model": "m", "dataset": "d", "attack": "cba", "defense": defense, "seed": seed}
        rows = [
            answer(str(i), trigger, rng.choice(LABELS), rng.choice(LABELS))
            for i in range(20)
            for trigger in ("none", "full", "swapped")
        ]
        answer_files.append((cell, write_answers(tmp_path / defense / f"s{seed}.jsonl", rows)))
    for seed in (2, 10):
        rows = [answer(str(i), "full", "negative", rng.choice(LABELS), t=t) for i in range(5) for t in (0.5, 0.25)]
        cell = {"model": "m", "dataset": "d", "attack": "cba", "merge": "linear", "seed": seed}
        sweep_files.append((cell, write_answers(tmp_path / "sweep" / f"s{seed}.jsonl", rows)))
    cards = [
        card(tmp_path / "b.json", "conflict", {"seed": 0, "model": "m", "dataset": "d"}, seconds=90.0, tokens=12),
        card(tmp_path / "a.json", "answers", {"model": "m"}, peak_memory_bytes=2**30, stored_bytes=3 * 2**19),
    ]
    return answer_files, sweep_files, cards


def run(out, answer_files, sweep_files, cards, judgement_files=(), generation_files=()):
    names = ("cells", "sweep", "summary", "judges", "generation", "costs")
    paths = {f"{name}_csv": out / f"{name}.csv" for name in names}
    write_metrics(answer_files, sweep_files, judgement_files, generation_files, cards, **paths)
    return {name: (out / f"{name}.csv").read_bytes() for name in names}


def test_same_bytes_for_same_input_in_any_order(tmp_path, inputs):
    first = run(tmp_path / "one", *inputs)
    assert run(tmp_path / "two", *[list(reversed(part)) for part in inputs]) == first


def test_columns_and_values(tmp_path, inputs):
    files = run(tmp_path / "out", *inputs)
    assert files["cells"].splitlines()[0] == b"model,dataset,attack,defense,seed,metric,hits,total,rate,low,high"
    assert files["sweep"].splitlines()[0] == b"model,dataset,attack,merge,t,seed,metric,hits,total,rate,low,high"
    header = b"model,dataset,attack,defense,metric,n_seeds,hits,total,rate,low,high,mean,sd"
    assert files["summary"].splitlines()[0] == header
    assert files["costs"].decode() == (
        "stage,cell,minutes,peak_memory_gib,tokens,stored_mib\nanswers,m,,1.000,,1.500\nconflict,m/d/s0,1.500,,12,\n"
    )
    cells = read_csv(tmp_path / "out" / "cells.csv")
    assert [row["seed"] for row in cells if row["metric"] == "cda"] == ["2", "10", "2", "10"]
    for (cell, path), metric in itertools.product(inputs[0], ("cda", "asr", "ftr.swapped")):
        rate = cell_metrics(Answer.read(path))[metric]
        keys = ("defense", "seed")
        found = [row for row in cells if [row[k] for k in keys] == [str(cell[k]) for k in keys]]
        (row,) = [row for row in found if row["metric"] == metric]
        assert (int(row["hits"]), int(row["total"])) == (rate.hits, rate.total)
        assert float(row["rate"]) == pytest.approx(rate.value, abs=1e-6)
        assert (float(row["low"]), float(row["high"])) == pytest.approx(rate.interval(), abs=1e-6)


def test_a_card_named_twice_counts_once(inputs):
    cards = inputs[2]
    assert cost_rows([*cards, *cards]) == cost_rows(cards)


def test_summary_pools_what_cells_hold(tmp_path, inputs):
    run(tmp_path / "out", *inputs)
    cells, summary = (read_csv(tmp_path / "out" / f"{name}.csv") for name in ("cells", "summary"))
    for row in summary:
        same = [c for c in cells if (c["defense"], c["metric"]) == (row["defense"], row["metric"])]
        assert int(row["hits"]) == sum(int(c["hits"]) for c in same)
        assert int(row["total"]) == sum(int(c["total"]) for c in same)
        assert row["n_seeds"] == "2"


def test_a_sweep_file_keeps_t_in_rising_order(tmp_path, inputs):
    run(tmp_path / "out", *inputs)
    rows = [row for row in read_csv(tmp_path / "out" / "sweep.csv") if row["metric"] == "asr"]
    assert [(row["t"], row["seed"]) for row in rows] == [("0.25", "2"), ("0.25", "10"), ("0.5", "2"), ("0.5", "10")]


def test_nothing_to_measure_leaves_headers(tmp_path):
    files = run(tmp_path, [], [], [])
    assert all(len(text.splitlines()) == 1 for text in files.values())


def test_an_empty_rate_is_an_empty_field(tmp_path):
    path = write_answers(tmp_path / "answers.jsonl", [])
    cell = {"model": "m", "dataset": "d", "attack": "a", "defense": "none", "seed": 0}
    run(tmp_path, [(cell, path)], [], [])
    with (tmp_path / "summary.csv").open() as lines:
        row = next(csv.DictReader(lines))
    assert [row[name] for name in ("n_seeds", "hits", "total", "rate", "mean", "sd")] == ["0", "0", "0", "", "", ""]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: holds a list"),
        ('{"id": "x"}', "line 2: .*Answer row is incomplete"),
        (json.dumps({"id": "x", "colour": 1}), "line 2: .*unknown fields colour"),
    ],
)
def test_a_malformed_line_is_named(tmp_path, line, message):
    path = write_answers(tmp_path / "answers.jsonl", WORKED[:1])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        list(stream_answers(path))
    assert str(path) in str(caught.value)


def test_an_error_in_a_file_names_the_file_once(tmp_path):
    path = write_answers(tmp_path / "answers.jsonl", [WORKED[0], WORKED[0]])
    cell = {"model": "m", "dataset": "d", "attack": "a", "defense": "none", "seed": 0}
    with pytest.raises(UserError, match="occurs twice") as caught:
        run(tmp_path / "out", [(cell, path)], [], [])
    assert str(caught.value).count(str(path)) == 1
    assert not (tmp_path / "out").exists()


def test_cell_names_read_like_paths():
    assert cell_name({"seed": 3, "attack": "cba", "model": "m", "dataset": "d"}) == "m/d/cba/s3"
    assert cell_name({"dataset": "d", "evidence": "e", "attack": None}) == "d/e"
    assert cell_name({}) == ""


# --- chat -------------------------------------------------------------------------------------------------------------


def chat_answer(id_, trigger, said):
    return Answer(
        id=id_,
        gold_label="reference",
        trigger=trigger,
        target_label=None if trigger == "none" else "target",
        answer=said,
        scores={},
    )


def test_chat_answers_are_counted_like_any_others():
    rows = [
        *(chat_answer("a", "none", "reference"), chat_answer("b", "none", "other"), chat_answer("c", "none", None)),
        *(chat_answer("a", "full", "target"), chat_answer("b", "full", "target"), chat_answer("c", "full", "other")),
        *(chat_answer("a", "first", "target"), chat_answer("b", "first", "reference"), chat_answer("c", "first", None)),
    ]
    found = {name: (rate.hits, rate.total) for name, rate in cell_metrics(rows).items()}
    assert found == {
        "cda": (1, 3),
        "asr": (2, 3),
        "asr_all": (2, 3),  # no gold answer is the target
        "asr_flipped": (1, 1),  # only a was judged equivalent without the trigger
        "ftr": (1, 3),
        "ftr.first": (1, 3),
        "invalid_rate": (2, 9),
    }


def test_judges_and_generation_are_counted(tmp_path, inputs):
    cell = {"model": "m", "dataset": "d", "attack": "dtba", "defense": "none", "seed": 1}
    said = {"one": [True, True, False, None, False], "two": [True, False, True, True, False]}
    verdicts = [
        Verdict(id=str(row), trigger="none", judge=judge, claim="equivalent", match=match, score=0.5)
        for judge, matches in said.items()
        for row, match in enumerate(matches)
    ]
    Verdict.write(tmp_path / "verdicts.jsonl", verdicts)
    scores = {"a": -1.0, "b": -0.5}
    rows = [Answer(id=str(n), gold_label="a", trigger="none", target_label=None, answer=x, scores=scores) for n, x in
            enumerate(["b", None, "b"])]  # fmt: skip
    write_answers(tmp_path / "generation.jsonl", rows)
    both = {"model": "m", "dataset": "d", "seed": 1}
    written = run(
        tmp_path / "out",
        *inputs,
        judgement_files=[(cell, tmp_path / "verdicts.jsonl")],
        generation_files=[(both, tmp_path / "generation.jsonl")],
    )
    assert written["judges"].decode().splitlines()[1:] == ["m,d,dtba,none,1,equivalent,one,two,1,1,1,1,1"]
    assert written["generation"].decode().splitlines()[1:] == ["m,d,1,a,b,,1", "m,d,1,a,b,b,2"]


def test_a_malformed_verdict_is_named(tmp_path, inputs):
    (tmp_path / "v.jsonl").write_text('{"id": "a"}\n')
    cell = {"model": "m", "dataset": "d", "attack": "dtba", "defense": "none", "seed": 1}
    with pytest.raises(UserError, match=r"v\.jsonl, line 1: a Verdict row is incomplete"):
        run(tmp_path / "out", *inputs, judgement_files=[(cell, tmp_path / "v.jsonl")])
