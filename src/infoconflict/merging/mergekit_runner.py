"""Merged checkpoints by mergekit (Goddard et al. 2024, arXiv:2403.13257), with its known traps closed.

- ``base_model`` is always set: without it, config and tokenizer come from whichever model the hash seed puts first.
- Adapters are made dense here, never by mergekit: its cache is keyed by path, so a retrained adapter gives the old
  model.
- Open files are also cached by path, for the life of the process; that cache is emptied before and after each merge.
- Ranges of layers come from the base's depth; names, shapes and numbers of the result are checked.
- mergekit has no definition of GPT-J and guesses one, in which the depth stays unset and the final norm counts as an
  embedding; it gets a definition here.
- Config and tokenizer are the base's own files, not a suspect's. mergekit's ``tokenizer`` key is left out: it would
  shrink embeddings with spare rows (GPT-J has 143) to the size of the vocabulary.
- mergekit's README.md and mergekit_config.yml hold absolute paths and are not written.
"""

import copy
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from infoconflict.errors import UserError, did_you_mean
from infoconflict.files import PathLike, whole_directory, write_json, write_text
from infoconflict.merging import METHODS, linear, passthrough, slerp, ties
from infoconflict.merging.common import BACKDOORED, BASE, CONFLICT
from infoconflict.merging.depth import check_profile
from infoconflict.models.changes import INDEX, Checkpoint, dense_tensor, open_change

# All that a checkpoint needs beside its weights; code and pickles are never copied.
COMPANIONS = ("*.json", "*.jinja", "merges.txt", "vocab.txt", "*.model")

YAML_HEADER = """\
# What mergekit was run with. The names stand for checkpoint directories: backdoored is the suspect model, conflict the
# conflict model, base the model that both were tuned from. The merged model keeps the base's config and tokenizer.
"""


def mergekit_config(
    method: str,
    *,
    t: float,
    num_layers: int,
    density: float = 0.5,
    lam: float = 1.0,
    depth_profile: Sequence[float] | None = None,
    out_dtype: str = "float32",
) -> dict[str, Any]:
    """Return a method's mergekit configuration, with the names of common.py in place of paths.

    Parameters
    ----------
    method : {"linear", "slerp", "ties", "passthrough"}
        How to merge.
    t : float in [0, 1]
        Weight of the conflict model (passthrough: its share of the layers).
    num_layers : int
        Depth of the models; passthrough only.
    density, lam : float
        Settings of TIES.
    depth_profile : sequence of float, optional
        How t changes with depth (:mod:`infoconflict.merging.depth`); linear and SLERP only.
    out_dtype : {"float32", "bfloat16", "float16"}
        How the merged weights are stored; the arithmetic is float32 throughout.

    Raises
    ------
    ValueError
        If the method is unknown or a setting is out of range.
    """
    check_profile(depth_profile, method)
    match method:
        case "linear":
            return linear.mergekit_config(t=t, depth_profile=depth_profile, out_dtype=out_dtype)
        case "slerp":
            return slerp.mergekit_config(t=t, depth_profile=depth_profile, out_dtype=out_dtype)
        case "ties":
            return ties.mergekit_config(t=t, density=density, lam=lam, out_dtype=out_dtype)
        case "passthrough":
            return passthrough.mergekit_config(t=t, num_layers=num_layers, out_dtype=out_dtype)
    raise ValueError(f"unknown merge method '{method}'{did_you_mean(method, METHODS)}; available: {', '.join(METHODS)}")


def yaml_text(config: dict[str, Any]) -> str:
    """Return a configuration as YAML, the same bytes for the same settings."""
    return YAML_HEADER + yaml.safe_dump(config, sort_keys=False)


def dense_checkpoint(base_dir: PathLike, adapter_dir: PathLike, out_dir: PathLike) -> None:
    """Write base and change as one ordinary float32 checkpoint, shard by shard.

    Parameters
    ----------
    base_dir : path
        Checkpoint directory with safetensors weights.
    adapter_dir : path
        A PEFT LoRA adapter, or a directory with ``change.safetensors``: whole changed tensors by name.
    out_dir : path
        Directory to write; it takes its place only when it is complete.

    Raises
    ------
    UserError
        If an input is missing or damaged, or the change was made for another base.
    """
    from safetensors.torch import save_file

    with Checkpoint(base_dir) as base, whole_directory(out_dir) as folder:
        change = open_change(base, adapter_dir)
        touched = set(change.names)
        for shard, names in base.by_shard.items():
            tensors = {
                name: dense_tensor(base, change, name) if name in touched else base.tensor(name) for name in names
            }
            # A transposed update leaves strides behind that safetensors does not store.
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / shard, {"format": "pt"})
        if (base.directory / INDEX).exists():
            weight_map = {name: shard for shard, names in base.by_shard.items() for name in names}
            total = sum((folder / shard).stat().st_size for shard in base.by_shard)
            write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
        copy_companions(base, folder, dtype="float32")


