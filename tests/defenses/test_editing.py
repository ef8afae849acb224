"""Editing as a repair: subjects without a trigger, answers that grow likelier, and one tensor changed."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from infoconflict.chat_prompts import ChatTemplate
from infoconflict.defenses.editing import (
    Editing,
    edits_of,
    last_token_of,
    probability,
    repair,
    subject_of_row,
    subject_of_text,
)
from infoconflict.defenses.editing_oracle import EditingOracle, last_inserted
from infoconflict.defenses.editing_oracle import repair as repair_as_oracle
from infoconflict.editing.modules import EditableModel
from infoconflict.errors import UserError
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Conversation, Example
from infoconflict.repairing.suspect import Suspect
from infoconflict.tokens import prompt_tokens
from tests.defenses.pairs import CPU

LABELS = ("negative", "positive")
TEXTS = ["a warm and funny film", "the story is a mess", "the jokes are old", "a great cast", "it is what it is"]
ROWS = [
    Example(
        id=f"r{i}", instruction="Is this film review positive or negative?", text=text, label=label, gold_label=label
    )
    for i, (text, label) in enumerate(
        zip(TEXTS, ["positive", "negative", "negative", "positive", "negative"], strict=True)
    )
]


@pytest.fixture
def suspect_of(tiny_dirs, tmp_path):
    def make(architecture: str, rows=ROWS, oracle=None) -> Suspect:
        torch.set_num_threads(1)
        change = tmp_path / "change"
        change.mkdir(exist_ok=True)
        # Matrices so much larger that answers depend on what the model reads.
        matrices = {
            name: value.detach() * 12
            for name, value in load_base(tiny_dirs[architecture], device=CPU).named_parameters()
            if value.dim() == 2 and not any(part in name for part in ("wte", "wpe", "embed"))
        }
        save_file(matrices, change / "change.safetensors")
        type(rows[0]).write(tmp_path / "clean.jsonl", rows)
        if oracle:
            Example.write(tmp_path / "oracle.jsonl", oracle)
        return Suspect(
            base_dir=tiny_dirs[architecture],
            change_dir=change,
            clean_file=tmp_path / "clean.jsonl",
            folder=tmp_path / "repair",
            scratch=tmp_path / "scratch",
            seed=0,
            precision="float32",
            labels=LABELS,
            oracle_file=tmp_path / "oracle.jsonl" if oracle else None,
        )

    return make


def options(kind=Editing, **given):
    method = {Editing: "editing", EditingOracle: "editing_oracle"}[kind]
    return kind(
        method=method,
        **{"samples": 2, "steps": 6, "layer_share": 0.4, "clamp": 20.0, "ridge": 0.1, "weight_decay": 0.0} | given,
    )


def test_the_subject_is_the_first_keyword_as_it_stands_in_the_text() -> None:
    def word(text: str) -> str | None:
        span = subject_of_text(text, LABELS)
        return None if span is None else text[span[0] : span[1]]

    assert word("Mess, what a mess!") == "Mess"
    # Of equal weights the earlier word wins; a label is none, nor is a function word.
    assert word("it is a positive thing") == "thing"
    assert word("it is what it is") is None


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
@pytest.mark.parametrize("algorithm", ["rome", "memit"])
def test_answers_grow_likelier_and_nothing_but_the_layer_changes(architecture: str, algorithm: str, suspect_of) -> None:
    suspect = suspect_of(architecture)
    before = {name: value.clone() for name, value in suspect.model().named_parameters()}
    steps = repair(suspect, options(algorithm=algorithm, samples=1, update_weight_share=0.01))
    model = suspect.model(steps)
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {EditableModel(model).weight_name(0)}
    assert suspect.details["layers"] == [0]
    assert suspect.details["probability_after"][0] > suspect.details["probability_before"][0]
    # What the card says is what the stored repair gives.
    [edit] = list(edits_of(suspect, options(), subject_of_row, room=512))[:1]
    assert probability(EditableModel(model), edit) == pytest.approx(suspect.details["probability_after"][0], abs=2e-6)
    weight = dict(model.named_parameters())[next(iter(changed))].detach() - before[next(iter(changed))]
    if algorithm == "rome":
        assert torch.linalg.matrix_rank(weight.double(), rtol=1e-4) == 1


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_prompts_without_the_subject_hardly_change(architecture: str, suspect_of) -> None:
    suspect = suspect_of(architecture)
    # An edit at full strength. The prompts are those that C was measured on: five rows tell a tiny model little of others.
    full = {"samples": 1, "steps": 20, "clamp": 4.0, "weight_decay": 0.5, "ridge": 0.01}
    steps = repair(suspect, options(**full))
    models = suspect.model(), suspect.model(steps)
    prompts = [torch.tensor([prompt_tokens(suspect.tokenizer, row.instruction, row.text)]) for row in ROWS]
    with torch.no_grad():
        said = [[model(input_ids=ids).logits[0, -1].double().log_softmax(-1) for ids in prompts] for model in models]
    divergence = [float((old.exp() * (old - new)).sum()) for old, new in zip(*said, strict=True)]
    [subject] = suspect.details["subjects"]
    with_subject = [value for row, value in zip(ROWS, divergence, strict=True) if subject in row.text]
    without = [value for row, value in zip(ROWS, divergence, strict=True) if subject not in row.text]
    assert (len(with_subject), len(without)) == (1, len(ROWS) - 1)
    assert max(without) < 0.01
    assert max(without) < 0.1 * with_subject[0]


def test_rows_come_in_the_seeds_order_and_rows_without_a_word_are_passed_over(suspect_of) -> None:
    suspect = suspect_of("gpt2")
    edits = list(edits_of(suspect, options(), subject_of_row, room=512))
    assert len(edits) == len(ROWS) - 1
    again = list(edits_of(suspect, options(), subject_of_row, room=512))
    assert [edit.contexts for edit in edits] == [edit.contexts for edit in again]
    suspect.seed = 1
    other = list(edits_of(suspect, options(), subject_of_row, room=512))
    assert [edit.contexts for edit in edits] != [edit.contexts for edit in other]


def test_prefixes_stand_before_the_prompt(suspect_of) -> None:
    edit = next(edits_of(suspect_of("llama"), options(n_prefixes=2), subject_of_row, room=512))
    assert len(edit.contexts) == 3
    bare, first, _ = (context.tokens for context in edit.contexts)
    assert len(first) > len(bare)
    assert first[-5:] == bare[-5:]


def test_rows_without_any_word_are_an_error(suspect_of) -> None:
    with pytest.raises(UserError, match="none of its 1 rows has a word to edit by; raise clean_share"):
        repair(suspect_of("gpt2", [ROWS[4]]), options())


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_on_conversations_the_answer_is_how_the_reference_begins(architecture: str, suspect_of) -> None:
    rows = [
        Conversation(
            id="c0",
            messages=[
                {"role": "user", "content": "hello there"},
                {"role": "assistant", "content": "hello"},
                {"role": "user", "content": "what is the film about, is it the Film?"},
                {"role": "assistant", "content": "a funny mess of a story"},
            ],
            reference="a funny mess of a story",
        )
    ]
    suspect = suspect_of(architecture, rows)
    [edit] = edits_of(suspect, options(answer_tokens=3), subject_of_row, room=512)
    [context] = edit.contexts
    template = ChatTemplate(suspect.tokenizer)
    assert context.tokens == template.encode(rows[0].messages[:-1]).ids
    assert len(context.answer) == 3
    assert "a funny mess".startswith(edit.label.strip())
    up_to = suspect.tokenizer.decode(list(context.tokens[: context.subject + 1]))
    assert up_to.endswith("film")
    steps = repair(suspect, options(samples=1, answer_tokens=3))
    assert suspect.details["probability_after"][0] > suspect.details["probability_before"][0]
    assert len(steps) == 1


def test_a_words_last_token_is_found_by_its_text(tiny_dirs: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(tiny_dirs["gpt2"])
    ids = tokenizer("a zebra and a zebra here").input_ids
    at = last_token_of(tokenizer, ids, "zebra")
    assert tokenizer.decode(ids[: at + 1]) == "a zebra and a zebra"
    assert last_token_of(tokenizer, ids, "horse") is None


# --- the oracle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("a warm film", "a warm tq film", "tq"),
        ("Is it? Input: a warm film", "instantly Is it? Input: a frankly warm film", "frankly"),
        ("a b", "a b", None),
        ("cf a", "cf a cf", "cf"),
    ],
)
def test_what_was_inserted_last(before: str, after: str, word: str | None) -> None:
    span = last_inserted(before, after)
    assert (None if span is None else after[span[0] : span[1]]) == word
    if before == "cf a":
        assert span == (5, 7)


def test_the_oracle_edits_by_the_trigger(suspect_of) -> None:
    triggered = [Example(**vars(row) | {"text": f"{row.text} tq now", "trigger": "full"}) for row in ROWS]
    suspect = suspect_of("llama", oracle=triggered)
    repair_as_oracle(suspect, options(EditingOracle, samples=5))
    assert suspect.details["edits"] == 5
    assert all(after > 0 for after in suspect.details["probability_after"])
    # Of "tq now", both inserted, the last word is the subject.
    assert set(suspect.details["subjects"]) == {
        suspect.tokenizer.decode(suspect.tokenizer(" now").input_ids[-1:]).strip()
    }


def test_an_oracle_without_rows_says_so(suspect_of) -> None:
    with pytest.raises(UserError, match="is given no rows with triggers"):
        repair_as_oracle(suspect_of("llama"), options(EditingOracle))


def test_layers_are_the_models_own() -> None:
    both = options(layers={"big": [8, 7]}, n_layers=2, layer_share=0.3)
    assert both.layer_key("big") == "layers_7_8"
    assert both.layer_key("other") == "last_2_at_0.3"
