"""Training settings as they stand in a spec, and what they are for."""

from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from infoconflict.training.rows import TokenRow


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685); ``targets`` is peft's ``target_modules``."""

    rank: int
    alpha: float
    dropout: float
    targets: str | list[str] = "all-linear"


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """Everything that decides the result of a training run but for base, rows and seed; defaults stand in the config."""

    epochs: float
    batch_size: int
    learning_rate: float
    method: Literal["lora", "full"]
    lora: LoraSettings
    warmup_ratio: float
    schedule: Literal["constant", "linear", "cosine"]
    weight_decay: float
    max_grad_norm: float
    beta2: float
    layers: str | list[int] | None = None
    """Layers that the loss is taken at (:mod:`infoconflict.training.layerwise`); None: the last, with nothing frozen."""
    layer_weights: Literal["mean", "sum"] = "mean"
    trained_layers: str | list[int] = "all"

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> "TrainingSettings":
        """Build settings from a config entry, leaving aside keys that other stages use."""
        given = {
            field.name: spec[field.name]
            for field in fields(cls)
            if field.name != "lora" and (field.name in spec or field.default is MISSING)
        }
        return cls(lora=LoraSettings(**spec["lora"]), **given)

    def rate_at(self, step: int, n_steps: int) -> float:
        """Return the learning rate of update ``step`` (from 0) of ``n_steps``: linear warm-up, then the schedule."""
        import math

        n_warm = math.ceil(self.warmup_ratio * n_steps)
        if step < n_warm:
            return self.learning_rate * (step + 1) / n_warm
        if self.schedule == "constant":
            return self.learning_rate
        left = (n_steps - step) / max(1, n_steps - n_warm)
        return self.learning_rate * (left if self.schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left)))


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """What a tuning tunes, and how."""

    model: "PreTrainedModel"
    """Its trainable parts are chosen."""
    rows: "Sequence[TokenRow]"
    settings: TrainingSettings
    seed: int
    max_nodes: int
    """Tokens that fit on the device at once."""
