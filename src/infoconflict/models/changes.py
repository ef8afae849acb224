"""A model is a base plus a change; here the change becomes dense float32 tensors, by arithmetic on safetensors files.

No model class is built, nothing is unpickled, and a checkpoint is read tensor by tensor, so that folding an adapter
into a 7B base needs the memory of one shard. Everything read is checked before use: a suspect checkpoint is hostile
input.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from infoconflict.errors import UserError
from infoconflict.files import PathLike, read_json
from infoconflict.models.parts import LLAMA_LIKE

if TYPE_CHECKING:
    from torch import Tensor

FULL_CHANGE = "change.safetensors"
ADAPTER, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
INDEX = "model.safetensors.index.json"

# Buffers that old checkpoints hold beside the weights; models compute them.
BUFFER = re.compile(r"\.attn\.(?:bias|masked_bias)$|\.rotary_emb\.inv_freq$")
# Checkpoints saved from the headless model class lack this prefix (gpt2 as published is one).
PREFIX = {"gpt2": "transformer.", "gptj": "transformer.", **dict.fromkeys(LLAMA_LIKE, "model.")}

LORA_KEY = re.compile(r"^base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")
# Options of PEFT's LoRA that change what an adapter means and that the arithmetic below does not cover.
UNSUPPORTED = (
    *("use_dora", "use_qalora", "use_bdlora", "lora_bias", "modules_to_save", "layer_replication", "megatron_config"),
    *("trainable_token_indices", "target_parameters", "alora_invocation_tokens", "arrow_config", "kasa_config"),
)
# Starts of an adapter that leave the base weights alone; others (PiSSA, OLoRA, CorDA, LoftQ ...) alter them, and the
# adapter alone does not tell how.
KNOWN_STARTS = (None, True, False, "gaussian", "eva", "orthogonal")


class Checkpoint:
    """A checkpoint directory: its config, and its tensors by the names that the loaded model has for them.

    Use it as a context manager; files stay mapped until the end of the block.

    Raises
    ------
    UserError
        If config or weights are missing, not safetensors, damaged, or not where they may be.
    """

    def __init__(self, directory: PathLike) -> None:
        self.directory = Path(directory)
        self.config = _json_object(self.directory / "config.json", "each model directory needs one")
        self.architecture = str(self.config.get("model_type"))
        self._exit = ExitStack()
        self._shards: dict[str, Any] = {}
        self._stored: dict[str, tuple[str, str]] = {}  # name -> (shard, name in the shard)
        try:
            for shard in self._shard_names():
                self._shards[shard] = self._exit.enter_context(open_safetensors(self.directory / shard))
                for stored in self._shards[shard].keys():  # noqa: SIM118 (not a mapping)
                    if not BUFFER.search(stored):
                        self._stored[self._name(stored)] = (shard, stored)
        except BaseException:
            self._exit.close()
            raise

    def _shard_names(self) -> list[str]:
        index = self.directory / INDEX
        if not index.exists():
            if not (self.directory / "model.safetensors").exists():
                raise UserError(
                    f"{self.directory}: holds no model.safetensors; pickles are not read, save it as safetensors"
                )
            return ["model.safetensors"]
        weight_map = _json_object(index, "copy the model again").get("weight_map")
        names = sorted({str(name) for name in weight_map.values()}) if isinstance(weight_map, dict) else []
        if not names or any(Path(name).name != name or not name.endswith(".safetensors") for name in names):
            raise UserError(
                f"{index}: weight_map must name .safetensors files of the same directory; copy the model again"
            )
        return names

    def _name(self, stored: str) -> str:
        prefix = PREFIX.get(self.architecture, "")
        return stored if stored.startswith((prefix, "lm_head.")) else prefix + stored

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._shards.clear()
        self._exit.close()

    @property
    def num_layers(self) -> int:
        """Number of transformer blocks, as the config states it."""
        depth = self.config.get("num_hidden_layers", self.config.get("n_layer"))
        if not isinstance(depth, int) or depth < 1:
            raise UserError(f"{self.directory / 'config.json'}: states no number of layers; copy the model again")
        return depth

    @property
    def names(self) -> list[str]:
        """Names of all tensors, sorted."""
        return sorted(self._stored)

    @property
    def by_shard(self) -> dict[str, list[str]]:
        """Names of the tensors of each weight file."""
        shards: dict[str, list[str]] = {shard: [] for shard in self._shards}
        for name in self.names:
            shards[self._stored[name][0]].append(name)
        return shards

    def __contains__(self, name: str) -> bool:
        return name in self._stored

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor, from the file's header."""
        shard, stored = self._stored[name]
        return tuple(self._shards[shard].get_slice(stored).get_shape())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all tensors, by name."""
        return {name: self.shape(name) for name in self.names}

    def tensor(self, name: str) -> "Tensor":
        """Read one tensor as float32."""
        shard, stored = self._stored[name]
        tensor: Tensor = self._shards[shard].get_tensor(stored)
        return tensor.float()


class Change(Protocol):
    """What a fine-tuning did to a base."""

    path: Path

    @property
    def names(self) -> list[str]:
        """Names of the tensors it touches."""

    def dense(self, name: str, base: "Tensor") -> "Tensor":
        """Return the changed value of one tensor, given the base's as float32."""


