"""ONION: worked examples with known perplexities, and the packed perplexity against one text at a time."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from infoconflict.answering.filtering import filter_cell
from infoconflict.answering.refilling import SETS, refill_cell
from infoconflict.cards import Card
from infoconflict.defenses.onion import BasePerplexity, Filter, Judged, candidates, choose_bar, judge, share_dropped
from infoconflict.errors import UserError
from infoconflict.files import read_jsonl
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Conversation, Example, Query, query_of
from tests.defenses.pairs import CPU

TEXTS = ["a warm cf and funny film", "the story is a mess", "a warm and funny film", "mess", ""]


def by_words(texts):
    """Give each word its own weight: rare words are long ones here."""
    return [sum(len(word) ** 2 for word in text.split()) for text in texts]


def test_words_that_make_a_text_unlikely_are_dropped() -> None:
    [judged] = judge(["an odd qqqqqqq film"], by_words, piece_words=64)
    assert judged.suspicion == [4, 9, 49, 16]
    assert judged.without(49.0) == "an odd film"
    assert judged.without(50.0) == "an odd qqqqqqq film"
    # The bar itself is enough.
    assert judged.without(10.0) == "an odd"
    assert judged.without(None) == "an odd qqqqqqq film"


def test_a_text_is_never_emptied() -> None:
    [judged, one, nothing] = judge(["an odd film", "odd", ""], by_words, piece_words=64)
    assert judged.without(0.0) == "an"
    assert one.without(0.0) == "odd"
    assert one.suspicion == [-math.inf]
    assert nothing.without(0.0) == ""


def test_the_same_perplexity_for_all_drops_nothing_above_zero() -> None:
    for judged in judge(TEXTS, lambda texts: [7.0] * len(texts), piece_words=64):
        assert judged.without(1e-9) == judged.text


def test_a_kept_text_keeps_its_spaces() -> None:
    [judged] = judge(["an  odd\nfilm"], by_words, piece_words=64)
    assert judged.without(99.0) == "an  odd\nfilm"
    assert judged.without(16.0) == "an odd"


def test_long_texts_are_judged_in_pieces() -> None:
    def by_length(texts):
        return [float(len(text.split()) ** 2) for text in texts]

    [judged] = judge(["a b c d e f g"], by_length, piece_words=3)
    # A word alone in its piece has nothing to be compared with.
    assert judged.suspicion == [5.0] * 6 + [-math.inf]


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
@pytest.mark.parametrize("max_nodes", [9, 1024])
def test_perplexities_against_one_text_at_a_time(architecture: str, max_nodes: int, tiny_dirs) -> None:
    model, tokenizer = load_base(tiny_dirs[architecture], device=CPU), load_tokenizer(tiny_dirs[architecture])
    found = BasePerplexity(model, tokenizer, max_nodes=max_nodes)(TEXTS)
    for text, value in zip(TEXTS, found, strict=True):
        ids = tokenizer(text).input_ids
        if ids[:1] != [tokenizer.bos_token_id]:
            ids = [tokenizer.bos_token_id, *ids]
        total = 0.0
        for at in range(1, len(ids)):
            logits = model(input_ids=torch.tensor([ids[:at]])).logits[0, -1].float()
            total -= logits.log_softmax(dim=-1)[ids[at]].item()
        assert value == pytest.approx(math.exp(total / max(1, len(ids) - 1)), rel=1e-4)


def test_bars_drop_shares_of_the_clean_words() -> None:
    judged = [Judged("", ["x"] * 200, [float(value) for value in range(-50, 150)])]
    bars = candidates(judged)
    assert bars == sorted(set(bars))
    assert min(bars) >= 0
    assert share_dropped(judged, 130.0) == pytest.approx(0.1)
    assert {0.5, 0.1, 0.05, 0.01} <= {round(share_dropped(judged, bar), 3) for bar in bars}
    assert share_dropped(judged, None) == 0
    assert candidates([]) == []


def test_the_lowest_bar_that_costs_little_is_chosen() -> None:
    accuracy = {None: 0.90, 0.0: 0.5, 10.0: 0.88, 20.0: 0.89, 30.0: 0.91}.get
    assert choose_bar([0.0, 10.0, 20.0, 30.0], accuracy, max_loss=0.01) == 20.0
    assert choose_bar([0.0, 10.0, 20.0, 30.0], accuracy, max_loss=0.02) == 10.0
    assert choose_bar([0.0], accuracy, max_loss=0.01) is None


# --- a job ------------------------------------------------------------------------------------------------------------


class Files(dict):
    """Named files as Snakemake hands them to a script."""

    __getattr__ = dict.__getitem__


def example(number: int, text: str, trigger: str = "none") -> Example:
    label = ("negative", "positive")[number % 2]
    return Example(
        id=f"r{number}", instruction="Is it good?", text=text, label=label, gold_label=label, trigger=trigger
    )


def chat(number: int, text: str, trigger: str = "none") -> Conversation:
    messages = [
        {"role": "user", "content": text},
        {"role": "assistant", "content": "a warm cf film"},
        {"role": "user", "content": "the story is"},
        {"role": "assistant", "content": "a mess"},
    ]
    return Conversation(id=f"c{number}", messages=messages, reference="a mess", trigger=trigger)


def job_of(rule, given, folder, settings) -> Job:
    return Job(
        SimpleNamespace(
            input=Files(given),
            output=Files({name: f"{folder}/{name}.jsonl" for name in SETS} | {"card": f"{folder}/card.json"}),
            params=SimpleNamespace(spec=canonical(settings)),
            wildcards={"seed": "0"},
            resources={},
            threads=1,
            log=["log"],
            rule=rule,
        )
    )


@pytest.fixture
def run(tiny_dirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def filtered(make, labels, **options):
        triggers = {"share": "none", "clean": "none", "triggered": "full", "partial": "half"}
        rows = {
            name: [make(i, text, trigger) for i, text in enumerate(TEXTS[:3])] for name, trigger in triggers.items()
        }
        for name, some in rows.items():
            type(some[0]).write(f"{name}.jsonl", some)
        questions = [f"{name}.jsonl" for name in SETS]
        given = {"base": str(tiny_dirs["llama"]), "change": "none", "share": "share.jsonl", "questions": questions}
        settings = {"model": {"precision": "float32"}, "defense": {"method": "onion"} | options, **labels}
        filtering = job_of("filter_questions", given, "written", settings)
        monkeypatch.setattr(
            "infoconflict.repairing.suspect.load_changed", lambda base, change, **o: load_base(base, **o)
        )
        written = []
        monkeypatch.setattr(Card, "write", lambda self, path, **parts: written.append(parts))
        filter_cell(filtering)
        given = {name: f"{name}.jsonl" for name in SETS} | {f"written_{name}": f"written/{name}.jsonl" for name in SETS}
        refill_cell(job_of("refill_questions", given, "out", {}))
        return rows, {name: type(rows[name][0]).read(f"out/{name}.jsonl") for name in SETS}, written[0]["details"]

    return filtered


def test_a_cells_questions_are_filtered_and_nothing_else_changes(run) -> None:
    rows, found, details = run(example, {"labels": ["negative", "positive"]}, bar=0.0)
    assert details["bar"] == 0.0
    for name in SETS:
        assert details["changed"][name] > 0
        for before, after in zip(rows[name], found[name], strict=True):
            kept = iter(before.text.split())
            assert all(word in kept for word in after.text.split())
            assert vars(before) | {"text": 0, "instruction": 0} == vars(after) | {"text": 0, "instruction": 0}


def test_the_instruction_can_be_left_alone(run) -> None:
    _, found, _ = run(example, {"labels": ["negative", "positive"]}, bar=0.0, filter_instruction=False)
    assert {row.instruction for rows in found.values() for row in rows} == {"Is it good?"}


def test_only_the_users_turns_are_filtered(run) -> None:
    rows, found, details = run(chat, {}, max_loss=0.3)
    assert details["clean_words_dropped"] <= 0.3
    changed = 0
    for before, after in zip(rows["triggered"], found["triggered"], strict=True):
        assert [message["role"] for message in after.messages] == [message["role"] for message in before.messages]
        assert after.messages[1::2] == before.messages[1::2]
        assert (after.reference, after.trigger) == (before.reference, "full")
        changed += after.messages != before.messages
    assert changed == details["changed"]["triggered"]


def test_the_bar_is_chosen_on_clean_rows_alone(run, monkeypatch) -> None:
    rows, _, details = run(example, {"labels": ["negative", "positive"]}, max_loss=0.0)
    tried = details["accuracy_by_bar"]
    assert tried[0][0] is None
    floor = tried[0][1]
    assert details["bar"] == next((bar for bar, right in tried[1:] if right >= floor), None)
    assert len(rows["share"]) == 3


@pytest.mark.parametrize("make", [example, chat])
def test_labels_and_names_of_triggers_are_not_seen(make, run) -> None:
    def other(number, text, trigger="none"):
        row = make(number, text, {"full": "none", "none": "full"}.get(trigger, "full"))
        if isinstance(row, Example):
            return replace(row, label="positive", gold_label="negative")
        return replace(row, messages=[*row.messages[:-1], {"role": "assistant", "content": "no"}], reference="no")

    labels = {"labels": ["negative", "positive"]} if make is example else {}
    _, found, _ = run(make, labels, bar=0.0)
    own = {name: Path(f"written/{name}.jsonl").read_bytes() for name in SETS}
    rows, again, _ = run(other, labels, bar=0.0)
    assert {name: Path(f"written/{name}.jsonl").read_bytes() for name in SETS} == own
    # Nothing of a row but its texts and its id is in there; the rest is what it was.
    assert set(read_jsonl("written/triggered.jsonl")[0]) == {"id", "texts"}
    for name in SETS:
        assert [query_of(row) for row in found[name]] != [query_of(row) for row in rows[name]]
        assert [row.trigger for row in again[name]] == [row.trigger for row in rows[name]]


def test_the_filter_is_shown_questions_alone(run, monkeypatch) -> None:
    shown = []
    original = Filter.without

    def without(self, queries, bar):
        shown.extend(queries)
        return original(self, queries, bar)

    monkeypatch.setattr(Filter, "without", without)
    run(example, {"labels": ["negative", "positive"]}, bar=0.0)
    assert len(shown) == 9
    assert {(type(query), query.trigger) for query in shown} == {(Query, "none")}


def test_texts_of_other_rows_are_an_error(run) -> None:
    run(example, {"labels": ["negative", "positive"]}, bar=0.0)
    Example.write("clean.jsonl", [example(number, "a film") for number in range(2)])
    given = {name: f"{name}.jsonl" for name in SETS} | {f"written_{name}": f"written/{name}.jsonl" for name in SETS}
    with pytest.raises(UserError, match=r"written/clean\.jsonl is not of the rows of clean\.jsonl"):
        refill_cell(job_of("refill_questions", given, "out", {}))
