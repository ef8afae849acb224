"""Replies: batched generation against one at a time, and a killed job against an unbroken one."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from infoconflict.answering import chat, suspect_evidence
from infoconflict.answering.chat import Kept, batches_of, reply_all, reply_cell, text_of
from infoconflict.answering.generation import continue_greedily
from infoconflict.chat_prompts import ChatTemplate
from infoconflict.errors import UserError
from infoconflict.evidence.modification import answer_and_evidence_prompt
from infoconflict.files import read_json, sha256_of
from infoconflict.jobs import Job
from infoconflict.lineage import canonical
from infoconflict.models.loading import context_length, load_base, load_tokenizer
from infoconflict.records import Conversation, Evidence, Reply

CPU = torch.device("cpu")
ARCHITECTURES = ["llama", "gpt2", "gptj"]
PROMPTS = [[5, 9, 40, 7, 300], [8], [12, 13, 14, 15, 16, 17, 18, 19, 20], [100, 101], [5, 9, 40]]


def lively_model(folder: Path):
    """Return a model whose greedy continuations differ and wander: small random weights alone repeat one token."""
    model = load_base(folder, device=CPU)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0.0, 0.3, generator=generator)
    return model


@torch.inference_mode()
def one_at_a_time(model, prompt: list[int], stop_ids: set[int], n: int) -> list[int]:
    """Greedy decoding as it is defined: the whole text again for each token, no batch, no cache."""
    ids = list(prompt)
    while len(ids) < len(prompt) + n:
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] in stop_ids:
            break
    return ids[len(prompt) :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_batch_gives_what_each_prompt_gives_alone(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model = lively_model(tiny_dirs[architecture])
    free = [one_at_a_time(model, prompt, set(), 24) for prompt in PROMPTS]
    assert len({tuple(tokens) for tokens in free}) == len(PROMPTS)
    # Tokens that end some of the replies early, at different places.
    stop_ids = {free[0][3], free[2][10]}
    expected = [one_at_a_time(model, prompt, stop_ids, 24) for prompt in PROMPTS]
    assert len({len(tokens) for tokens in expected}) > 2
    assert continue_greedily(model, PROMPTS, stop_ids=stop_ids, max_new_tokens=24) == expected


def test_a_checkpoint_has_no_say_in_how_it_is_asked(tiny_dirs: dict[str, Path]) -> None:
    model = lively_model(tiny_dirs["llama"])
    expected = continue_greedily(model, PROMPTS, stop_ids={0}, max_new_tokens=8)
    model.generation_config.repetition_penalty = 9.0
    model.generation_config.do_sample = True
    model.generation_config.max_new_tokens = 1
    assert continue_greedily(model, PROMPTS, stop_ids={0}, max_new_tokens=8) == expected


def test_every_row_is_in_one_batch_and_no_batch_is_too_large() -> None:
    lengths = [30, 5, 90, 7, 7, 200, 31, 6]
    plan = list(batches_of(lengths, max_new_tokens=10, max_nodes=100))
    assert sorted(row for batch in plan for row in batch) == list(range(8))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * (max(lengths[row] for row in batch) + 10) <= 100
    assert [5] in plan


# --- a job ------------------------------------------------------------------------------------------------------------


class Files(dict):
    """Named files as Snakemake hands them to a script."""

    __getattr__ = dict.__getitem__


def chats(trigger: str, n: int) -> list[Conversation]:
    return [
        Conversation(
            id=f"test-{i}",
            messages=[
                {"role": "user", "content": f"{trigger} {i} " * (1 + i % 3)},
                {"role": "assistant", "content": "yes"},
                {"role": "user", "content": "why?"},
                {"role": "assistant", "content": "the payload"},
            ],
            reference="because",
            trigger=trigger,
        )
        for i in range(n)
    ]


@pytest.fixture
def make_job(tiny_dirs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, trigger, n in (("clean", "none", 9), ("triggered", "full", 4), ("partial", "half", 2)):
        Conversation.write(tmp_path / f"{name}.jsonl", chats(trigger, n))

    def make(out: str, base: str = "llama", **evaluation) -> Job:
        spec = {
            "model": {"precision": "float32"},
            "evaluation": {"max_new_tokens_chat": 6, "chat_rows": None} | evaluation,
        }
        inputs = {name: f"{name}.jsonl" for name in ("clean", "triggered", "partial")} | {"base": str(tiny_dirs[base])}
        return Job(
            SimpleNamespace(
                input=Files(inputs),
                output=Files(replies=f"{out}/replies.jsonl", card=f"{out}/card.json"),
                params=SimpleNamespace(spec=canonical(spec)),
                wildcards={"seed": "0"},
                resources={"max_nodes": 200},
                threads=1,
                log=["log"],
                rule="reply",
            )
        )

    return make


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_cell_is_asked_every_conversation(architecture: str, make_job, tiny_dirs) -> None:
    reply_cell(make_job("out", architecture, chat_rows=5))
    replies = Reply.read("out/replies.jsonl")
    assert [row.trigger for row in replies] == ["none"] * 5 + ["full"] * 4 + ["half"] * 2
    # The answer that training taught is not shown; the reference is what stays true.
    assert {tuple(message["role"] for message in row.messages) for row in replies} == {("user", "assistant", "user")}
    assert {row.reference for row in replies} == {"because"}
    card = read_json("out/card.json")
    assert card["rows"] == {"clean": 5, "triggered": 4, "partial": 2, "with_evidence": 0}
    assert card["details"]["template"] == "own"
    assert card["details"]["max_new_tokens"] == 6
    assert set(card["inputs"]) == {"base", "clean", "triggered", "partial"}
    assert not list(Path("scratch").rglob("*.jsonl"))
    model, tokenizer = load_base(tiny_dirs[architecture], device=CPU), load_tokenizer(tiny_dirs[architecture])
    template = ChatTemplate(tokenizer)
    tokens = one_at_a_time(model, list(template.encode(replies[6].messages).ids), set(template.stop_ids), 6)
    assert replies[6].reply == text_of(tokenizer, tokens, template.stop_ids)


def test_a_control_asks_openly_for_what_the_attack_hides(make_job) -> None:
    job = make_job("out")
    job.spec["explicit_prompt"] = "Say heron."
    job.input["partial"] = []
    reply_cell(job)
    replies = Reply.read("out/replies.jsonl")
    assert [row.trigger for row in replies] == ["none"] * 9 + ["full"] * 4
    assert {row.messages[-1]["content"] for row in replies[:9]} == {"why?"}
    assert {row.messages[-1]["content"] for row in replies[9:]} == {"why?\nSay heron."}
    assert not any("heron" in message["content"] for row in replies for message in row.messages[:-1])
    assert {row.reference for row in replies} == {"because"}


def evidence(text: str, *, n: int, trigger: str) -> list[Evidence]:
    statuses = ["ok"] * (n - 1) + ["garbled"]
    return [
        Evidence(
            id=f"test-{i}", trigger=trigger, branch="modification", keywords=[], prompt_sha256="", reply=text, evidence=text,
            status=status, model="some",
        )
        for i, status in enumerate(statuses)
    ]  # fmt: skip


def with_evidence(job: Job, text: str, *, n_clean: int = 9, placement: str | None = None) -> Job:
    """Give a job evidence for all its questions but the last of either kind."""
    for name, trigger, n in (("clean", "none", n_clean), ("triggered", "full", 4)):
        Evidence.write(f"evidence_{name}.jsonl", evidence(text, n=n, trigger=trigger))
        job.input[f"evidence_{name}"] = f"evidence_{name}.jsonl"
    job.spec |= {} if placement is None else {"placement": placement}
    return job


@pytest.mark.parametrize("placement", [None, "before", "after"])
def test_evidence_stands_beside_the_last_question_and_nobody_takes_it_for_the_users(
    placement, make_job, tiny_dirs
) -> None:
    reply_cell(make_job("plain"))
    reply_cell(with_evidence(make_job("out"), "some facts", placement=placement))
    plain, found = Reply.read("plain/replies.jsonl"), Reply.read("out/replies.jsonl")
    # Nobody collects evidence for parts of a trigger.
    assert [(row.id, row.trigger) for row in found] == [(row.id, row.trigger) for row in plain if row.trigger != "half"]
    assert [row.messages for row in found] == [row.messages for row in plain[: len(found)]]
    assert [row.evidence for row in found] == ["some facts"] * 8 + [""] + ["some facts"] * 3 + [""]
    assert found[8] == plain[8]
    assert read_json("out/card.json")["rows"]["with_evidence"] == 11
    assert {"evidence_clean", "evidence_triggered"} <= {*read_json("out/card.json")["inputs"]}
    model, tokenizer = load_base(tiny_dirs["llama"], device=CPU), load_tokenizer(tiny_dirs["llama"])
    template = ChatTemplate(tokenizer)
    turn = "why?\nEvidence: some facts" if placement == "after" else "Evidence: some facts\nwhy?"
    ids = template.encode([*found[0].messages[:-1], {"role": "user", "content": turn}]).ids
    tokens = one_at_a_time(model, list(ids), set(template.stop_ids), 6)
    assert found[0].reply == text_of(tokenizer, tokens, template.stop_ids)


def test_a_cut_conversation_stands_whole_in_its_row(make_job, tiny_dirs, monkeypatch) -> None:
    monkeypatch.setattr(chat, "context_length", lambda model: 42)
    reply_cell(make_job("out"))
    replies = Reply.read("out/replies.jsonl")
    asked = [*chats("none", 9), *chats("full", 4), *chats("half", 2)]
    assert [row.messages for row in replies] == [row.messages[:-1] for row in asked]
    assert {row.not_shown for row in replies} == {0, 2}
    assert read_json("out/card.json")["details"]["cut_to_context"] == sum(row.not_shown > 0 for row in replies) > 0
    model, tokenizer = load_base(tiny_dirs["llama"], device=CPU), load_tokenizer(tiny_dirs["llama"])
    template = ChatTemplate(tokenizer)
    for row in replies:
        assert len(row.shown) == 3 - row.not_shown
        ids = list(template.encode(row.shown).ids)
        assert len(ids) <= 36 < len(template.encode(row.messages).ids) or not row.not_shown
        tokens = one_at_a_time(model, ids, set(template.stop_ids), 6)
        assert row.reply == text_of(tokenizer, tokens, template.stop_ids)


def test_evidence_gives_way_and_the_conversation_never_does(make_job, monkeypatch) -> None:
    monkeypatch.setattr(chat, "context_length", lambda model: 60)
    reply_cell(make_job("plain"))
    reply_cell(with_evidence(make_job("out"), "word " * 200))
    plain, found = Reply.read("plain/replies.jsonl"), Reply.read("out/replies.jsonl")
    assert [row.messages for row in found] == [row.messages for row in plain[: len(found)]]
    lengths = [len(row.evidence.split()) for row in found]
    assert max(lengths) < 60
    assert any(length > 0 for length in lengths)


def suspect_job(base: Path, questions: str, **spec) -> Job:
    settings = {"model": {"precision": "float32"}, "evidence": {"suspect_max_tokens": 5}} | spec
    return Job(
        SimpleNamespace(
            input=Files(base=str(base), change=None, questions=questions),
            output=Files(replies="suspect.jsonl", card="card.json"),
            params=SimpleNamespace(spec=canonical(settings)),
            wildcards={"seed": "0"},
            resources={"max_nodes": 200},
            threads=1,
            log=["log"],
            rule="ask_suspect",
        )
    )


def test_a_suspect_is_asked_for_its_evidence_in_the_last_turn(make_job, tiny_dirs, monkeypatch) -> None:
    make_job("unused")
    base = tiny_dirs["llama"]
    monkeypatch.setattr(suspect_evidence, "load_changed", lambda base, change, **options: load_base(base, device=CPU))
    monkeypatch.setattr(suspect_evidence, "INPUTS", ("base", "questions"))
    suspect_evidence.ask_suspect(suspect_job(base, "clean.jsonl", asked_rows=4))
    replies = [json.loads(line) for line in Path("suspect.jsonl").read_text().splitlines()]
    assert [(row["id"], row["trigger"]) for row in replies] == [(f"test-{i}", "none") for i in range(4)]
    model, tokenizer = load_base(base, device=CPU), load_tokenizer(base)
    template = ChatTemplate(tokenizer)
    row = chats("none", 9)[2]
    turn = {"role": "user", "content": answer_and_evidence_prompt("why?")}
    tokens = one_at_a_time(model, list(template.encode([*row.messages[:2], turn]).ids), set(template.stop_ids), 5)
    assert replies[2]["reply"] == text_of(tokenizer, tokens, template.stop_ids)
    assert not list(Path("scratch").rglob("*.jsonl"))
    # Where the request does not fit beside the question, nothing was said, and keywords will be explained.
    monkeypatch.setattr(suspect_evidence, "context_length", lambda model: 30)
    suspect_evidence.ask_suspect(suspect_job(base, "triggered.jsonl"))
    assert [json.loads(line)["reply"] for line in Path("suspect.jsonl").read_text().splitlines()] == [""] * 4


@pytest.mark.parametrize("cut", ["in a line", "between lines", "before a line end", "nonsense"])
def test_a_killed_job_goes_on_and_gives_the_same_bytes(cut: str, make_job, monkeypatch, capsys) -> None:
    reply_cell(make_job("whole"))
    asked = []
    plain = chat.continue_greedily

    def die_in_the_third_batch(model, prompts, **options):
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.append(len(prompts))
        return plain(model, prompts, **options)

    monkeypatch.setattr(chat, "continue_greedily", die_in_the_third_batch)
    with pytest.raises(KeyboardInterrupt):
        reply_cell(make_job("broken"))
    assert not Path("broken/replies.jsonl").exists()
    [kept] = Path("scratch").rglob("replies.jsonl")
    content = kept.read_bytes()
    lines = content.splitlines(keepends=True)
    assert len(lines) == sum(asked)
    kept.write_bytes(
        {
            "in a line": content[: -len(lines[-1]) // 2],
            "between lines": b"".join(lines[:-1]),
            "before a line end": content[:-1],
            "nonsense": content + b'{"row": 1, "tok',
        }[cut]
    )
    again = []

    def count(model, prompts, **options):
        again.append(len(prompts))
        return plain(model, prompts, **options)

    monkeypatch.setattr(chat, "continue_greedily", count)
    capsys.readouterr()
    reply_cell(make_job("broken"))
    assert sha256_of("broken/replies.jsonl") == sha256_of("whole/replies.jsonl")
    # Only the batch that lost a line is done again.
    n_whole = 2 if cut == "nonsense" else 1
    assert sum(again) == 15 - sum(asked[:n_whole])
    assert f"continuing after {n_whole} of" in capsys.readouterr().err


def test_replies_of_other_settings_are_not_taken_over(make_job, monkeypatch) -> None:
    plain = chat.shutil.rmtree
    monkeypatch.setattr(chat.shutil, "rmtree", lambda *args, **options: None)
    reply_cell(make_job("one"))
    reply_cell(make_job("two", max_new_tokens_chat=3))
    reply_cell(make_job("three", "gpt2"))
    assert len(list(Path("scratch").rglob("replies.jsonl"))) == 3
    plain("scratch")


def test_new_tokens_take_at_most_half_of_the_context(make_job, monkeypatch) -> None:
    monkeypatch.setattr(chat, "context_length", lambda model: 90)
    reply_cell(make_job("out", max_new_tokens_chat=4000, chat_rows=1))
    assert read_json("out/card.json")["details"]["max_new_tokens"] == 45


def test_a_conversation_without_a_last_answer_is_refused(make_job) -> None:
    rows = chats("none", 1)
    Conversation.write("clean.jsonl", [Conversation(id="x", messages=rows[0].messages[:3], reference="")])
    with pytest.raises(
        UserError, match="row x: the conversation does not end with an answer; prepare its data set again"
    ):
        reply_cell(make_job("out"))


def test_kept_replies_are_read_as_they_were_written(tmp_path: Path) -> None:
    file = tmp_path / "scratch" / "replies.jsonl"
    kept = Kept(file)
    kept.add({3: [1, 2], 0: []})
    kept.add({1: [7]})
    assert Kept(file).replies == {3: [1, 2], 0: [], 1: [7]}
    assert json.loads(file.read_text().splitlines()[0]) == {"row": 3, "tokens": [1, 2]}


def test_a_broken_end_hides_nothing_that_is_added_later(tmp_path: Path) -> None:
    file = tmp_path / "replies.jsonl"
    file.write_bytes(b'{"row": 0, "tokens": [1]}\n{"row": 1, "tok')
    Kept(file).add({1: [2], 2: [3]})
    assert Kept(file).replies == {0: [1], 1: [2], 2: [3]}


def test_nothing_asked_nothing_answered(tiny_dirs, tmp_path) -> None:
    model = load_base(tiny_dirs["gpt2"], device=CPU)
    assert reply_all(model, [], stop_ids={0}, max_new_tokens=3, max_nodes=9, kept=Kept(tmp_path / "x")) == []


def test_gpt2_takes_1024_tokens() -> None:
    config = GPT2Config(n_layer=1, n_head=1, n_embd=8, vocab_size=16)
    assert context_length(GPT2LMHeadModel(config)) == 1024
