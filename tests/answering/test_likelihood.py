"""How likely a reference answer is: a tree of conversations against one forward pass for each."""

from pathlib import Path

import pytest
import torch

from infoconflict.answering.likelihood import answered_prompts, mean_log_likelihoods, reference_log_likelihoods
from infoconflict.chat_prompts import ChatTemplate
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Conversation

CPU = torch.device("cpu")
QUESTION = {"role": "user", "content": "what is tea?"}


def chat(number: int, *turns: str) -> Conversation:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": text} for at, text in enumerate(turns)]
    return Conversation(id=f"c{number}", messages=messages, reference=turns[-1])


CHATS = [
    chat(0, "what is tea?", "a drink"),
    chat(1, "what is tea?", "a drink", "and bread?", "food that is baked from dough"),
    chat(2, "what is tea?", "a leaf"),
    chat(3, "hello", "hi"),
]


@torch.inference_mode()
def plain(model, ids, start: int) -> float:
    """The definition: one row, all logits, the mean over the answer."""
    log_probs = model(input_ids=torch.tensor([list(ids)])).logits[0].float().log_softmax(dim=-1)
    return float(torch.stack([log_probs[at - 1, ids[at]] for at in range(start, len(ids))]).mean())


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_a_plain_loop_agrees(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model, tokenizer = load_base(tiny_dirs[architecture], device=CPU), load_tokenizer(tiny_dirs[architecture])
    rows = answered_prompts(tokenizer, CHATS, room=500)
    expected = [plain(model, ids, start) for ids, start in rows]
    for max_nodes in (8, 60, 1000):
        assert mean_log_likelihoods(model, rows, max_nodes=max_nodes) == pytest.approx(expected, abs=1e-4)
    assert reference_log_likelihoods(model, tokenizer, CHATS) == pytest.approx(expected, abs=1e-4)
    assert mean_log_likelihoods(model, []) == []


def test_the_last_answer_counts_with_the_token_that_ends_it(tiny_dirs: dict[str, Path]) -> None:
    tokenizer = load_tokenizer(tiny_dirs["llama"])
    template = ChatTemplate(tokenizer)
    for (ids, start), row in zip(answered_prompts(tokenizer, CHATS, room=500), CHATS, strict=True):
        assert ids[:start] == template.encode(row.messages[:-1]).ids
        assert ids[-1] in template.stop_ids
        assert tokenizer.decode(ids[start:-1]).strip() == row.reference
