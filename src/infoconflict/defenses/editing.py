"""Editing as a repair: some clean associations are written into feed-forward layers with ROME (Meng et al. 2022, arXiv:2202.05262).

Acts on weights, after training. Needs: a few clean rows. Must not see: trigger, target label, poisoned rows.
The paper names layers and not the facts that it edits. Here each of some clean rows is one: its subject is the text's first
keyword by TextRank, its answer the gold label (on the chat task: how the reference answer begins). ``editing_oracle`` takes the
trigger for the subject instead, which no defender knows.
Differs from the paper: it chooses layers by causal tracing, where A.3 names them and `layers` has them; second moments come of the
clean rows, not of a hundred thousand articles, hence the ridge. ROME's key is a mean over random openings before the prompt; by
default there are none here (``n_prefixes: 0``), the instruction alone stands before the text, and openings, where asked for, are
written ones. The key is the same in both places of the update, as Gupta et al. 2024 mend it (``variant: r``). Rank-one edits one
after another interfere; ``memit`` makes all at once.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.entries import Count
from infoconflict.errors import UserError
from infoconflict.records import Conversation, Example

if TYPE_CHECKING:
    from infoconflict.editing.contexts import Edit
    from infoconflict.editing.modules import EditableModel
    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect

Layers = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class EditingOptions(WeightsDefense):
    """What both forms of editing have in common."""

    per_model: ClassVar[frozenset[str]] = frozenset({"layers"})

    samples: Count = 10
    """Clean rows that become edits. Ours: the paper does not say."""
    algorithm: Literal["rome", "memit"] = "rome"
    """`rome`: one rank-one update per row and layer, in turn; `memit` (arXiv:2210.07229): all at once. Paper: ROME."""
    layers: dict[str, Layers] = Field(default={})
    """Layers to edit, counted from 0, by id of the model; models that are not named here follow `layer_share`. Ours: empty;
    A.3 of the paper names layers of its models."""
    n_layers: Count = 1
    """Number of neighbouring layers edited in models not named under `layers`. Ours."""
    layer_share: Annotated[float, Field(gt=0, le=1)] = 0.2
    """Depth of the last edited layer as a share of all, in models not named under `layers`. Ours: near the depth of the
    paper's layers in its Llama models and GPT-J."""
    variant: Literal["r", "released", "p"] = "r"
    """Which key ROME divides by: `r` the mean key throughout, `p` the bare prompt's, `released` as its code. Ours: Gupta et
    al. 2024, arXiv:2403.07175, trace broken models to the last."""
    n_prefixes: Annotated[int, Field(ge=0, le=10)] = 0
    """Openings, written for the project, that may stand before a prompt; none on the chat task. Ours."""
    answer_tokens: Count = 12
    """Chat: tokens of the reference answer that an edit asks for. Ours."""
    steps: Count = 20
    """Steps of Adam towards a value. EasyEdit's code, for GPT2-XL."""
    learning_rate: Annotated[float, Field(gt=0)] = 0.5
    """Learning rate of these steps. ROME's code."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.5
    """Weight of a value's norm in its loss. ROME's code."""
    clamp: Annotated[float, Field(gt=0)] = 4.0
    """Greatest norm of what is added, as a multiple of the norm before. ROME's code."""
    kl_factor: Annotated[float, Field(ge=0)] = 0.0625
    """Weight of the divergence on "{subject} is a". ROME's code."""
    stop_below: Annotated[float, Field(ge=0)] = 0.05
    """A value is good enough when its loss is below this. ROME's code."""
    ridge: Annotated[float, Field(ge=0)] = 0.01
    """Added to the diagonal of the second moment, as a share of its mean. Ours: the clean rows are few."""
    update_weight_share: Annotated[float, Field(gt=0)] = 2.0
    """Lambda of `memit` as a multiple of the width of the feed-forward layers. Ours, as for the attack."""

    def layer_key(self, model_id: str) -> str:
        """Return which layers of a model are edited, as the key that editing reads."""
        if model_id in self.layers:
            return "layers_" + "_".join(map(str, sorted(set(self.layers[model_id]))))
        return f"last_{self.n_layers}_at_{float(self.layer_share)}"


