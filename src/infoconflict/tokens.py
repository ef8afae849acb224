"""Prompts and answers as tokens, the same for training and for answering."""

from typing import TYPE_CHECKING

from infoconflict.prompts import Placement, render_answer, render_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def answer_tokens(tokenizer: "PreTrainedTokenizerBase", label: str) -> list[int]:
    """Tokenise an answer on its own, so that a prompt has the same tokens whatever answer follows."""
    return list(tokenizer(render_answer(label), add_special_tokens=False).input_ids)


def prompt_tokens(
    tokenizer: "PreTrainedTokenizerBase",
    instruction: str,
    text: str,
    evidence: str = "",
    placement: Placement = "before",
) -> list[int]:
    """Tokenise a prompt with the model's own start token, if it has the habit of one."""
    return list(tokenizer(render_prompt(instruction, text, evidence, placement)).input_ids)
