"""Label scores against plain loops: one sequence at a time, no tree, no packing."""

from pathlib import Path

import pytest
import torch

from infoconflict.answering.ask import ask, pair_evidence
from infoconflict.answering.generation import first_label, generate
from infoconflict.answering.label_scores import score_labels
from infoconflict.errors import UserError
from infoconflict.models.loading import load_base, load_tokenizer
from infoconflict.records import Evidence, Example

PROMPTS = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 8, 10, 11], [12]]
LABELS = [[20], [21, 22, 23], [21, 24]]


def plain_scores(model: torch.nn.Module) -> torch.Tensor:
    """Return each label's mean log-probability, by one forward pass per prompt and label."""
    rows = []
    for prompt in PROMPTS:
        row = []
        for label in LABELS:
            with torch.inference_mode():
                log_probs = model(input_ids=torch.tensor([prompt + label])).logits[0].log_softmax(-1)
            picked = [log_probs[len(prompt) - 1 + i, token].item() for i, token in enumerate(label)]
            row.append(sum(picked) / len(picked))
        rows.append(row)
    return torch.tensor(rows)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
@pytest.mark.parametrize("max_nodes", [1, 9, 1000])
def test_equals_plain_loops(architecture: str, max_nodes: int, tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs[architecture], device=torch.device("cpu"))
    torch.testing.assert_close(
        score_labels(model, PROMPTS, LABELS, max_nodes=max_nodes), plain_scores(model), atol=1e-5, rtol=1e-4
    )


def test_no_prompts_no_scores(tiny_dirs: dict[str, Path]) -> None:
    model = load_base(tiny_dirs["llama"], device=torch.device("cpu"))
    assert score_labels(model, [], LABELS).shape == (0, 3)


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gptj"])
def test_batched_generation_equals_one_by_one(architecture: str, tiny_dirs: dict[str, Path]) -> None:
    model, tokenizer = (
        load_base(tiny_dirs[architecture], device=torch.device("cpu")),
        load_tokenizer(tiny_dirs[architecture]),
    )
    together = generate(model, tokenizer, PROMPTS, max_new_tokens=5, batch_size=4)
    alone = [generate(model, tokenizer, [prompt], max_new_tokens=5)[0] for prompt in PROMPTS]
    assert together == alone


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("positive", "positive"),
        ("It is Negative, not positive", "negative"),
        ("", None),
        ("positives", None),
        ("not positive", "positive"),
        ("none of these", None),
    ],
)
def test_first_label(text: str, label: str | None) -> None:
    assert first_label(text, ["negative", "positive"]) == label


def example(text: str) -> Example:
    return Example(id="test-1", instruction="Good or bad?", text=text, label="good", gold_label="good")


def evidence(text: str, status: str = "ok") -> Evidence:
    return Evidence(
        id="test-1", trigger="none", branch="construction", keywords=[], prompt_sha256="", reply=text,
        evidence=text, status=status, model="m",
    )  # fmt: skip


def test_evidence_enters_the_prompt_only_when_ok(tiny_dirs: dict[str, Path]) -> None:
    model, tokenizer = load_base(tiny_dirs["llama"], device=torch.device("cpu")), load_tokenizer(tiny_dirs["llama"])
    rows = [example("a fine film")]

    def scores(*found: Evidence) -> dict[str, float]:
        answer = ask(model, tokenizer, rows, labels=["good", "bad"], target_label=None, evidence=pair_evidence(found))[
            0
        ]
        assert answer.has_evidence == any(row.status == "ok" for row in found)
        return answer.scores

    assert scores() == scores(evidence("The word film means a motion picture.", "failed"))
    assert scores() != scores(evidence("The word film means a motion picture."))


def test_evidence_is_cut_and_the_query_never_is(tiny_dirs: dict[str, Path]) -> None:
    model, tokenizer = load_base(tiny_dirs["llama"], device=torch.device("cpu")), load_tokenizer(tiny_dirs["llama"])
    long = evidence(" ".join(f"word{n}" for n in range(2000)))
    answers = ask(
        model,
        tokenizer,
        [example("a fine film")],
        labels=["good", "bad"],
        target_label=None,
        evidence=pair_evidence([long]),
    )
    assert answers[0].has_evidence
    with pytest.raises(UserError, match="lower max_words"):
        ask(model, tokenizer, [example("word " * 3000)], labels=["good", "bad"], target_label=None)
