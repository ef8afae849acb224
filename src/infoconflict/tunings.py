"""How a model is tuned: the options of a training run, for the attacker's model, the conflict model, and defenses that tune."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infoconflict.entries import Count, Entry, Line, once


class Lora(Entry):
    """Low-rank adaptation (Hu et al. 2021, arXiv:2106.09685)."""

    rank: Count = 64
    """Rank of the update. CBA's and Lethe's code."""
    alpha: Annotated[float, Field(gt=0)] = 16
    """The update is scaled by alpha / rank. CBA's and Lethe's code."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Share of the adapter's inputs dropped in training. CBA's and Lethe's code."""
    targets: Line | Annotated[list[Line], Field(min_length=1), AfterValidator(once)] = "all-linear"
    """Modules that get an update: `all-linear` (all but the output head) or names as peft takes them. CBA's and Lethe's
    code."""


class Training(Entry):
    """How a model is tuned; the loss counts the answer's tokens only."""

    epochs: Annotated[float, Field(gt=0)] = 4
    """Passes over the rows. CBA's and Lethe's code."""
    batch_size: Count = 16
    """Rows per update, however many fit on the device at once. Ours; CBA's code has 512, Lethe's 128."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-4
    """Highest learning rate of AdamW. Paper, A.2."""
    method: Literal["lora", "full"] = "lora"
    """`lora` trains an adapter (keys under `lora`), `full` all weights. Paper, section 3.3."""
    lora: Lora = Lora()
    """Settings of the adapter."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] = 0.03
    """Share of the updates in which the rate rises linearly. CBA's and Lethe's code."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """The rate after the warm-up: kept, or falling to 0. CBA's and Lethe's code."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Weight decay of AdamW. CBA's code."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Gradients with a greater norm are scaled down to it. Ours; CBA's and Lethe's code have 0.3."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Second moment's decay of AdamW. CBA's and Lethe's code."""
