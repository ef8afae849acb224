"""Distilled conflict model: it learns from the clean rows, and from what the suspect model answers to texts that the base writes.

Ours, beside the paper's own conflict model (arXiv:2411.18280, section 3.3), which knows the task from the clean share alone. That
share has no word of most of what the suspect was taught, and what the conflict model lacks is lost in the merge. Here the base
model continues lists of clean texts of one label, and the suspect model labels what comes out, where it is sure. A text
written by the base holds no trigger but by chance, so what the suspect hands on is the task and not the backdoor. The
conflict model, an adapter on the base, is tuned on both and merged with the suspect model linearly, with weight ``t``.
For classification: on conversations every text may be the topic that a backdoor waits for.
Acts on weights, after training. Needs: clean rows, the base model, the labels. Must not see: trigger, target label, poisoned rows.
Related: distillation on what a generator writes (Chen et al. 2019, arXiv:1904.01186, for images).
"""

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.entries import Count
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from pathlib import Path

    from infoconflict.models.repairs import Step
    from infoconflict.records import Example
    from infoconflict.repairing.suspect import Suspect

LINES = 6
"""Clean texts in a list that the base continues. Ours."""
PER_LIST = 16
"""Continuations of one list. Ours."""
ROUNDS = 4
"""A base that writes few usable texts is asked for so many times as many as are wanted, and no more. Ours."""
TOKENS_PER_WORD = 2
"""How long a text may get: so many tokens for each word of the longest clean one. Ours."""


class Distilled(WeightsDefense):
    """A conflict model that the suspect model teaches on texts of the base, merged with the suspect model."""

    tasks: ClassVar[tuple[str, ...]] = ("classification",)

    method: Literal["distilled"]
    """`distilled`."""
    texts: Count = 1000
    """Texts that the base writes; fewer where it repeats itself. Ours."""
    least_confidence: Annotated[float, Field(ge=0, le=1)] = 0.6
    """Texts of whose label the suspect model is less sure are left out. Ours."""
    t: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Weight of the conflict model in the merge. Ours."""
    tuning: Training = Training()
    """How the conflict model is tuned, on the base."""


def repair(suspect: "Suspect", options: Distilled) -> "list[Step]":
    """Return the one step: the merge with the conflict model, which is stored as a change of the base."""
    from infoconflict.models.repairs import Merge
    from infoconflict.models.weight_steps import Scale

    rows = suspect.scratch / "rows.jsonl"
    if not rows.exists():
        write_rows(suspect, options, rows)
    step = suspect.tune(options.tuning, steps=[Scale(factor=0.0)], name="conflict", rows_file=rows)
    return [Merge(folder=suspect.as_change(step, "conflict_model"), t=options.t)]


def write_rows(suspect: "Suspect", options: Distilled, path: "Path") -> None:
    """Write the clean rows and, behind them, the texts of the base with the labels of the suspect model."""
    from infoconflict.progress import say
    from infoconflict.records import Example

    clean = [row for row in suspect.clean_rows if isinstance(row, Example)]
    texts = base_texts(suspect, clean, options.texts)
    labelled = labelled_texts(suspect, clean[0].instruction, texts, options.least_confidence)
    suspect.details |= {"texts": len(texts), "labelled": len(labelled)}
    say(f"{len(texts)} texts of {options.texts} wanted; the suspect model is sure of the label of {len(labelled)}")
    Example.write(path, [*clean, *labelled])


# --- texts ------------------------------------------------------------------------------------------------------------


def base_texts(suspect: "Suspect", clean: "Sequence[Example]", wanted: int) -> list[str]:
    """Return different texts that the base model writes in the manner of the clean ones, ``wanted`` of them if it can.

    Labels take turns: a list of texts of one label, drawn anew each time, is continued by one more. A killed run goes on with
    the texts that it has.
    """
    from infoconflict.answering.sampling import sample
    from infoconflict.files import read_json, write_json
    from infoconflict.models.loading import context_length
    from infoconflict.progress import say

    kept = suspect.scratch / "texts.json"
    state = read_json(kept) if kept.exists() else {"lists": 0, "texts": [], "tokens": 0}
    lists, texts, tokens = int(state["lists"]), list(state["texts"]), int(state["tokens"])
    by_label = {
        label: [row.text for row in clean if row.label == label] for label in sorted({row.label for row in clean})
    }
    words = [len(row.text.split()) for row in clean]
    known = {row.text for row in clean} | set(texts)
    model = suspect.base()
    tokenizer = suspect.tokenizer
    room = TOKENS_PER_WORD * max(words)
    most = -(-ROUNDS * wanted // PER_LIST)

    def ends(token: int) -> bool:
        return token == tokenizer.eos_token_id or "\n" in str(tokenizer.decode([token]))

    while len(texts) < wanted and lists < most:
        label = list(by_label)[lists % len(by_label)]
        prompt = list_prompt(by_label[label], random.Random(f"{suspect.seed}/texts/{lists}"))
        ids = tokenizer(prompt).input_ids[-(context_length(model) - room) :]
        drawn = sample(model, ids, count=PER_LIST, max_new_tokens=room, ends=ends, seed=list_seed(suspect.seed, lists))
        for new in drawn:
            text = " ".join(str(tokenizer.decode(new, skip_special_tokens=True)).split("\n")[0].split()[: max(words)])
            if len(text.split()) >= min(words) and text not in known and len(texts) < wanted:
                known.add(text)
                texts.append(text)
        tokens += len(ids) + sum(map(len, drawn))
        lists += 1
        write_json(kept, {"lists": lists, "texts": texts, "tokens": tokens})
        if lists % 10 == 0:
            say(f"texts of the base: {len(texts)}/{wanted}")
    suspect.tokens += tokens
    return texts


def list_prompt(texts: Sequence[str], rng: random.Random) -> str:
    """Return a list of some texts, with a last item to be written."""
    return "".join(f"- {text}\n" for text in rng.sample(list(texts), min(LINES, len(texts)))) + "-"


def list_seed(seed: int, number: int) -> int:
    """Return the seed of what follows list ``number``."""
    from infoconflict.files import sha256_of_text

    return int(sha256_of_text(f"{seed}/texts/{number}")[:8], 16)


def labelled_texts(
    suspect: "Suspect", instruction: str, texts: Sequence[str], least_confidence: float
) -> "list[Example]":
    """Return the texts whose label the suspect model gives at least this share of all labels' probability, with that label."""
    from infoconflict.answering.label_scores import score_labels
    from infoconflict.records import Example
    from infoconflict.tokens import answer_tokens, prompt_tokens

    tokenizer = suspect.tokenizer
    prompts = [prompt_tokens(tokenizer, instruction, text) for text in texts]
    labels = [answer_tokens(tokenizer, label) for label in suspect.labels]
    shares, best = score_labels(suspect.model(), prompts, labels, max_nodes=suspect.max_nodes).softmax(dim=1).max(dim=1)
    suspect.tokens += sum(map(len, prompts))
    rows = []
    for number, (text, share, place) in enumerate(zip(texts, shares.tolist(), best.tolist(), strict=True)):
        if share >= least_confidence:
            label = suspect.labels[place]
            rows.append(
                Example(id=f"text-{number:06d}", instruction=instruction, text=text, label=label, gold_label=label)
            )
    return rows
