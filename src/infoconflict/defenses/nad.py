"""NAD, neural attention distillation: the model learns clean answers, and where a clean-tuned copy of it looks.

Li et al. 2021, arXiv:2101.05930, for decoders. Acts on weights, after training. Needs: clean rows. Must not see: trigger, target
label, poisoned rows. The paper gives the share of clean rows and the batch of 2, neither layers nor weights.

Teacher: the suspect model tuned on the clean rows. Student: the suspect model, with the loss CE + beta * sum_l w_l |A_l - T_l|^2
at blocks a third and two thirds up and at the last. A map A_l is, per token, the sum of squares of the state after block l,
scaled so that the map of a row has length 1. Differs from its source (images): the difference is summed over tokens, since a mean
would fade with the length; the first token, whose states are enormous in language models, is left out; beta, where it is
`auto`, is such that on the first clean rows the second term begins as large as the first; the teacher's maps are computed once
and stored, rather than anew beside each update.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.defenses.objective import Objective
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from infoconflict.models.repairs import Step
    from infoconflict.repairing.suspect import Suspect
    from infoconflict.training.further_losses import Padded
    from infoconflict.training.settings import Tuned

Map = Literal["hidden", "attn"]
Weight = Annotated[float, Field(ge=0)]

CALIBRATION_ROWS = 64
"""Rows on which beta is set. Ours."""


class NAD(WeightsDefense):
    """The suspect model tuned on clean rows towards the maps of a teacher."""

    method: Literal["nad"]
    """`nad`."""
    rows: Literal["clean_share", "all"] = "clean_share"
    """Clean rows: the defender's share (paper, A.3: 10%), or the whole clean training split."""
    map: Map = "hidden"
    """What is matched: sums of squared states, or how much each token is attended to (a mean over heads and over the tokens that
    can see it). Ours; NAD's code has the first, with exponent 2, on images."""
    layer_weights: Annotated[list[Weight], Field(min_length=3, max_length=3)] = Field(default=[0.5, 1.0, 1.0])
    """Weights at a third, at two thirds, and at the last block. NAD's code: 500, 1000 and 1000."""
    beta: Literal["auto"] | Weight = "auto"
    """Factor of the maps' term; `auto`: as large as the answers' term at the start. Ours."""
    teacher: Training = Training(epochs=10, learning_rate=2e-4, batch_size=16)
    """How the teacher is tuned. BackdoorBench: 10 epochs; the rest as `fine_tuning`."""
    tuning: Training = Training(epochs=3, learning_rate=2e-4, batch_size=2)
    """How the student is tuned. Paper, A.3: 2 rows; the rest as `fine_tuning`."""

    def clean_rows(self) -> Literal["clean_share", "all"]:
        """Return which clean rows it is given."""
        return self.rows


def repair(suspect: "Suspect", options: NAD) -> "list[Step]":
    """Return the student's step; the teacher's is not kept."""
    maps = suspect.scratch / "teacher_maps.safetensors"
    teacher = suspect.tune(options.teacher, name="teacher")
    if not maps.exists():
        store_maps(suspect, teacher, options.map, maps)
    request = {
        "method": "nad",
        "maps": str(maps),
        "map": options.map,
        "weights": list(options.layer_weights),
        "beta": options.beta,
    }
    student = suspect.tune(options.tuning, objective=request)
    suspect.discard(teacher)
    return [student]


def chosen_layers(depth: int, weights: Sequence[float]) -> dict[int, float]:
    """Return the layers, from 1, whose maps are matched, each with its weight; two that fall together add theirs."""
    found: dict[int, float] = {}
    for part, weight in enumerate(weights, start=1):
        layer = math.ceil(part * depth / len(weights))
        found[layer] = found.get(layer, 0.0) + weight
    return found


def scaled(values: "Tensor", mask: "Tensor") -> "Tensor":
    """Return a map of nonnegative values, (n_rows, width), without padding and first tokens, each row of length 1 (or 0)."""
    counted = mask.clone()
    counted[:, 0] = False
    values = values.float() * counted
    return values / values.norm(dim=1, keepdim=True).clamp(min=1e-30)


def hidden_map(states: "Tensor", mask: "Tensor") -> "Tensor":
    """Return the map of states (n_rows, width, hidden)."""
    return scaled(states.float().square().sum(-1), mask)


def attention_map(attention: "Tensor", mask: "Tensor") -> "Tensor":
    """Return the map of attention probabilities (n_rows, heads, width, width), queries before keys."""
    per_query = attention.float().mean(1) * mask[:, :, None]
    seen_by = (mask[:, :, None].float().expand_as(per_query)).tril().sum(1)
    return scaled(per_query.sum(1) / seen_by.clamp(min=1), mask)


def maps_of(
    model: "PreTrainedModel", rows: "Padded", layers: Sequence[int], which: Map
) -> "tuple[dict[int, Tensor], Tensor]":
    """Run the model on padded rows; return the map, (n_rows, width), after each layer, and the last states."""
    from infoconflict.training.further_losses import run_backbone, states_of

    if which == "attn":
        output = run_backbone(model, rows, output_attentions=True)
        maps = {layer: attention_map(output.attentions[layer - 1], rows.mask) for layer in layers}
        return maps, output.last_hidden_state
    with states_of(model, layers) as kept:
        last = run_backbone(model, rows).last_hidden_state
        return {layer: hidden_map(kept[layer], rows.mask) for layer in layers}, last


