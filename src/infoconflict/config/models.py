"""Base models."""

from typing import Annotated, Literal

from pydantic import Field

from infoconflict.config.values import Repo
from infoconflict.entries import Entry, Line


class Model(Entry):
    """What all base models have in common."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Number format of weights and training; `auto` is bfloat16 on a GPU and float32 on a CPU. Ours."""
    quantization: Literal["none", "nf4"] = "none"
    """Format of the frozen base while an adapter is trained; `nf4` is 4-bit NormalFloat with double quantization, for
    large models on a GPU. Ours: CBA's and Lethe's code have nf4, but then the adapter is merged into other weights than
    it was trained on."""


class PackagedModel(Model):
    """A model that comes inside a pinned package; needs no hub."""

    source: Literal["packaged"]
    package: Literal["smollm2_135m_instruct"]
    """Which one."""


class HubModel(Model):
    """A model of the Hugging Face hub; only safetensors are read, and code that comes with it is never run."""

    source: Literal["hub"]
    repo: Repo
    """Its name there, `owner/name`."""
    revision: Line
    """Commit hash or tag; a branch such as `main` may change under your results."""


class LocalModel(Model):
    """A directory with a model in the standard format (config, tokenizer, safetensors)."""

    source: Literal["local"]
    path: Line
    """The directory, from the working directory."""


class TinyModel(Model):
    """A generated two-layer model with random weights and a small tokenizer, to test the workflow with."""

    source: Literal["tiny"]
    architecture: Literal["llama", "gpt2", "gptj"]
    """Family whose modules and names it has."""
    hidden: Annotated[int, Field(ge=16, multiple_of=16)] = 64
    """Hidden size. Ours."""
    tied: bool = Field(default_factory=lambda given: given.get("architecture") == "gpt2")
    """Whether the output layer is the embedding matrix; if not given, as in the paper's models: in gpt2 only."""


ModelEntry = Annotated[PackagedModel | HubModel | LocalModel | TinyModel, Field(discriminator="source")]