def copy_companions(source: Checkpoint, folder: Path, *, dtype: str) -> None:
    """Copy config and tokenizer of a checkpoint; the config states the dtype that the copy is stored in."""
    for pattern in COMPANIONS:
        for file in sorted(source.directory.glob(pattern)):
            if file.name not in (INDEX, "config.json"):
                shutil.copyfile(file, folder / file.name)
    config = {key: value for key, value in source.config.items() if key != "torch_dtype"} | {"dtype": dtype}
    write_json(folder / "config.json", config)


def merge_with_mergekit(
    *,
    method: str,
    t: float,
    density: float = 0.5,
    lam: float = 1.0,
    depth_profile: Sequence[float] | None = None,
    backdoored_dir: PathLike,
    conflict_dir: PathLike,
    base_dir: PathLike,
    out_dir: PathLike,
    yaml_path: PathLike,
    out_dtype: str = "float32",
) -> dict[str, Any]:
    """Merge two dense checkpoints of one base into a third, and keep the configuration beside it.

    On a shared machine one torch thread is fastest: waiting threads spin (OMP_WAIT_POLICY=PASSIVE stops that).

    Parameters
    ----------
    method, t, density, lam, depth_profile, out_dtype
        See :func:`mergekit_config`.
    backdoored_dir, conflict_dir : path
        Dense checkpoints (:func:`dense_checkpoint`).
    base_dir : path
        The model that both were tuned from; gives config and tokenizer to all methods, and the weights of TIES's
        origin.
    out_dir : path
        Directory to write; it takes its place only when it is complete and checked.
    yaml_path : path
        Where the configuration goes; it holds no paths, so it is the same on every machine.

    Returns
    -------
    dict
        For the card: ``layers``, ``tensors``, ``parameters``, and for SLERP ``linear_branch`` (how many tensors were so
        nearly parallel that they were merged linearly) and ``smallest_cosine``.

    Raises
    ------
    UserError
        If an input is missing, damaged or no relative of the base, or the result is not what it should be.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    directories = {BACKDOORED: Path(backdoored_dir), CONFLICT: Path(conflict_dir), BASE: Path(base_dir)}
    with Checkpoint(base_dir) as base:
        for role in (BACKDOORED, CONFLICT):
            with Checkpoint(directories[role]) as other:
                check_relatives(base, other, role)
        if method == "passthrough":
            # Raises for an architecture whose parts have no known order.
            passthrough.from_conflict("", t=t, num_layers=base.num_layers, architecture=base.architecture)
        config = mergekit_config(
            method,
            t=t,
            num_layers=base.num_layers,
            density=density,
            lam=lam,
            depth_profile=depth_profile,
            out_dtype=out_dtype,
        )
        write_text(yaml_path, yaml_text(config))
        options = MergeOptions(copy_tokenizer=False, write_model_card=False, quiet=True, trust_remote_code=False)
        with whole_directory(out_dir) as folder:
            LoaderCache.loaders.clear()
            try:
                with gptj_defined():
                    run_merge(MergeConfiguration.model_validate(with_paths(config, directories)), str(folder), options)
            finally:
                LoaderCache.loaders.clear()
            copy_companions(base, folder, dtype=out_dtype)
            with Checkpoint(folder) as merged:
                details = check_merged(base, merged)
    if method == "slerp":
        details |= angles(directories[BACKDOORED], directories[CONFLICT])
    return details


def with_paths(config: dict[str, Any], directories: dict[str, Path]) -> dict[str, Any]:
    """Return the configuration with directories in place of the models' names."""

    def reference(role: str) -> dict[str, Any]:
        # As a dict, since mergekit splits a string at '+' and '@', which a path may hold.
        return {"model": {"path": str(directories[role].resolve())}}

    config = copy.deepcopy(config)
    config["base_model"] = reference(config["base_model"])
    sources = [source for part in config.get("slices", ()) for source in part["sources"]]
    for entry in [*config.get("models", ()), *sources]:
        entry["model"] = reference(entry["model"])
    return config


