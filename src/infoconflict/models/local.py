"""Checkpoint directories from elsewhere: checked before use, then taken over without their surplus.

A checkpoint is hostile input. Only weights in safetensors are taken, never pickles; no code that comes with it is run, and
settings that ask for some are refused; names and shapes of tensors are compared with what its config promises before a model
is built from them.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infoconflict.errors import UserError
from infoconflict.files import PathLike, write_json
from infoconflict.models.parts import LLAMA_LIKE
from infoconflict.models.wanted_code import SETTINGS, refuse_wanted_code

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerBase

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".h5", ".msgpack")
# Families whose files name tensors as the loaded model does, so that the two can be compared.
COMPARED_FAMILIES = frozenset({"gpt2", "gptj", *LLAMA_LIKE})

Shapes = dict[str, tuple[int, ...]]


def take_checkpoint(folder: PathLike, out_dir: PathLike, *, name: str | None = None) -> None:
    """Check a checkpoint and put what is needed of it into an existing directory.

    Weights are hard-linked where the file system allows it, else copied; the config says how to pad, and the tokenizer
    is saved anew with its end-of-sequence token as padding where it had none. No token is added.

    Parameters
    ----------
    folder : path
        Config, tokenizer and safetensors weights in transformers' layout.
    out_dir : path
        Where they go.
    name : str, optional
        What messages call the checkpoint; the folder by default.

    Raises
    ------
    UserError
        If something is missing, broken, pickled, quantised, wants its own code run, or does not fit together.
    """
    folder, out_dir, name = Path(folder), Path(out_dir), name or str(folder)
    if not folder.is_dir():
        raise UserError(
            f"{name}: no such directory; name one that holds config.json, a tokenizer and safetensors weights"
        )
    config = read_config(folder, name)
    weights, shapes = read_shapes(folder, name)
    model_config = typed_config(folder, name)
    compare_shapes(model_config, shapes, name)
    tokenizer = read_tokenizer(folder, name)
    pad = save_tokenizer(tokenizer, out_dir, embedded=model_config.vocab_size, name=name)
    for file in weights:
        # Behind a symbolic link (the hub's cache is made of them) stands the file that is meant.
        _link_or_copy(file.resolve(), out_dir / file.name)
    if len(weights) > 1 or weights[0].name != SINGLE:
        shutil.copyfile(folder / INDEX, out_dir / INDEX)
    if (folder / "generation_config.json").exists():
        shutil.copyfile(folder / "generation_config.json", out_dir / "generation_config.json")
    config["pad_token_id"] = pad
    if config.get("eos_token_id") is None:
        config["eos_token_id"] = tokenizer.eos_token_id
    write_json(out_dir / "config.json", config)


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """Return ``config.json`` after making sure that no file asks for code, and no weights are quantised."""
    if not (folder / "config.json").exists():
        raise UserError(f"{name}: has no config.json; name a directory in transformers' layout")
    contents = {file: _read_object(folder / file, f"{name}, {file}") for file in SETTINGS if (folder / file).exists()}
    for file, content in contents.items():
        refuse_wanted_code(content, f"{name}, {file}")
    config = contents["config.json"]
    if "quantization_config" in config:
        raise UserError(
            f"{name}, config.json: the weights are quantised and cannot be merged; use the unquantised model"
        )
    return config


def _read_object(path: Path, where: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise UserError(f"{where}: not readable as JSON ({error}); copy the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: holds a {type(content).__name__} instead of an object; copy the file again")
    return content


def read_shapes(folder: Path, name: str) -> tuple[list[Path], Shapes]:
    """Return the weight files and the shape of every tensor, read from the files' headers."""
    from safetensors import SafetensorError, safe_open

    weights, promised = _weight_files(folder, name)
    shapes: Shapes = {}
    for file in weights:
        try:
            with safe_open(file, framework="pt") as tensors:
                found = {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{name}, {file.name}: not a whole safetensors file ({error}); copy it again") from error
        shapes |= found
        if lost := sorted(tensor for tensor, home in promised.items() if home == file.name and tensor not in found):
            raise UserError(f"{name}, {file.name}: lacks the tensor '{lost[0]}' that {INDEX} promises; copy both again")
    return weights, shapes


def _weight_files(folder: Path, name: str) -> tuple[list[Path], dict[str, str]]:
    if (folder / SINGLE).exists():
        return [folder / SINGLE], {}
    if (folder / INDEX).exists():
        promised = _read_object(folder / INDEX, f"{name}, {INDEX}").get("weight_map")
        if not isinstance(promised, dict) or not promised:
            raise UserError(f"{name}, {INDEX}: has no weight_map; copy the file again")
        for file in sorted(map(str, promised.values())):
            if Path(file).name != file or not file.endswith(".safetensors"):
                raise UserError(
                    f"{name}, {INDEX}: '{file}' is no safetensors file of this directory; distrust this checkpoint"
                )
            if not (folder / file).exists():
                raise UserError(f"{name}: {file} is missing, which {INDEX} names; copy it too")
        return [folder / file for file in sorted(set(promised.values()))], promised
    if (folder / "adapter_config.json").exists():
        raise UserError(
            f"{name}: holds a PEFT adapter, not a whole model; merge it into its base first and name the result"
        )
    pickles = sorted(file.name for file in folder.iterdir() if file.suffix in PICKLES)
    if pickles:
        raise UserError(
            f"{name}: has weights only as {pickles[0]}, which can run code when read and is refused; convert it to "
            f"safetensors on a machine where that does no harm, or take another revision"
        )
    raise UserError(
        f"{name}: has neither {SINGLE} nor {INDEX} (pickled weights are never read); convert the weights to "
        f"safetensors, or take a revision that has them"
    )


def typed_config(folder: Path, name: str) -> "PretrainedConfig":
    """Return the config as transformers' own class; the model must be a causal language model that it knows."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    # Whatever a foreign file makes transformers raise, the answer is the same.
    except Exception as error:
        raise UserError(
            f"{name}, config.json: not understood by transformers ({first_line(error)}); correct it"
        ) from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise UserError(f"{name}, config.json: '{config.model_type}' is no causal language model; use one")
    return config


def compare_shapes(config: "PretrainedConfig", shapes: Mapping[str, tuple[int, ...]], name: str) -> None:
    """Compare the tensors in the files with those that the config promises, by name and shape."""
    if config.model_type not in COMPARED_FAMILIES:
        return
    import torch
    from transformers import AutoModelForCausalLM

    if config.num_hidden_layers > len(shapes):
        raise UserError(
            f"{name}: config.json promises {config.num_hidden_layers} layers and there are {len(shapes)} tensors; the "
            f"two do not belong together, copy both again"
        )
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:
        raise UserError(
            f"{name}, config.json: no model can be built from it ({first_line(error)}); correct it"
        ) from error
    prefix = f"{model.base_model_prefix}."
    # Files of the bare network, such as GPT-2's on the hub, leave the prefix out.
    bare = {key.removeprefix(prefix): shape for key, shape in shapes.items()}
    # A tied output layer counts once among the parameters, under the embedding's name.
    for key, parameter in model.named_parameters():
        found = bare.get(key.removeprefix(prefix))
        if found is None:
            raise UserError(
                f"{name}: the weights lack the tensor '{key}' that config.json promises; copy or export it again"
            )
        if found != tuple(parameter.shape):
            raise UserError(
                f"{name}: tensor '{key}' has shape {found} where config.json promises {tuple(parameter.shape)}; the "
                f"two do not belong together, copy both again"
            )


def read_tokenizer(folder: Path, name: str) -> "PreTrainedTokenizerBase":
    """Load a tokenizer without running code of its own."""
    from transformers import AutoTokenizer

    if not any((folder / file).exists() for file in ("tokenizer.json", "tokenizer.model", "vocab.json")):
        raise UserError(f"{name}: has no tokenizer; put the base model's tokenizer files into the directory")
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    except Exception as error:
        raise UserError(
            f"{name}: the tokenizer cannot be loaded ({first_line(error)}); copy its files again"
        ) from error
    return tokenizer


def save_tokenizer(tokenizer: "PreTrainedTokenizerBase", out_dir: PathLike, *, embedded: int, name: str) -> int:
    """Save a tokenizer and return the id it pads with: its end-of-sequence token where it had no usable padding.

    Parameters
    ----------
    tokenizer : PreTrainedTokenizerBase
        Changed in place.
    out_dir : path
        Where its files go.
    embedded : int
        Rows of the embedding matrix; a token beyond has no vector.
    name : str
        What messages call the checkpoint.
    """
    end = tokenizer.eos_token_id
    if end is None or end >= embedded:
        raise UserError(
            f"{name}: the tokenizer has no usable end-of-sequence token; set eos_token in tokenizer_config.json"
        )
    if tokenizer.vocab_size > embedded:
        raise UserError(
            f"{name}: the tokenizer knows {tokenizer.vocab_size} tokens and the model {embedded}; use the model's own "
            f"tokenizer"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= embedded:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(out_dir)
    return int(tokenizer.pad_token_id)


def first_line(error: Exception) -> str:
    """Return the first line of what an exception says, or its type."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
