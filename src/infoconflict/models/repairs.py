"""A repaired model is a suspect model plus a repair: steps that are taken one after the other on the loaded weights.

A repair is a directory with ``repair.json`` (the steps in order) and the files that they name, so that a defense stores what
it changed and nothing else: whole tensors, an adapter, a mask, or just the recipe of a rounding. Weights that are stored whole
or adapted count as they are; the suspect change stays where it was.
"""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from infoconflict.errors import UserError
from infoconflict.files import PathLike, read_json, write_json
from infoconflict.models.changes import LoraChange, open_safetensors
from infoconflict.models.weight_steps import Keep, Mask, ResetRows, Round, Scale

if TYPE_CHECKING:
    from transformers import PreTrainedModel

REPAIR = "repair.json"


class Step(Protocol):
    """One step of a repair; its fields are its settings and the names of its files."""

    kind: ClassVar[str]

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Change the loaded model in place; ``folder`` is the repair's, ``base_dir`` the base model's directory."""


@dataclass(frozen=True, kw_only=True)
class Tensors:
    """Parameters that are replaced whole, by name (an edit, a full tuning)."""

    kind: ClassVar[str] = "tensors"

    file: str
    """A safetensors file in the repair's folder."""

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Overwrite the parameters."""
        from infoconflict.models.loading import apply_tensors

        with open_safetensors(folder / self.file) as stored:
            apply_tensors(model, {name: stored.get_tensor(name) for name in stored.keys()})  # noqa: SIM118


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A PEFT LoRA adapter that was trained on the model as the steps before left it."""

    kind: ClassVar[str] = "adapter"

    folder: str
    """A folder in the repair's folder."""

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Fold the adapter into the weights, in float32."""
        from infoconflict.models.loading import apply_tensors

        change = LoraChange(folder / self.folder, conv1d=model.config.model_type == "gpt2")
        parameters = dict(model.named_parameters())
        if unknown := [name for name in change.names if name not in parameters]:
            raise UserError(f"{change.path}: adapts '{unknown[0]}', which the model lacks; repair the model again")
        for name in change.names:
            value = change.dense(name, parameters[name].detach().float().cpu())
            apply_tensors(model, {name: value})


@dataclass(frozen=True, kw_only=True)
class Channels:
    """Channels that are cut off: their entries of some parameters become zero."""

    kind: ClassVar[str] = "channels"

    parameters: dict[str, int]
    """Axis along which the channels lie, by name of the parameter."""
    channels: list[int]

    def apply(self, model: "PreTrainedModel", folder: Path, base_dir: Path) -> None:
        """Zero the entries."""
        import torch

        named = dict(model.named_parameters())
        with torch.no_grad():
            for name, axis in self.parameters.items():
                if name not in named or max(self.channels, default=-1) >= named[name].shape[axis]:
                    raise UserError(f"{folder}: cuts channels of '{name}' that the model lacks; repair the model again")
                chosen = torch.tensor(self.channels, dtype=torch.long, device=named[name].device)
                named[name].index_fill_(axis, chosen, 0.0)


STEPS: dict[str, type[Step]] = {
    step.kind: step for step in (Tensors, Adapter, Channels, Mask, Round, Scale, Keep, ResetRows)
}


def write_repair(folder: PathLike, steps: list[Step]) -> None:
    """Write the list of steps; their files must be in the folder already."""
    rows = [{"kind": step.kind, **asdict(step)} for step in steps]  # type: ignore[call-overload]
    write_json(Path(folder) / REPAIR, {"steps": rows})


def read_repair(folder: PathLike) -> list[Step]:
    """Read the steps of a repair.

    Raises
    ------
    UserError
        If there are none, or one is unknown.
    """
    path = Path(folder) / REPAIR
    if not path.exists():
        raise UserError(f"{folder}: holds no {REPAIR}; repair the model again")
    return [_step(path, row) for row in read_json(path)["steps"]]


def _step(path: Path, row: dict[str, Any]) -> Step:
    kind = row.pop("kind", None)
    if kind not in STEPS:
        raise UserError(f"{path}: has a step of the kind {kind!r}; known: {', '.join(STEPS)}")
    names = {field.name for field in fields(STEPS[kind])}  # type: ignore[arg-type]
    if set(row) != names:
        raise UserError(f"{path}: the step {kind} has {sorted(row)}, expected {sorted(names)}; repair the model again")
    return STEPS[kind](**row)


def apply_repair(model: "PreTrainedModel", base_dir: PathLike, folder: PathLike) -> None:
    """Take all steps of a repair on a loaded suspect model, in place."""
    apply_steps(model, base_dir, folder, read_repair(folder))


def apply_steps(model: "PreTrainedModel", base_dir: PathLike, folder: PathLike, steps: list[Step]) -> None:
    """Take some steps on a loaded suspect model, in place."""
    for step in steps:
        step.apply(model, Path(folder), Path(base_dir))
