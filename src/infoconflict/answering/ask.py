"""Questions in, answer rows out: the one place where a model meets a test set."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from infoconflict.answering.generation import Continue, continue_greedily, first_label, generate, tokens_read
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
    mode: Literal["scores", "generate", "both"] = "scores",
    max_new_tokens: int = 8,
    max_nodes: int = 1024,
    t: float | None = None,
    continue_with: Continue | None = None,
    spent: Counter[str] | None = None,
) -> list[Answer]:
    """Answer every example.

    Parameters
    ----------
    evidence : mapping from (id, trigger) to Evidence, optional
        Put into the prompt where its status is ``ok``; cut, word by word, if the prompt would not fit. The query never is.
    placement : ``before`` or ``after``
        Where evidence stands, seen from the input.
    mode : ``scores``, ``generate`` or ``both``
        Whether the label with the best score or the first label in freely generated text is the answer; with ``both`` it is the
        text's, and the scores stand beside it.
    t : float, optional
        Recorded in the answers (sweeps).
    continue_with : Continue, optional
        How text is generated, if not greedily.
    spent : Counter, optional
        Under ``tokens`` are added those that the model read: prompts, and each label or generated text but for its last token;
        what a decoding defense read beyond that is in its own counts.

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
    spent = Counter() if spent is None else spent
    scores: list[list[float]] = [[]] * len(examples)
    generated: list[str] | list[None] = [None] * len(examples)
    if mode != "generate":
        scores = score_labels(model, prompts, list(label_tokens.values()), max_nodes=max_nodes).tolist()
        under_each = sum(len(tokens) - 1 for tokens in label_tokens.values())
        spent["tokens"] += sum(len(prompt) + under_each for prompt in prompts)
    if mode != "scores":
        counted = _counting(continue_with or continue_greedily, spent)
        generated = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens, continue_with=counted)
    answers = []
    for example, row, reply, has_evidence in zip(examples, scores, generated, used, strict=True):
        named = dict(zip(labels, (round(value, 5) for value in row), strict=True)) if row else {}
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


def _counting(continue_with: Continue, spent: Counter[str]) -> Continue:
    """Return the same way to continue prompts, which also counts what is read for it."""

    def counted(
        model: "PreTrainedModel", prompts: Sequence[Sequence[int]], *, stop_ids: Collection[int], max_new_tokens: int
    ) -> list[list[int]]:
        found = continue_with(model, prompts, stop_ids=stop_ids, max_new_tokens=max_new_tokens)
        spent["tokens"] += tokens_read(prompts, found)
        return found

    return counted


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
