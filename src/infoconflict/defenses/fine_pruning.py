"""Fine-pruning: channels that clean rows hardly use are cut off, then the model is tuned without them.

Liu et al. 2018, arXiv:1805.12185; the paper's share of the last hidden layer. Acts on weights, after training. Needs: clean
rows. Must not see: trigger, target label, poisoned rows. Differs from its source, which cuts channel after channel of a
convolution until the accuracy falls: the paper cuts a fixed share once. Of the paper nothing else is known: how activations are
counted and how the model is tuned afterwards are ours.

A channel of the last hidden layer is cut off behind the final norm, by zeroing its entry of the norm's weight (and bias). That is
masking the output head's input, and works where head and embeddings are one matrix. What is cut stays cut in the tuning.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from infoconflict.defenses.base import WeightsDefense
from infoconflict.defenses.objective import Objective
from infoconflict.tunings import Training

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from infoconflict.models.repairs import Channels, Step
    from infoconflict.repairing.suspect import Suspect
    from infoconflict.training.rows import TokenRow
    from infoconflict.training.settings import Tuned


class FinePruning(WeightsDefense):
    """The suspect model without the channels that clean rows use least, tuned on clean rows."""

    method: Literal["fine_pruning"]
    """`fine_pruning`."""
    share: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the channels that is cut off, rounded down. Paper, A.3: those below the 10th percentile."""
    where: Literal["norm", "mlp"] = "norm"
    """Whose channels: those of the last hidden layer, behind the final norm (paper, A.3), or the inner ones of the last block's
    feed-forward layer."""
    activity: Literal["abs", "signed"] = "abs"
    """How a channel's activation at a token counts: its size, or as it is. Ours; BackdoorBench has `signed`."""
    rows: Literal["clean_share", "all"] = "clean_share"
    """Clean rows: the defender's share, or the whole clean training split. Ours."""
    tuning: Training | None = Training(epochs=3, learning_rate=2e-4, batch_size=16)
    """How it is tuned afterwards; null: not at all. Ours: as `fine_tuning`, the paper does not say."""

    def clean_rows(self) -> Literal["clean_share", "all"]:
        """Return which clean rows it is given."""
        return self.rows


def repair(suspect: "Suspect", options: FinePruning) -> "list[Step]":
    """Return the pruning, and the tuning after it."""
    import math

    from infoconflict.models.loading import context_length
    from infoconflict.progress import say
    from infoconflict.training.rows import tokenize_rows

    model = suspect.model()
    rows = tokenize_rows(suspect.tokenizer, suspect.clean_rows, max_tokens=context_length(model))
    activity = mean_activity(
        model, rows, where=options.where, signed=options.activity == "signed", max_nodes=suspect.max_nodes
    )
    pruned = least_active(activity, math.floor(options.share * len(activity)))
    step = channels_step(model, options.where, pruned)
    suspect.tokens += sum(len(row.inputs) for row in rows)
    suspect.details["pruned"] = {"where": options.where, "channels": len(pruned), "of": len(activity)}
    say(f"cut off {len(pruned)} of {len(activity)} channels ({', '.join(step.parameters)})")
    del model
    if options.tuning is None:
        return [step]
    held = {"method": "fine_pruning", "parameters": step.parameters, "channels": step.channels}
    return [step, suspect.tune(options.tuning, steps=[step], objective=held)]


