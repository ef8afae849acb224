"""Questions in, answer rows out: the one place where a model meets a test set."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from infoconflict.answering.generation import Continue, first_label, generate
from infoconflict.answering.label_scores import score_labels
from infoconflict.errors import UserError
from infoconflict.models.loading import context_length
from infoconflict.prompts import Placement
from infoconflict.records import CLEAN, Answer, Evidence, Example
from infoconflict.tokens import answer_tokens, prompt_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def ask(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Sequence[Example],
    *,
    labels: Sequence[str],
    target_label: str | None,
    evidence: Mapping[tuple[str, str], Evidence] | None = None,
    placement: Placement = "before",
    mode: Literal["scores", "generate"] = "scores",
    max_new_tokens: int = 8,
    max_nodes: int = 1024,
    t: float | None = None,
    continue_with: Continue | None = None,
) -> list[Answer]:
    """Answer every example.

    Parameters
    ----------
    evidence : mapping from (id, trigger) to Evidence, optional
        Put into the prompt where its status is ``ok``; cut, word by word, if the prompt would not fit. The query never is.
    placement : ``before`` or ``after``
        Where evidence stands, seen from the input.
    mode : ``scores`` or ``generate``
        Whether the label with the best score or the first label in freely generated text is the answer.
    t : float, optional
        Recorded in the answers (sweeps).
    continue_with : Continue, optional
        How text is generated in the mode ``generate``, if not greedily; label scores are the model's own all the same.

    Raises
    ------
    UserError
        If a prompt without evidence does not fit the model's context.
    """
    label_tokens = {label: answer_tokens(tokenizer, label) for label in labels}
    longest = max(len(tokens) for tokens in label_tokens.values())
    room = context_length(model) - longest
    prompts, used = [], []
    for example in examples:
        found = evidence.get((example.id, example.trigger)) if evidence else None
        text = found.evidence if found is not None and found.status == "ok" else ""
        prompt = fit(tokenizer, example, text, room, placement)
        prompts.append(prompt)
        used.append(bool(text))
    scores = score_labels(model, prompts, list(label_tokens.values()), max_nodes=max_nodes)
    generated: list[str] | list[None] = [None] * len(examples)
    if mode == "generate":
        generated = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens, continue_with=continue_with)
    answers = []
    for example, row, reply, has_evidence in zip(examples, scores.tolist(), generated, used, strict=True):
        named = dict(zip(labels, (round(value, 5) for value in row), strict=True))
        answer = max(named, key=lambda label: named[label]) if reply is None else first_label(reply, labels)
        answers.append(
            Answer(
                id=example.id,
                gold_label=example.gold_label,
                trigger=example.trigger,
                target_label=None if example.trigger == CLEAN else target_label,
                answer=answer,
                scores=named,
                generated=reply,
                has_evidence=has_evidence,
                t=t,
            )
        )
    return answers


def fit(
    tokenizer: "PreTrainedTokenizerBase", example: Example, evidence: str, room: int, placement: Placement
) -> list[int]:
    """Tokenise a prompt, dropping evidence words from the end until it fits into ``room`` tokens."""
    words = evidence.split()
    while True:
        prompt = prompt_tokens(tokenizer, example.instruction, example.text, " ".join(words), placement)
        if len(prompt) <= room:
            return prompt
        if not words:
            raise UserError(
                f"row {example.id} has {len(prompt)} tokens and the model takes {room}; lower max_words of its data set"
            )
        words = words[: max(0, len(words) - max(1, (len(prompt) - room) // 2))]


def pair_evidence(rows: Sequence[Evidence]) -> dict[tuple[str, str], Evidence]:
    """Index evidence by the question that it belongs to."""
    return {(row.id, row.trigger): row for row in rows}