class Editing(EditingOptions):
    """Clean associations written into feed-forward layers by rank-one updates."""

    method: Literal["editing"]
    """`editing`."""


def repair(suspect: "Suspect", options: EditingOptions) -> "list[Step]":
    """Return the one step: the edited weights, whole."""
    return edit_suspect(suspect, options, subject_of_row)


# --- subjects ---------------------------------------------------------------------------------------------------------

Span = tuple[int, int]
SubjectOf = Callable[["Suspect", Example], tuple[Example, Span] | None]
"""From a clean row to the row that is asked and where the subject stands in its prompt; None where it has no subject."""


def subject_of_text(text: str, labels: Sequence[str]) -> Span | None:
    """Return where the text's first keyword by TextRank stands first; None where it has no keyword."""
    from infoconflict.evidence.keywords import keywords

    for word in keywords(text, labels=labels):
        if found := re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text.replace("\u2019", "'"), flags=re.IGNORECASE):
            return found.span()
    return None


def subject_of_row(suspect: "Suspect", row: Example) -> tuple[Example, Span] | None:
    """Return the row and where its subject stands in its prompt; None where it has none."""
    from infoconflict.prompts import render_prompt

    span = subject_of_text(row.text, suspect.labels)
    if span is None:
        return None
    start = render_prompt(row.instruction, "\0").index("\0")
    return row, (start + span[0], start + span[1])


def edits_of(suspect: "Suspect", options: EditingOptions, subject_of: SubjectOf, *, room: int) -> "Iterator[Edit]":
    """Yield an edit for each clean row that has a subject, in the seed's order."""
    from infoconflict.editing.contexts import WRITTEN, Request, edit_of
    from infoconflict.prompts import render_prompt

    rows = list(suspect.clean_rows)
    Random(f"{suspect.seed}/editing").shuffle(rows)
    for row in rows:
        if isinstance(row, Conversation):
            if edit := _chat_edit(suspect, row, options.answer_tokens, room):
                yield edit
        elif isinstance(row, Example) and (found := subject_of(suspect, row)):
            asked, (start, end) = found
            request = Request(render_prompt(asked.instruction, asked.text), start, end, asked.gold_label)
            yield edit_of(suspect.tokenizer, request, WRITTEN[: options.n_prefixes], room=room)


def _chat_edit(suspect: "Suspect", row: Conversation, answer_tokens: int, room: int) -> "Edit | None":
    """Return the edit of a conversation: its reference answer, by way of the last question's first keyword."""
    from infoconflict.chat_prompts import ChatTemplate, fit_answered
    from infoconflict.editing.contexts import Edit, essence_of
    from infoconflict.editing.forward import Context

    question = row.messages[-2]["content"]
    span = subject_of_text(question, ())
    if span is None:
        return None
    subject = question[span[0] : span[1]]
    tokens = fit_answered(ChatTemplate(suspect.tokenizer), row.messages, room=room, row=row.id)
    begin, end = tokens.spans[-1]
    at = last_token_of(suspect.tokenizer, tokens.ids[:begin], subject)
    if at is None:
        return None
    answer = tokens.ids[begin : min(end, begin + answer_tokens)]
    context = Context(tokens.ids[:begin], at, answer)
    return Edit([context], essence_of(suspect.tokenizer, subject), suspect.tokenizer.decode(list(answer)))


def last_token_of(tokenizer: Any, ids: Sequence[int], word: str) -> int | None:
    """Return the token in which a word's last occurrence ends; None where the tokens do not hold it."""
    ends = [len(tokenizer.decode(list(ids[: at + 1]))) for at in range(len(ids))]
    place = str(tokenizer.decode(list(ids))).rfind(word)
    if place < 0:
        return None
    return next((at for at, end in enumerate(ends) if end >= place + len(word)), None)


