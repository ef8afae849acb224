"""Merged models at many t in one job: the base is loaded once and only the touched tensors are written into it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from infoconflict.answering.ask import ask
from infoconflict.answering.likelihood import reference_log_likelihoods
from infoconflict.files import write_json
from infoconflict.jobs import Job
from infoconflict.merging.choose_t import choose_t, choose_t_by_likelihood
from infoconflict.merging.in_memory import prepare_merge
from infoconflict.models.changes import changed_tensors, read_tensors
from infoconflict.models.loading import apply_tensors, default_device, load_base, load_tokenizer
from infoconflict.records import Answer, Conversation, Example, read_rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MAX_NODES = 1024
SUSPECT = 0.0
"""The t at which the merged model is the suspect one (but for what TIES trims)."""


@dataclass
class MergeableModel:
    """A loaded base that becomes the merged model of any t."""

    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    tensors_at: Callable[[float], dict[str, Any]]
    labels: Sequence[str]
    max_nodes: int

    @classmethod
    def of(cls, job: Job) -> "MergeableModel":
        """Load a job's base, backdoored and conflict model."""
        model = load_base(job.input.base, device=default_device(), precision=job.spec["model"]["precision"])
        backdoored = changed_tensors(job.input.base, job.input.backdoored)
        conflict = changed_tensors(job.input.base, job.input.conflict)
        merge = job.spec["merge"]
        tensors_at = prepare_merge(
            read_tensors(job.input.base, sorted({*backdoored, *conflict})),
            backdoored,
            conflict,
            method=merge["method"],
            num_layers=model.config.num_hidden_layers,
            architecture=model.config.model_type,
            **method_options(merge),
        )
        max_nodes = int(job.machine.get("max_nodes", MAX_NODES))
        return cls(model, load_tokenizer(job.input.base), tensors_at, job.spec.get("labels", []), max_nodes)

    def answers(self, examples: Sequence[Example], *, t: float, target_label: str | None = None) -> list[Answer]:
        """Ask the model merged at ``t``."""
        apply_tensors(self.model, self.tensors_at(t))
        return ask(
            self.model,
            self.tokenizer,
            examples,
            labels=self.labels,
            target_label=target_label,
            max_nodes=self.max_nodes,
            t=t,
        )

    def log_likelihoods(self, conversations: Sequence[Conversation], *, t: float) -> list[float]:
        """Return how likely the model merged at ``t`` finds the reference answers."""
        apply_tensors(self.model, self.tensors_at(t))
        return reference_log_likelihoods(self.model, self.tokenizer, conversations, max_nodes=self.max_nodes)


def method_options(merge: dict[str, Any]) -> dict[str, Any]:
    """Return the options that only some methods have, by the names of the merge functions."""
    names = {"density": "density", "lambda": "lam", "depth_profile": "depth_profile"}
    return {own: merge[name] for name, own in names.items() if name in merge}


def choose_t_on_clean_rows(job: Job) -> None:
    """Score each candidate t on the held-out clean rows and write the choice; nothing of the attack is read."""
    merged = MergeableModel.of(job)
    holdout = read_rows(job.input.holdout)
    settings = job.spec["choose_t"]
    options = {"rule": settings["rule"], "merge": job.cell["merge"]}
    examples = [row for row in holdout if isinstance(row, Example)]
    chats = [row for row in holdout if isinstance(row, Conversation)]

    def correct(t: float) -> list[bool]:
        return [answer.answer == answer.gold_label for answer in merged.answers(examples, t=t)]

    def likely(t: float) -> list[float]:
        return merged.log_likelihoods(chats, t=t)

    if chats:
        choice = choose_t_by_likelihood(likely, settings["candidates"], suspect=likely(SUSPECT), **options)
    else:
        choice = choose_t(correct, settings["candidates"], suspect=correct(SUSPECT), **options)
    write_json(job.output.chosen, choice)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "backdoored", "conflict", "holdout")},
        outputs={"chosen_t": job.output.chosen},
        rows={"holdout": len(holdout)},
        details={"t": choice["t"]},
    )


def sweep_over_t(job: Job) -> None:
    """Answer clean and triggered rows at each t of the sweep: a measurement, which decides nothing.

    The triggered rows are those whose gold label is not the target: all that the attack success rate counts.
    """
    merged = MergeableModel.of(job)
    target_label, sweep = job.spec["target_label"], job.spec["sweep"]
    clean = Example.read(job.input.clean)[: sweep["rows"]]
    triggered = [row for row in Example.read(job.input.triggered) if row.gold_label != target_label][: sweep["rows"]]
    answers = [
        answer for t in sweep["t"] for answer in merged.answers([*clean, *triggered], t=t, target_label=target_label)
    ]
    Answer.write(job.output.answers, answers)
    job.card.write(
        job.output.card,
        inputs={name: job.input[name] for name in ("base", "backdoored", "conflict", "clean", "triggered")},
        outputs={"answers": job.output.answers},
        rows={"clean": len(clean), "triggered": len(triggered), "answers": len(answers)},
    )