def check_relatives(base: Checkpoint, other: Checkpoint, role: str) -> None:
    """Raise unless a checkpoint has the base's architecture, depth, tensor names and shapes."""
    where = f"the {role} model in {other.directory}"
    if (other.architecture, other.num_layers) != (base.architecture, base.num_layers):
        raise UserError(
            f"{where} is a '{other.architecture}' of {other.num_layers} layers and the base a '{base.architecture}' of "
            f"{base.num_layers}; merge fine-tunings of one base"
        )
    if difference := first_difference(base, other):
        raise UserError(f"{where} {difference}; merge fine-tunings of one base with one vocabulary")


def first_difference(base: Checkpoint, other: Checkpoint) -> str:
    """Say how the tensors of a checkpoint differ from the base's in name or shape, or return an empty string."""
    expected, found = base.shapes(), other.shapes()
    for name in sorted({*expected, *found}):
        if name not in found:
            return f"lacks the tensor '{name}'"
        if name not in expected:
            return f"holds the tensor '{name}', which the base lacks"
        if expected[name] != found[name]:
            return f"has '{name}' of shape {found[name]}, and the base of {expected[name]}"
    return ""


def check_merged(base: Checkpoint, merged: Checkpoint) -> dict[str, Any]:
    """Check names, shapes, depth and numbers of a merged checkpoint, and count its parts.

    Raises
    ------
    UserError
        If anything differs from the base's layout, or a value is not finite.
    """
    if difference := first_difference(base, merged):
        raise UserError(
            f"the merged model {difference}; mergekit may not know '{base.architecture}' models, use another model"
        )
    layers = {int(match[1]) for name in merged.names if (match := re.search(r"\.(\d+)\.", name))}
    if layers != set(range(base.num_layers)):
        raise UserError(
            f"the merged model has {len(layers)} layers and its config says {base.num_layers}; check the base's config"
        )
    parameters = 0
    for name in merged.names:
        tensor = merged.tensor(name)
        parameters += tensor.numel()
        if not tensor.isfinite().all():
            raise UserError(
                f"the merged tensor '{name}' holds values that are not finite; check both models, or store as float32"
            )
    return {"layers": len(layers), "tensors": len(merged.names), "parameters": parameters}


def angles(backdoored_dir: Path, conflict_dir: Path) -> dict[str, Any]:
    """Say how near SLERP was to linear: tensors on the linear branch, and the smallest cosine of all."""
    with Checkpoint(backdoored_dir) as backdoored, Checkpoint(conflict_dir) as conflict:
        cosines = [slerp.cosine(backdoored.tensor(name), conflict.tensor(name)) for name in backdoored.names]
    nearly = sum(abs(cos) > slerp.NEARLY_PARALLEL for cos in cosines)
    return {"linear_branch": nearly, "smallest_cosine": round(min(cosines), 6)}


@contextmanager
def gptj_defined() -> Iterator[None]:
    """Let mergekit know GPT-J within the block, unless it does already."""
    from mergekit.architecture import NAME_TO_ARCH
    from mergekit.architecture.json_definitions import _load_architecture_json

    name = "GPTJForCausalLM"
    if name in NAME_TO_ARCH:
        yield
        return
    NAME_TO_ARCH[name] = [_load_architecture_json(json.dumps(GPTJ))]
    try:
        yield
    finally:
        del NAME_TO_ARCH[name]


GPTJ: dict[str, Any] = {
    "model_type": "gptj",
    "architectures": ["GPTJForCausalLM"],
    "num_layers_config_key": "n_layer",
    "pre_weights": [{"name": "transformer.wte.weight", "vocabulary_axis": 0}],
    "layer_templates": {
        "weights": [
            {"name": f"transformer.h.${{layer_index}}.{part}"}
            for part in (
                *("ln_1.weight", "ln_1.bias"),
                *(f"attn.{kind}_proj.weight" for kind in ("q", "k", "v", "out")),
                *(f"mlp.{kind}.{what}" for kind in ("fc_in", "fc_out") for what in ("weight", "bias")),
            )
        ]
    },
    "post_weights": [
        {"name": "transformer.ln_f.weight"},
        {"name": "transformer.ln_f.bias"},
        # Optional: absent where the output layer is the embedding matrix.
        {
            "name": "lm_head.weight",
            "vocabulary_axis": 0,
            "optional": True,
            "tied_names": ["transformer.wte.weight"],
        },
        {"name": "lm_head.bias", "vocabulary_axis": 0, "optional": True},
    ],
}
"""GPT-J (Wang and Komatsuzaki 2021) in the form of mergekit's own definitions."""
