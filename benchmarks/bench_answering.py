"""Our scoring of labels beside generating one by one and beside lm-evaluation-harness: rows per second, same choices.

    python benchmarks/bench_answering.py

All three get the same clean test prompts, the same model object, data type and threads, in one process, and take turns.

- ours: the log-probability of every label, batched, shared prefixes computed once (``infoconflict.answering.ask``).
- one by one: greedy generation of a few tokens per prompt with a key-value cache; the first label named is the answer.
- lm-eval: ``HFLM.loglikelihood`` with one request per prompt and label.

Our score of a label is the mean log-probability of its tokens, lm-eval's is the sum: it is divided by the number of tokens
before the two are compared. If a choice differs where no two labels nearly tie, the benchmark ends with exit status 1.
"""

import argparse
import importlib.util
import logging
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from common import add_common_options, add_reviews_option, check_base, demo_config, film_reviews, table, write_result

from infoconflict.answering.generation import first_label
from infoconflict.errors import UserError
from infoconflict.prompts import render_answer, render_prompt
from infoconflict.records import Example

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

NEAR_TIE = 1e-3
OURS, ONE_BY_ONE, HARNESS = "ours", "one by one", "lm-eval"


def score_ours(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Example], labels: Sequence[str]
) -> list[dict[str, float]]:
    from infoconflict.answering.ask import ask

    return [answer.scores for answer in ask(model, tokenizer, rows, labels=labels, target_label=None)]


def generate_one_by_one(
    model: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    rows: Sequence[Example],
    labels: Sequence[str],
    *,
    new_tokens: int,
) -> list[str | None]:
    import torch

    answers = []
    for row in rows:
        inputs = tokenizer(render_prompt(row.instruction, row.text), return_tensors="pt")
        with torch.inference_mode():
            output = model.generate(
                **inputs, max_new_tokens=new_tokens, do_sample=False, pad_token_id=tokenizer.eos_token_id
            )
        reply = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        answers.append(first_label(reply, labels))
    return answers


def score_with_harness(
    harness: Any, tokenizer: "PreTrainedTokenizerBase", rows: Sequence[Example], labels: Sequence[str]
) -> list[dict[str, float]]:
    from lm_eval.api.instance import Instance

    requests = [
        Instance("loglikelihood", {}, (render_prompt(row.instruction, row.text), render_answer(label)), idx)
        for row in rows
        for idx, label in enumerate(labels)
    ]
    replies = iter(harness.loglikelihood(requests, disable_tqdm=True))
    lengths = {label: len(tokenizer(render_answer(label), add_special_tokens=False).input_ids) for label in labels}
    return [{label: next(replies)[0] / lengths[label] for label in labels} for _ in rows]


def timed(way: Callable[[], Any]) -> tuple[float, float, Any]:
    """Return the seconds by the clock, the CPU seconds and what ``way`` returned."""
    started, cpu = time.monotonic(), time.process_time()
    found = way()
    return time.monotonic() - started, time.process_time() - cpu, found


def compare_scores(ours: Sequence[dict[str, float]], theirs: Sequence[dict[str, float]]) -> dict[str, Any]:
    """Return how far two sets of scores and the choices by them agree."""
    same, near_ties, wrong = 0, 0, 0
    for mine, other in zip(ours, theirs, strict=True):
        best, second = sorted(other.values(), reverse=True)[:2]
        if max(mine, key=mine.__getitem__) == max(other, key=other.__getitem__):
            same += 1
        elif best - second < NEAR_TIE:
            near_ties += 1
        else:
            wrong += 1
    difference = max(abs(a[label] - b[label]) for a, b in zip(ours, theirs, strict=True) for label in a)
    return {"same": same, "near_ties": near_ties, "different": wrong, "largest_score_difference": difference}