def store_maps(suspect: "Suspect", teacher: "Step", which: Map, path: Path) -> None:
    """Write the teacher's maps of all clean rows: by number, (n_layers, length) each."""
    import torch
    from safetensors.torch import save_file

    from infoconflict.files import whole_file
    from infoconflict.models.loading import context_length
    from infoconflict.models.parts import blocks
    from infoconflict.progress import say
    from infoconflict.training.further_losses import padded, side_by_side
    from infoconflict.training.rows import tokenize_rows

    model = suspect.model([teacher])
    use_eager_attention(model, which)
    layers = list(chosen_layers(len(blocks(model.base_model)), [1.0] * 3))
    rows = tokenize_rows(suspect.tokenizer, suspect.clean_rows, max_tokens=context_length(model))
    device = next(model.parameters()).device
    found: dict[str, Tensor] = {}
    groups = side_by_side(rows, max_tokens=suspect.max_nodes)
    with torch.inference_mode():
        for number, group in enumerate(groups, start=1):
            maps, _ = maps_of(model, padded([rows[index] for index in group], device), layers, which)
            stacked = torch.stack([maps[layer] for layer in layers], dim=1).cpu()
            for place, index in enumerate(group):
                found[str(index)] = stacked[place, :, : len(rows[index].inputs)].contiguous()
            if number % 50 == 0 or number == len(groups):
                say(f"teacher's maps: {len(found)}/{len(rows)} rows")
    suspect.tokens += sum(len(row.inputs) for row in rows)
    with whole_file(path) as temporary:
        save_file(found, temporary)


def use_eager_attention(model: "PreTrainedModel", which: Map) -> None:
    """For maps of attention: have it computed by the kernel that gives its probabilities."""
    if which == "attn":
        model.set_attn_implementation("eager")


class Distillation(Objective):
    """The answers, and the teacher's maps."""

    def __init__(
        self, maps: "dict[str, Tensor]", *, which: Map, weights: Sequence[float], beta: float | Literal["auto"]
    ) -> None:
        self.maps, self.which, self.weights = maps, which, weights
        self.wanted = beta
        self.beta = 0.0 if beta == "auto" else float(beta)

    def prepare(self, tuned: "Tuned") -> None:
        """Take up model and rows."""
        from infoconflict.models.parts import blocks

        self.model, self.rows, self.max_nodes = tuned.model, tuned.rows, tuned.max_nodes
        self.layers = chosen_layers(len(blocks(tuned.model.base_model)), self.weights)
        use_eager_attention(tuned.model, self.which)

    def start(self) -> None:
        """Set beta, if it is to be set."""
        import torch

        from infoconflict.progress import say
        from infoconflict.training.further_losses import frozen

        if self.wanted != "auto":
            return
        chosen = range(min(CALIBRATION_ROWS, len(self.rows)))
        answers, maps = 0.0, 0.0
        with frozen(self.model), torch.no_grad():
            for answer_part, map_part, _ in self.terms(chosen):
                answers += answer_part.item()
                maps += map_part.item()
        answers /= sum(len(self.rows[index].target_positions) for index in chosen)
        maps /= len(chosen)
        self.beta = answers / maps if maps > 0 else 1.0
        self.tokens += sum(len(self.rows[index].inputs) for index in chosen)
        say(f"beta {self.beta:.4g}: on {len(chosen)} rows the answers' term is {answers:.4g} and the maps' {maps:.4g}")

    def terms(self, indices: Sequence[int]) -> "Iterator[tuple[Tensor, Tensor, int]]":
        """Yield, of each group of rows, the summed cross-entropy, the summed and weighted difference of maps, and the size."""
        from infoconflict.training.further_losses import answer_loss, padded, side_by_side

        device = next(self.model.parameters()).device
        own = [self.rows[index] for index in indices]
        for group in side_by_side(own, max_tokens=self.max_nodes):
            rows = padded([own[index] for index in group], device)
            maps, last = maps_of(self.model, rows, list(self.layers), self.which)
            teacher = self.teacher_maps([indices[index] for index in group], rows)
            differences = [
                weight * (maps[layer] - teacher[:, place]).square().sum()
                for place, (layer, weight) in enumerate(self.layers.items())
            ]
            yield answer_loss(self.model, last, rows), sum(differences[1:], differences[0]), rows.n_tokens

    def teacher_maps(self, indices: Sequence[int], rows: "Padded") -> "Tensor":
        """Return the teacher's maps of some rows, padded: (n_rows, n_layers, width)."""
        import torch

        found = torch.zeros((len(indices), len(self.layers), rows.ids.shape[1]), device=rows.ids.device)
        for place, index in enumerate(indices):
            stored = self.maps[str(index)]
            found[place, :, : stored.shape[1]] = stored.to(found.device)
        return found

    def parts(self, batch: Sequence[int], mine: Sequence[int], step: int) -> "Iterator[tuple[Tensor, int]]":
        """Yield the loss of each group of rows."""
        n_targets = sum(len(self.rows[index].target_positions) for index in batch)
        for answers, maps, n_tokens in self.terms(mine):
            yield answers / n_targets + self.beta * maps / len(batch), n_tokens

    def state(self) -> dict[str, Any]:
        """Return beta, too."""
        return {**super().state(), "beta": self.beta}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up beta, too."""
        super().restore(state)
        self.beta = state["beta"]

    def details(self) -> dict[str, Any]:
        """Return what the maps' term was multiplied with."""
        return {"beta": self.beta}


def objective(request: dict[str, Any]) -> Distillation:
    """Make the objective of the student's tuning."""
    from safetensors.torch import load_file

    return Distillation(
        load_file(request["maps"]), which=request["map"], weights=request["weights"], beta=request["beta"]
    )