def mean_activity(
    model: "PreTrainedModel", rows: "Sequence[TokenRow]", *, where: str, signed: bool, max_nodes: int
) -> "Tensor":
    """Return the mean over all tokens of all rows of each channel's activation, or of its size: float64, (n_channels,)."""
    import torch

    from infoconflict.models.parts import final_norm
    from infoconflict.packing import build_prefix_tree, hidden_states, pack

    device = next(model.parameters()).device
    seen: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        seen.append(inputs[0])

    def keep_output(module: torch.nn.Module, inputs: Any, output: "Tensor") -> None:
        seen.append(output)

    handle = (
        final_norm(model.base_model).register_forward_hook(keep_output)
        if where == "norm"
        else model.get_submodule(down_projection(model)).register_forward_pre_hook(keep)
    )
    total, n_tokens = torch.zeros((), dtype=torch.float64), 0
    try:
        with torch.inference_mode():
            for group in pack([row.inputs for row in rows], max_nodes=max_nodes):
                tree = build_prefix_tree([rows[index].inputs for index in group])
                hidden_states(model.base_model, tree, device=device, dtype=model.dtype)
                values = seen.pop().reshape(tree.n_nodes, -1).double().cpu()
                # A prefix that rows share is computed once and counts for each of them.
                nodes = torch.cat([torch.from_numpy(path) for path in tree.paths])
                counts = torch.bincount(nodes, minlength=tree.n_nodes).double()
                total = total + counts @ (values if signed else values.abs())
                n_tokens += len(nodes)
    finally:
        handle.remove()
    return total / n_tokens


def least_active(activity: "Tensor", n: int) -> list[int]:
    """Return the ``n`` channels of the lowest activity, ascending by number; of equal ones the first."""
    return sorted(activity.argsort(stable=True)[:n].tolist())


def down_projection(model: "PreTrainedModel") -> str:
    """Return the name of the linear module that reads the inner channels of the last block's feed-forward layer."""
    from infoconflict.errors import UserError
    from infoconflict.models.parts import blocks, blocks_name

    last = f"{model.base_model_prefix}.{blocks_name(model.base_model)}.{len(blocks(model.base_model)) - 1}"
    modules = dict(model.named_modules())
    # Llama and most that came after; GPT-2; GPT-J.
    for name in ("mlp.down_proj", "mlp.c_proj", "mlp.fc_out"):
        if f"{last}.{name}" in modules:
            return f"{last}.{name}"
    raise UserError(
        f"fine_pruning knows no feed-forward layer in {last} of a {model.config.model_type}; set where: norm"
    )


def channels_step(model: "PreTrainedModel", where: str, channels: list[int]) -> "Channels":
    """Return the step that cuts channels off."""
    from transformers.pytorch_utils import Conv1D

    from infoconflict.models.parts import final_norm
    from infoconflict.models.repairs import Channels

    if where == "mlp":
        name = down_projection(model)
        axis = 0 if isinstance(model.get_submodule(name), Conv1D) else 1
        return Channels(parameters={f"{name}.weight": axis}, channels=channels)
    own = {id(parameter) for parameter in final_norm(model.base_model).parameters()}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in own]
    return Channels(parameters=dict.fromkeys(names, 0), channels=channels)


class Held(Objective):
    """Ordinary tuning in which entries that are zero stay so."""

    def __init__(self, parameters: dict[str, int], channels: list[int]) -> None:
        self.parameters, self.channels = parameters, channels

    def prepare(self, tuned: "Tuned") -> None:
        """Take the entries out of all gradients; an adapter on them reads the channels as zero."""
        import torch

        named = dict(tuned.model.named_parameters())
        for name, axis in self.parameters.items():
            parameter = named.get(name)
            # (rank, in): an adapter's first matrix, whatever the orientation of the weight.
            adapter = named.get(f"{name.removesuffix('.weight')}.lora_A.default.weight")
            if adapter is not None:
                parameter, axis = adapter, 1
                with torch.no_grad():
                    parameter[:, self.channels] = 0.0
            if parameter is not None and parameter.requires_grad:
                _hold(parameter, axis, self.channels)


def _hold(parameter: "Tensor", axis: int, channels: list[int]) -> None:
    import torch

    chosen = torch.tensor(channels, dtype=torch.long, device=parameter.device)
    parameter.register_hook(lambda gradient: gradient.index_fill(axis, chosen, 0.0))


def objective(request: dict[str, Any]) -> Held:
    """Make the objective of the tuning."""
    return Held(request["parameters"], request["channels"])