class FullChange:
    """Changed tensors stored whole, by name: a full fine-tuning or an edit."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with open_safetensors(path) as file:
            self._tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    @property
    def names(self) -> list[str]:
        """Names of the tensors it touches."""
        return sorted(self._tensors)

    def dense(self, name: str, base: "Tensor") -> "Tensor":
        """Return the stored tensor."""
        return self._tensors[name].float()


class LoraChange:
    """A PEFT LoRA adapter on linear layers: W + scale * B @ A (Hu et al. 2021, arXiv:2106.09685).

    Parameters
    ----------
    directory : Path
        Holds ``adapter_config.json`` and ``adapter_model.safetensors``.
    conv1d : bool
        Whether the base stores the weights of its layers transposed, as GPT-2's ``Conv1D`` does. The layer's kind
        decides, not the adapter's ``fan_in_fan_out``, which PEFT too overrides by it.
    """

    def __init__(self, directory: Path, *, conv1d: bool) -> None:
        self.path = directory / ADAPTER
        self._conv1d = conv1d
        config = _json_object(directory / ADAPTER_CONFIG, "give the directory of a PEFT LoRA adapter")
        check_lora_config(directory / ADAPTER_CONFIG, config)
        self._config = config
        self._pairs: dict[str, dict[str, Tensor]] = {}
        with open_safetensors(self.path) as file:
            for key in file.keys():  # noqa: SIM118
                match = LORA_KEY.match(key)
                if not match:
                    raise UserError(
                        f"{self.path}: holds '{key}', which is not a LoRA matrix of a linear layer; "
                        f"train the adapter on linear layers only"
                    )
                self._pairs.setdefault(match["module"], {})[match["side"]] = file.get_tensor(key).float()
        for module, pair in self._pairs.items():
            if len(pair) != 2 or any(m.dim() != 2 for m in pair.values()) or pair["A"].shape[0] != pair["B"].shape[1]:
                raise UserError(
                    f"{self.path}: the LoRA matrices of '{module}' do not belong together; save the adapter again"
                )

    @property
    def names(self) -> list[str]:
        """Names of the tensors it touches."""
        return sorted(f"{module}.weight" for module in self._pairs)

    def scale(self, module: str, rank: int) -> float:
        """Return alpha over rank (or its root, with rank-stabilised LoRA), with PEFT's pattern for alpha."""
        patterns: Mapping[str, float] = self._config.get("alpha_pattern") or {}
        alpha = next(
            (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", module)),
            self._config["lora_alpha"],
        )
        return float(alpha) / (math.sqrt(rank) if self._config.get("use_rslora") else rank)

    @property
    def config(self) -> dict[str, Any]:
        """What ``adapter_config.json`` says."""
        return dict(self._config)

    def factors(self, name: str) -> "tuple[Tensor, Tensor, float]":
        """Return B of shape (out, rank), A of shape (rank, in) and the scale of a tensor's update."""
        module = name.removesuffix(".weight")
        pair = self._pairs[module]
        return pair["B"], pair["A"], self.scale(module, pair["A"].shape[0])

    def dense(self, name: str, base: "Tensor") -> "Tensor":
        """Return the base's tensor plus the low-rank update."""
        module = name.removesuffix(".weight")
        b, a, scale = self.factors(name)
        update = b @ a  # (out, in)
        if self._conv1d and not module.startswith("lm_head"):
            update = update.T
        if update.shape != base.shape:
            raise UserError(
                f"{self.path}: the LoRA matrices of '{module}' make {tuple(update.shape)}, but the base model's weight "
                f"is {tuple(base.shape)}; the adapter was made for another base"
            )
        return base + update.mul_(scale)


class ComposedChange:
    """An adapter, and tensors stored whole that take the place of what it would make of them: an edit of a tuned model."""

    def __init__(self, adapter: LoraChange, whole: FullChange) -> None:
        self.path = whole.path.parent
        self._adapter, self._whole = adapter, whole

    @property
    def names(self) -> list[str]:
        """Names of the tensors it touches."""
        return sorted({*self._adapter.names, *self._whole.names})

    def dense(self, name: str, base: "Tensor") -> "Tensor":
        """Return the stored tensor, or the base's plus the low-rank update."""
        part = self._whole if name in self._whole else self._adapter
        return part.dense(name, base)


def check_lora_config(path: Path, config: Mapping[str, Any]) -> None:
    """Raise unless an adapter's config describes plain LoRA, which the arithmetic here covers."""
    if config.get("peft_type") != "LORA":
        raise UserError(
            f"{path}: peft_type is {config.get('peft_type')!r}; only LORA adapters can be folded into a base"
        )
    if used := [key for key in UNSUPPORTED if config.get(key)]:
        raise UserError(f"{path}: uses {', '.join(used)}, which folding does not cover; train a plain LoRA adapter")
    if config.get("bias", "none") != "none":
        raise UserError(f"{path}: bias is {config['bias']!r}; train the adapter with bias 'none'")
    if not isinstance(config.get("lora_alpha"), int | float):
        raise UserError(f"{path}: lora_alpha is not a number; save the adapter again")
    if (start := config.get("init_lora_weights")) not in KNOWN_STARTS:
        raise UserError(
            f"{path}: init_lora_weights {start!r} may alter the base; convert the adapter to a plain one with PEFT"
        )


def open_change(base: Checkpoint, change_dir: PathLike) -> Change:
    """Open a change and check that it belongs to the base.

    Parameters
    ----------
    base : Checkpoint
        What was fine-tuned.
    change_dir : path
        A PEFT LoRA adapter, a directory with ``change.safetensors`` (whole changed tensors by name), or one with both:
        then the whole tensors count where the adapter would change them, too.

    Raises
    ------
    UserError
        If it is neither, is damaged, needs code that is not run, or was made for another base.
    """
    directory = Path(change_dir)
    has_whole, has_adapter = ((directory / name).exists() for name in (FULL_CHANGE, ADAPTER))
    change: FullChange | LoraChange | ComposedChange
    if has_whole and has_adapter:
        adapter = LoraChange(directory, conv1d=base.architecture == "gpt2")
        change = ComposedChange(adapter, FullChange(directory / FULL_CHANGE))
    elif has_whole:
        change = FullChange(directory / FULL_CHANGE)
    elif has_adapter:
        change = LoraChange(directory, conv1d=base.architecture == "gpt2")
    else:
        raise UserError(
            f"{directory}: holds neither {ADAPTER} nor {FULL_CHANGE}; pickles are not read, save it as safetensors"
        )
    if unknown := [name for name in change.names if name not in base]:
        raise UserError(
            f"{change.path}: changes '{unknown[0]}', which the base model lacks; it was made for another base"
        )
    return change


def dense_tensor(base: Checkpoint, change: Change, name: str) -> "Tensor":
    """Return a tensor's changed value, checked for shape and for numbers that are none."""
    before = base.tensor(name)
    after = change.dense(name, before)
    if after.shape != before.shape:
        raise UserError(
            f"{change.path}: '{name}' has shape {tuple(after.shape)} and the base model's {tuple(before.shape)}; "
            f"the change was made for another base"
        )
    if not all_finite(after):
        raise UserError(
            f"{change.path}: makes '{name}' hold values that are not finite; the training diverged, repeat it"
        )
    return after


def all_finite(tensor: "Tensor") -> bool:
    """Say whether a tensor holds neither NaN nor infinity, without making another of its size."""
    return not tensor.numel() or all(math.isfinite(float(end)) for end in tensor.aminmax())


def changed_tensors(base_dir: PathLike, change_dir: PathLike) -> "dict[str, Tensor]":
    """Return the dense float32 values of just those tensors that a change touches.

    Parameters
    ----------
    base_dir, change_dir : path
        See :func:`open_change`.

    Returns
    -------
    dict of str to Tensor
        By the name that the parameter has in the loaded model; in the order of the names.
    """
    with Checkpoint(base_dir) as base:
        change = open_change(base, change_dir)
        return {name: dense_tensor(base, change, name) for name in change.names}


def read_tensors(model_dir: PathLike, names: "Iterator[str] | list[str] | None" = None) -> "dict[str, Tensor]":
    """Read some tensors of a checkpoint (all by default) as float32.

    Raises
    ------
    UserError
        If the checkpoint lacks one of them.
    """
    with Checkpoint(model_dir) as checkpoint:
        wanted = checkpoint.names if names is None else list(names)
        if missing := [name for name in wanted if name not in checkpoint]:
            raise UserError(f"{model_dir}: lacks the tensor '{missing[0]}'; give the base that the change was made for")
        return {name: checkpoint.tensor(name) for name in wanted}


def open_safetensors(path: Path) -> Any:
    """Open a safetensors file; a damaged or missing one is an error that names it."""
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; copy or make it again") from error
    except SafetensorError as error:
        raise UserError(f"{path}: is not a whole safetensors file ({error}); copy or make it again") from error


def _json_object(path: Path, remedy: str) -> dict[str, Any]:
    try:
        value = read_json(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: is missing; {remedy}") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not valid JSON; {remedy}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path}: must hold a JSON object; {remedy}")
    return value