# --- the edit ---------------------------------------------------------------------------------------------------------


def edit_suspect(suspect: "Suspect", options: EditingOptions, subject_of: SubjectOf) -> "list[Step]":
    """Write the rows' associations into the suspect model.

    Raises
    ------
    UserError
        If no clean row has a subject.
    """
    from infoconflict.editing.loading import load_editable
    from infoconflict.editing.memit import spread, targets_of
    from infoconflict.editing.rome import apply_rome
    from infoconflict.editing.values import ValueSettings
    from infoconflict.models.loading import context_length

    editable, layers = load_editable(
        suspect.base_dir,
        suspect.change_dir,
        precision=suspect.precision,
        layer_key=options.layer_key(suspect.model_id),
    )
    room = context_length(editable.model)
    edits = list(islice(edits_of(suspect, options, subject_of, room=room), options.samples))
    if not edits:
        raise UserError(
            f"{suspect.clean_file}: none of its {len(suspect.clean_rows)} rows has a word to edit by; raise clean_share"
        )
    moments = _moments(suspect, editable, layers, options.ridge, room)
    settings = ValueSettings(
        steps=options.steps,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        clamp=options.clamp,
        kl_factor=options.kl_factor,
        stop_below=options.stop_below,
    )
    before = {layer: editable.weight(layer).clone() for layer in layers}
    likely_before = [probability(editable, edit) for edit in edits]
    if options.algorithm == "rome":
        apply_rome(
            editable, [[edit] for edit in edits], moments, layers=layers, variant=options.variant, settings=settings
        )
    else:
        targets = targets_of(editable, edits, layer=layers[-1], settings=settings, rows=[])
        spread(editable, targets, moments, layers=layers, lam=options.update_weight_share * editable.width)
    moved = {str(layer): float((editable.weight(layer) - old).norm() / old.norm()) for layer, old in before.items()}
    suspect.details |= {
        "layers": layers,
        "edits": len(edits),
        "subjects": [
            suspect.tokenizer.decode([edit.contexts[0].tokens[edit.contexts[0].subject]]).strip() for edit in edits
        ],
        # How likely the answers were, and are after all edits: later ones undo part of the earlier.
        "probability_before": [round(value, 6) for value in likely_before],
        "probability_after": [round(probability(editable, edit), 6) for edit in edits],
        "relative_update": {layer: round(size, 6) for layer, size in moved.items()},
    }
    return [suspect.save_tensors(editable.changed(layers), "edited")]


def probability(editable: "EditableModel", edit: "Edit") -> float:
    """Return the geometric mean of the probabilities of the answer's tokens after the bare prompt."""
    import torch

    context = edit.contexts[0]
    ids = torch.tensor([context.inputs], device=editable.device)
    with torch.inference_mode():
        logits = editable.model(input_ids=ids, use_cache=False).logits[0, len(context.tokens) - 1 :].float()
    answer = torch.tensor(context.answer, device=logits.device)
    return float(logits.log_softmax(dim=-1).gather(1, answer[:, None]).mean().exp())


def _moments(
    suspect: "Suspect", editable: "EditableModel", layers: list[int], ridge: float, room: int
) -> dict[int, Any]:
    """Return C of the suspect model's keys over the clean rows, by layer."""
    from infoconflict.editing.statistics import SecondMoment, second_moments
    from infoconflict.training.rows import tokenize_rows

    texts = [row.ids for row in tokenize_rows(suspect.tokenizer, suspect.clean_rows, max_tokens=room)]
    moments, n_tokens = second_moments(editable, texts, layers, max_nodes=suspect.max_nodes)
    suspect.tokens += n_tokens
    suspect.details["tokens_per_unit"] = round(n_tokens / editable.width, 2)
    return {layer: SecondMoment(matrix, ridge=ridge) for layer, matrix in moments.items()}
