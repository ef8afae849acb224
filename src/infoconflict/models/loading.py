"""A model is a base plus a change: loading both, and the architecture's own names for its parts.

Only safetensors weights are read and no code that comes with a checkpoint is run.
"""

from typing import TYPE_CHECKING, Any

import torch

from infoconflict.errors import UserError
from infoconflict.files import PathLike
from infoconflict.models.changes import changed_tensors

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def default_device() -> torch.device:
    """Return the GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Turn ``auto`` into bfloat16 on a GPU that has it and float32 elsewhere."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported() else torch.float32
    dtype: torch.dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    return dtype


def load_tokenizer(model_dir: PathLike) -> "PreTrainedTokenizerBase":
    """Load the tokenizer of a checkpoint directory, offline."""
    from transformers import AutoTokenizer

    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(str(model_dir), local_files_only=True)
    return tokenizer


def load_base(
    model_dir: PathLike, *, device: torch.device, precision: str = "auto", quantization: str = "none"
) -> "PreTrainedModel":
    """Load a checkpoint directory for causal language modelling, in evaluation mode.

    Raises
    ------
    UserError
        If 4-bit loading is asked for where bitsandbytes or a GPU is missing.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": resolve_precision(precision, device)}
    if quantization == "nf4":
        options |= four_bit_options(options["dtype"], device)
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        str(model_dir), local_files_only=True, use_safetensors=True, **options
    )
    if quantization == "none":
        model = model.to(device)
    return model.eval()


def four_bit_options(dtype: torch.dtype, device: torch.device) -> dict[str, Any]:
    """Return transformers' options for NF4 with double quantisation (Dettmers et al. 2023, arXiv:2305.14314)."""
    if device.type != "cuda":
        raise UserError("quantization: nf4 needs a GPU and this machine has none; set quantization: none for the model")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise UserError(
            "quantization: nf4 needs the package bitsandbytes; install it, or set quantization: none"
        ) from error
    from transformers import BitsAndBytesConfig

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    return {"quantization_config": config, "device_map": {"": device}}


def load_changed(
    base_dir: PathLike, change_dir: PathLike | None, *, device: torch.device, precision: str = "auto"
) -> "PreTrainedModel":
    """Load a base and fold a change into it: a PEFT adapter, or the whole tensors of a full fine-tuning.

    Folding once makes every later forward pass as fast as the base's.
    """
    model = load_base(base_dir, device=device, precision=precision)
    if change_dir is None:
        return model
    apply_tensors(model, changed_tensors(base_dir, change_dir))
    return model


def apply_tensors(model: "PreTrainedModel", tensors: dict[str, torch.Tensor]) -> None:
    """Overwrite parameters of a loaded model by name, in place.

    Raises
    ------
    UserError
        If a name is not a parameter of the model, or a shape differs.
    """
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, value in tensors.items():
            if name not in parameters:
                raise UserError(
                    f"the change names the tensor '{name}', which the base model does not have; it was made for another base"
                )
            if parameters[name].shape != value.shape:
                raise UserError(
                    f"the tensor '{name}' has shape {tuple(value.shape)} in the change and "
                    f"{tuple(parameters[name].shape)} in the base model; it was made for another base"
                )
            parameters[name].copy_(value)


def context_length(model: "PreTrainedModel") -> int:
    """Return how many tokens the model can take.

    A model with sliding windows (Mistral 7B v0.1) takes one window: up to there, all its tokens see each other, as the masks of
    prefix trees and of common caches have it.
    """
    longest = int(getattr(model.config, "max_position_embeddings", None) or model.config.n_positions)
    return min(longest, sliding_window(model) or longest)


def sliding_window(model: "PreTrainedModel") -> int | None:
    """Return how far back some layers of a model see, itself included; None where all see everything."""
    window: int | None = getattr(model.config, "sliding_window", None)
    return window
