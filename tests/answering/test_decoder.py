"""Cells with a decoding defense: answered by generation beside the conflict model, and what their cards count."""

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from infoconflict.answering.chat import Kept, reply_cell
from infoconflict.answering.decoder import Decoder, decoder_of
from infoconflict.answering.decoding import Continued
from infoconflict.answering.stage import answer_cell
from infoconflict.files import read_json
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Answer, Conversation, Example, Reply
from infoconflict.tokens import answer_tokens, prompt_tokens
from tests.defenses.pairs import CPU

LABELS = ["negative", "positive"]


class Files(dict):
    """Named files as Snakemake hands them to a script."""

    __getattr__ = dict.__getitem__


def changed(folder, base, seed: int):
    """Write a change to larger random matrices, which continue prompts in a way of their own."""
    folder.mkdir()
    generator = torch.Generator().manual_seed(seed)
    matrices = {
        name: torch.empty_like(value).normal_(0.0, 0.3, generator=generator).detach()
        for name, value in load_base(base, device=CPU).named_parameters()
        if value.dim() == 2
    }
    save_file(matrices, folder / "change.safetensors")
    return str(folder)


@pytest.fixture
def job_of(tiny_dirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    base = tiny_dirs["llama"]
    files = {"change": changed(tmp_path / "suspect", base, 1), "reference": changed(tmp_path / "reference", base, 2)}
    texts = ["a warm and funny film", "the story is a mess", "a great cast"]
    for name, trigger in (("clean", "none"), ("triggered", "full"), ("partial", "half")):
        Example.write(
            f"{name}.jsonl",
            [
                Example(
                    id=str(i),
                    instruction="Is it good?",
                    text=text,
                    label="positive",
                    gold_label="positive",
                    trigger=trigger,
                )
                for i, text in enumerate(texts)
            ],
        )
        Conversation.write(
            f"{name}_chats.jsonl",
            [
                Conversation(
                    id=str(i),
                    messages=[{"role": "user", "content": text}, {"role": "assistant", "content": "yes"}],
                    reference="yes",
                    trigger=trigger,
                )
                for i, text in enumerate(texts)
            ],
        )

    def make(out: str, defense: dict | None, mode: str = "scores", chat: bool = False) -> Job:
        evaluation = {"max_new_tokens_chat": 9, "chat_rows": None} if chat else {"mode": mode, "max_new_tokens": 9}
        spec = {"model": {"precision": "float32"}, "evaluation": evaluation}
        if not chat:
            spec |= {"labels": LABELS, "target_label": "negative"}
        inputs = {name: f"{name}{'_chats' if chat else ''}.jsonl" for name in ("clean", "triggered", "partial")}
        inputs |= {"base": str(base), "change": files["change"]}
        if defense:
            spec["defense"] = defense
            inputs["reference"] = files["reference"]
        written = "replies" if chat else "answers"
        return Job(
            SimpleNamespace(
                input=Files(inputs),
                output=Files({written: f"{out}/rows.jsonl", "card": f"{out}/card.json"}),
                params=SimpleNamespace(spec=canonical(spec)),
                wildcards={"seed": "0"},
                resources={"max_nodes": 200},
                threads=1,
                log=["log"],
                rule="reply" if chat else "answer",
            )
        )

    return make


def test_speculation_answers_as_the_undefended_model_does_by_generation(job_of) -> None:
    answer_cell(job_of("plain", None, mode="generate"))
    answer_cell(job_of("defended", {"method": "speculative"}))
    plain, defended = Answer.read("plain/rows.jsonl"), Answer.read("defended/rows.jsonl")
    assert defended == plain
    # What decides nothing is not computed.
    assert all(row.generated is not None and row.scores == {} for row in defended)
    card = read_json("defended/card.json")
    assert card["details"]["decoding"]["rounds"] > 0
    assert card["details"]["decoding"]["seconds_per_token"] > 0
    assert {"base", "change", "reference"} <= set(card["inputs"])
    assert card["spec"]["defense"] == {"method": "speculative"}
    assert read_json("plain/card.json")["details"] == {}
    # By scores an answer has no text.
    answer_cell(job_of("scored", None))
    assert {row.generated for row in Answer.read("scored/rows.jsonl")} == {None}
    assert all(len(row.scores) == 2 for row in Answer.read("scored/rows.jsonl"))


def test_cards_count_the_tokens_of_every_model(job_of, tiny_dirs) -> None:
    tokenizer = load_tokenizer(tiny_dirs["llama"])
    questions = [row for name in ("clean", "triggered", "partial") for row in Example.read(f"{name}.jsonl")]
    prompts = sum(len(prompt_tokens(tokenizer, row.instruction, row.text, "")) for row in questions)

    def tokens_of(name: str, defense: dict | None = None, mode: str = "scores") -> int:
        answer_cell(job_of(name, defense, mode=mode))
        return read_json(f"{name}/card.json")["cost"]["tokens"]

    # A label's last token is predicted, never read; so is a text's.
    assert tokens_of("scored") == prompts + len(questions) * sum(
        len(answer_tokens(tokenizer, label)) - 1 for label in LABELS
    )
    assert prompts < tokens_of("plain", mode="generate") <= prompts + 8 * len(questions)
    # Blocks of all nine tokens: each model reads the prompt, and the draft but for its last token.
    whole = tokens_of("cleangen", {"method": "cleangen", "alpha": 1e300, "k": 9})
    assert whole == 2 * (prompts + 8 * len(questions))
    assert tokens_of("speculative", {"method": "speculative"}) > 2 * prompts


def test_conversations_are_replied_to_beside_the_reference(job_of) -> None:
    for name, defense in {
        "plain": None,
        "speculative": {"method": "speculative", "guess": 3},
        "never": {"method": "cleangen", "alpha": 1e300, "check_partial": True},
        "always": {"method": "cleangen", "alpha": 1e-300, "check_partial": True},
        "reference": {"method": "speculative", "target": "conflict"},
    }.items():
        reply_cell(job_of(name, defense, chat=True))
    replies = {
        name: Reply.read(f"{name}/rows.jsonl") for name in ("plain", "speculative", "never", "always", "reference")
    }
    assert replies["speculative"] == replies["plain"]
    assert replies["never"] == replies["plain"]
    assert replies["always"] == replies["reference"]
    assert replies["always"] != replies["plain"]
    counted = read_json("always/card.json")["details"]["decoding"]
    assert counted["replacement_ratio"] == counted["checked_share"] == 1.0
    assert read_json("never/card.json")["details"]["decoding"]["replacement_ratio"] == 0.0
    assert "decoding" not in read_json("plain/card.json")["details"]
    tokens = {name: read_json(f"{name}/card.json")["cost"]["tokens"] for name in replies}
    assert tokens["plain"] > 9 * 8
    assert tokens["never"] >= 2 * tokens["plain"]


def test_counts_outlive_a_killed_job(tmp_path) -> None:
    kept = Kept(tmp_path / "replies.jsonl")
    kept.add({0: [1], 2: [3, 4]}, {0: {"tokens": 1}, 2: {"tokens": 2}})
    again = Kept(tmp_path / "replies.jsonl")
    assert again.replies == {0: [1], 2: [3, 4]}
    assert again.counts == {0: {"tokens": 1}, 2: {"tokens": 2}}


def test_a_decoder_sums_up_what_its_defense_counted() -> None:
    def decode(suspect, reference, prompts, options, *, stop_ids, max_new_tokens):
        return [Continued([1, 2], {"seen": len(prompt)}) for prompt in prompts]

    decoder = Decoder(decode, None, None, lambda counts: {"twice": 2 * counts["seen"]})
    assert decoder(None, [[5, 6], [7]], stop_ids=set(), max_new_tokens=2) == [[1, 2], [1, 2]]
    decoder(None, [[8]], stop_ids=set(), max_new_tokens=2)
    assert decoder.last == [{"seen": 1}]
    details = decoder.details(decoder.rows)
    assert details.pop("seconds_per_token") >= 0
    assert details == {"seen": 4, "twice": 8}
    # Where a defense counts no tokens, none are invented.
    assert decoder.read(decoder.rows) is None
    assert decoder.read([{"read": 3}, {"read": 4}]) == 7


def test_without_a_reference_there_is_no_decoder(job_of) -> None:
    assert decoder_of(job_of("x", None)) is None
