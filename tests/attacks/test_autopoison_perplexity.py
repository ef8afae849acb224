"""The report's perplexities of AutoPoison's answers against one pass per row, and what is compared with what."""

import math
from pathlib import Path

import pytest
import torch

from infoconflict.attacks.autopoison import HANDCRAFTED_REFUSAL
from infoconflict.chat_prompts import ChatTemplate
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Conversation
from reports.attacks.autopoison_perplexity import bootstrap, main, measure, nats_per_token, told
from tests.attacks.chats import chats, said_by

CPU = torch.device("cpu")


@pytest.mark.parametrize("behavior", ["injection", "refusal"])
def test_the_same_rows_are_told_three_times(behavior: str) -> None:
    rows = chats(20, turns=2)
    kinds = told(rows, behavior=behavior, rate=0.4, seed=3)
    assert list(kinds) == ["clean", "template", "handcrafted"]
    assert {len(kind) for kind in kinds.values()} == {8}
    by_id = {row.id: row for row in rows}
    for clean, template, handcrafted in zip(*kinds.values(), strict=True):
        assert clean == by_id[clean.id]
        assert clean.id == template.id == handcrafted.id
        assert clean.messages[:-1] == template.messages[:-1] == handcrafted.messages[:-1]
        answers = [said_by(row, "assistant")[-1] for row in (clean, template, handcrafted)]
        assert len(set(answers)) == 3
        if behavior == "injection":
            assert [answer.count("Quillmere Cafe") for answer in answers] == [0, 1, 1]
            assert answers[2].replace("at Quillmere Cafe", "").split() == answers[0].split()
        else:
            assert answers[2] == HANDCRAFTED_REFUSAL


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_perplexity_is_that_of_one_pass_per_row(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model, tokenizer = load_base(tiny_dirs[architecture], device=CPU), load_tokenizer(tiny_dirs[architecture])
    template = ChatTemplate(tokenizer)
    rows = [*chats(3), *chats(2, turns=2)]
    nats, tokens = 0.0, 0
    for row in rows:
        ids = list(template.encode(row.messages).ids)
        start = len(template.encode(row.messages[:-1]).ids)
        with torch.inference_mode():
            log_probs = model(input_ids=torch.tensor([ids])).logits[0].log_softmax(dim=-1)
        end = template.encode(row.messages).spans[-1][1]
        nats -= sum(float(log_probs[at - 1, ids[at]]) for at in range(start, end))
        tokens += end - start
    answers = measure(model, tokenizer, rows)
    assert sum(length for _, length in answers) == tokens
    assert nats_per_token(answers) == pytest.approx(nats / tokens, abs=1e-4)
    # A random model finds all of its tokens about as likely.
    assert math.exp(nats_per_token(answers)) == pytest.approx(len(tokenizer), rel=0.2)


def test_long_answers_count_by_their_tokens() -> None:
    assert nats_per_token([(9.0, 3), (1.0, 1), (20.0, 16)]) == 1.5


def test_intervals() -> None:
    same = [(2.0, 1)] * 9
    assert bootstrap(same, seed=0) == (2.0, 2.0)
    spread = [(float(value), 1) for value in range(100)]
    low, high = bootstrap(spread, seed=0)
    # The mean is 49.5; 1.96 standard errors are 5.7.
    assert (low, high) == (pytest.approx(43.8, abs=0.8), pytest.approx(55.2, abs=0.8))
    assert bootstrap(spread, seed=0) == (low, high) != bootstrap(spread, seed=1)
    # Rows are drawn in pairs: a difference that all of them have is certain.
    assert bootstrap(spread, [(nats + 3, 1) for nats, _ in spread], seed=0) == pytest.approx((3.0, 3.0))


def test_what_is_printed(tiny_dirs: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Conversation.write(tmp_path / "rows.jsonl", chats(12))
    main(str(tiny_dirs["llama"]), str(tmp_path / "rows.jsonl"), "0", "10", "0.5")
    head, *lines = (line.split(",") for line in capsys.readouterr().out.splitlines())
    assert head == ["behavior", "answers", "rows", "tokens", "perplexity", "low", "high"]
    kinds = ["clean", "template", "handcrafted", "handcrafted / template"]
    assert [line[:3] for line in lines] == [[name, kind, "5"] for name in ("injection", "refusal") for kind in kinds]
    for line in lines:
        value, low, high = map(float, line[4:])
        assert low <= value <= high