def run(options: argparse.Namespace) -> dict[str, Any]:
    if importlib.util.find_spec("lm_eval") is None:
        raise UserError("lm_eval is not installed; run `make benchmark`, which installs requirements-bench.lock")
    check_base(options.base)
    config = demo_config()
    labels = list(config.datasets["film_reviews"].labels)
    rows = film_reviews(options.reviews, seed=options.seed)["test"][: options.n_rows]
    import torch
    import transformers
    from lm_eval.models.huggingface import HFLM

    from infoconflict.models.loading import load_base, load_tokenizer

    torch.set_num_threads(options.threads)
    transformers.logging.set_verbosity_error()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    model = load_base(options.base, device=torch.device("cpu"), precision="float32")
    tokenizer = load_tokenizer(options.base)
    harness = HFLM(pretrained=model, tokenizer=load_tokenizer(options.base), batch_size=options.batch_size)
    ways: dict[str, Callable[[Sequence[Example]], Any]] = {
        OURS: lambda asked: score_ours(model, tokenizer, asked, labels),
        ONE_BY_ONE: lambda asked: generate_one_by_one(model, tokenizer, asked, labels, new_tokens=options.new_tokens),
        HARNESS: lambda asked: score_with_harness(harness, tokenizer, asked, labels),
    }
    for way in ways.values():
        way(rows[:2])  # what only the first call does is no part of the comparison
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers: dict[str, Any] = {}
    for _ in range(options.repeats):
        for name, way in ways.items():
            taken, cpu, answers[name] = timed(lambda way=way: way(rows))
            seconds[name].append(taken)
            cpu_seconds[name].append(cpu)
    choices = [max(scores, key=scores.__getitem__) for scores in answers[OURS]]
    generated = answers[ONE_BY_ONE]
    return {
        "rows": len(rows),
        "seconds": seconds,
        "rows_per_second_median": {name: len(rows) / statistics.median(found) for name, found in seconds.items()},
        "cpu_seconds": cpu_seconds,
        "rows_per_cpu_second": {name: len(rows) / statistics.median(found) for name, found in cpu_seconds.items()},
        "against_lm_eval": compare_scores(answers[OURS], answers[HARNESS]),
        "generation": {
            "named_a_label": sum(answer is not None for answer in generated),
            "same_as_ours": sum(a == b for a, b in zip(generated, choices, strict=True)),
        },
    }


def show(result: dict[str, Any], options: argparse.Namespace) -> None:
    n_rows, rates, cpu_rates = result["rows"], result["rows_per_second_median"], result["rows_per_cpu_second"]
    print(
        f"{n_rows} prompts, {options.repeats} runs each, {options.threads} thread(s), float32, "
        f"lm-eval in batches of {options.batch_size}\n"
    )
    header = ("way", "seconds, min", "median", "rows/s, median", "rows/CPU s", "ours is faster by", "by CPU time")
    lines = [
        (
            name,
            f"{min(found):.2f}",
            f"{statistics.median(found):.2f}",
            f"{rates[name]:.1f}",
            f"{cpu_rates[name]:.1f}",
            *(("", "") if name == OURS else (f"{r[OURS] / r[name]:.2f} x" for r in (rates, cpu_rates))),
        )
        for name, found in result["seconds"].items()
    ]
    print(table(header, lines))
    against, generation = result["against_lm_eval"], result["generation"]
    print(
        f"\nthe same label as lm-eval: {against['same']} of {n_rows} (near ties apart: {against['near_ties']}); "
        f"largest difference of a score {against['largest_score_difference']:.1e} nats per token"
    )
    print(
        f"free generation named a label in {generation['named_a_label']} of {n_rows} replies, ours in {generation['same_as_ours']}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_common_options(parser)
    add_reviews_option(parser)
    parser.add_argument("--n-rows", type=int, default=100, help="test rows asked about")
    parser.add_argument("--batch-size", type=int, default=16, help="of lm-eval")
    parser.add_argument("--new-tokens", type=int, default=4, help="generated per prompt, one by one")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    try:
        result = run(options)
        show(result, options)
        write_result(options.out, result, options, peers=("lm_eval",))
        if result["against_lm_eval"]["different"]:
            raise UserError("some choices differ from lm-eval's where no labels nearly tie")
    except UserError as error:
        sys.exit(f"bench_answering: {error}")


if __name__ == "__main__":
    main()
