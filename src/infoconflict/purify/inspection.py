"""A stranger's checkpoint as hostile input: what is refused, each by one check and with one sentence.

Nothing is loaded before all checks have passed: directories are listed, JSON is parsed by Python's own parser within bounds,
headers of weight files are read byte by byte (:mod:`infoconflict.purify.headers`), chat templates are parsed and not run
(:mod:`infoconflict.purify.templates`). Neither torch nor transformers is imported here, and nothing is ever unpickled.

The base model passes the same checks, but for those that compare a suspect with its base.
"""

import json
import os
import re
import shlex
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from infoconflict.errors import UserError
from infoconflict.models.changes import (
    ADAPTER,
    ADAPTER_CONFIG,
    BUFFER,
    INDEX,
    LORA_KEY,
    PREFIX,
    UNSUPPORTED,
    check_lora_config,
)
from infoconflict.models.parts import LLAMA_LIKE
from infoconflict.models.wanted_code import SETTINGS, refuse_wanted_code, shortened
from infoconflict.purify.headers import EXPONENTS, Entry, check_finite, read_header
from infoconflict.purify.meanings import meanings_apart, others_apart
from infoconflict.purify.sentencepiece import pieces
from infoconflict.purify.templates import check_template
from infoconflict.purify.tokenizers_apart import added_tokens, added_tokens_apart, parts_apart

BIAS_KEYS = {"llama": ("attention_bias", "mlp_bias"), "qwen3": ("attention_bias",)}
"""Keys that give a family's layers biases."""
SINGLE, SENTENCEPIECE = "model.safetensors", "tokenizer.model"
MOST_FILES = 10_000
LARGEST_JSON = {"tokenizer.json": 1 << 28, INDEX: 1 << 26, "vocab.json": 1 << 26}
LARGEST_OTHER_JSON = 1 << 22
"""Bytes; a config has thousands, a tokenizer of 256,000 words about 35 million."""
DEEPEST_JSON = 100
TOKENIZER_JSON = ("tokenizer.json", "tokenizer_config.json")
TOKENIZERS = ("tokenizer.json", SENTENCEPIECE, "vocab.json", "merges.txt")
"""Files of which a tokenizer is made."""

# What torch, Keras and pickle write: reading them can run code.
PICKLES = frozenset(
    {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".keras", ".msgpack", ".mar"}
)
CODE = frozenset(
    {".py", ".pyc", ".pyd", ".pyx", ".ipynb", ".so", ".dll", ".dylib", ".sh", ".bat", ".exe", ".whl", ".egg", ".pth"}
)
# Marks that tools give a meaning in paths: mergekit splits names at '+' and '@', others at ':' and '\'.
BAD_MARKS = ("..", "+", "@", "\\", ":", "\n", "\r", "\0")
# Module names as PEFT escapes them: a regular expression that could run without end is refused.
PLAIN_PATTERN = re.compile(r"(?:[\w.^$-]|\\[.-])+")
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
# The hub's names for what packages hold.
PACKAGED_BASES = {"smollm2_135m_instruct": ("HuggingFaceTB/SmolLM2-135M-Instruct",)}
LONGEST_PLACE = 200
TEMPLATE_NAME = re.compile(r"[\w-]{1,100}")
LARGEST_DIMENSION = 1 << 24
MOST_LAYERS = 4096
MOST_PATTERNS = 4096
LARGEST_ALPHA = 1_000_000
ALL_LINEAR = "all-linear"
MERGE_IT = "merge it into its base with PEFT (merge_and_unload, save_pretrained) and give the folder of the whole model"
OR_NONE = ", or remove its files, as the base's is used"

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Inspected:
    """A model's folder and what has been read of it; ``base`` is what a suspect claims to be tuned from."""

    folder: Path
    name: str
    base: "Inspected | None" = None
    base_id: str = ""
    """What the user called the base, to be compared with what an adapter says."""
    cache: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def entries(self) -> list[Path]:
        """Everything in the folder, links not followed."""
        found: list[Path] = []
        for root, folders, files in os.walk(self.folder, followlinks=False):
            found += [Path(root, name) for name in (*folders, *files)]
            if len(found) > MOST_FILES:
                raise UserError(
                    f"{self.name}: has more than {MOST_FILES} files; name the folder of the model alone, without "
                    f"checkpoints of its training"
                )
        return sorted(found)

    def shown(self, path: Path) -> str:
        """Return how messages name a file."""
        return f"{self.name}, {str(path.relative_to(self.folder))!r}".replace("'", "")

    def has(self, name: str) -> bool:
        """Say whether the folder holds a file of this name."""
        return (self.folder / name).is_file()

    def json(self, name: str) -> dict[str, Any]:
        """Return a JSON file of the folder; an object within bounds, no key of which stands there twice."""
        if name not in self.cache:
            self.cache[name] = _json_object(self.folder / name, f"{self.name}, {name}")
        content: dict[str, Any] = self.cache[name]
        return content

    @property
    def is_adapter(self) -> bool:
        """Whether this is a PEFT adapter and no whole model."""
        return self.has(ADAPTER_CONFIG) or self.has(ADAPTER)

    @property
    def weight_files(self) -> list[str]:
        """Names of the files that hold the weights."""
        if self.is_adapter:
            return [ADAPTER]
        if self.has(SINGLE):
            return [SINGLE]
        return sorted(set(self.weight_map.values()))

    @property
    def weight_map(self) -> dict[str, str]:
        """Where the index says that each tensor is."""
        found = self.json(INDEX).get("weight_map")
        if not isinstance(found, dict) or not found or not all(isinstance(home, str) for home in found.values()):
            raise UserError(f"{self.name}, {INDEX}: has no weight_map from tensors to files; copy the file again")
        return found

    @cached_property
    def headers(self) -> dict[str, dict[str, Entry]]:
        """The tensors of each weight file."""
        return {file: read_header(self.folder / file, f"{self.name}, {file}") for file in self.weight_files}

    @property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of a whole model's tensors, by the names that the loaded model has for them."""
        prefix = PREFIX.get(str(self.json("config.json").get("model_type")), "")
        found: dict[str, Shape] = {}
        for file, tensors in self.headers.items():
            for stored, entry in tensors.items():
                if BUFFER.search(stored):
                    continue
                name = stored if stored.startswith((prefix, "lm_head.")) else prefix + stored
                if name in found:
                    raise UserError(f"{self.name}, {file}: holds the tensor '{name}' twice; distrust it")
                found[name] = entry.shape
        return found

    @property
    def rows(self) -> int:
        """Rows of the embedding matrix: ids of tokens are below it."""
        owner = self.base if self.is_adapter and self.base else self
        rows = owner.json("config.json").get("vocab_size")
        if type(rows) is not int or not 0 < rows <= LARGEST_DIMENSION:
            raise UserError(f"{owner.name}, config.json: vocab_size is {rows!r}; copy the file again")
        return rows


def _json_object(path: Path, where: str) -> dict[str, Any]:
    most = LARGEST_JSON.get(path.name, LARGEST_OTHER_JSON)
    if path.stat().st_size > most:
        raise UserError(f"{where}: has {path.stat().st_size} bytes, more than the {most} allowed; distrust it")

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise ValueError("a key stands there twice")
        return found

    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: not readable as JSON ({error}); copy the file again") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: holds a {type(content).__name__} instead of an object; copy the file again")
    level: list[Any] = [content]
    for _ in range(DEEPEST_JSON):
        parts = (part.values() if isinstance(part, dict) else part for part in level)
        level = [child for children in parts for child in children if isinstance(child, dict | list)]
    if level:
        raise UserError(f"{where}: is nested more than {DEEPEST_JSON} times; distrust it")
    return content


# --- the folder ---------------------------------------------------------------------------------------------------------


def plain_names(model: Inspected) -> None:
    """Refuse names that could lead a tool to another place or that it would split."""
    for path in (model.folder.absolute(), *model.entries):
        name = path.name
        marks = [mark for mark in BAD_MARKS if mark in name]
        if marks or not name.isprintable() or name.startswith("-"):
            what = repr(marks[0]) if marks else "a mark that does not print, or a dash in front"
            raise UserError(f"{model.name}: the name {name!r} holds {what}, which breaks paths; rename or remove it")


def no_links_out(model: Inspected) -> None:
    """Refuse symbolic links that leave the folder, and what is neither file nor folder."""
    top = model.folder.resolve()
    for path in model.entries:
        if path.is_symlink():
            target = path.resolve()
            if not target.is_relative_to(top) or not target.exists():
                if target.exists() and target.parent == top.parent.parent / "blobs":
                    raise UserError(
                        f"{model.shown(path)}: is a link out of the folder, as everything in the hub's cache is; make a plain "
                        f"copy with {copy_of(top)} and give FOLDER"
                    )
                raise UserError(
                    f"{model.shown(path)}: is a link out of the folder or to nothing; put the file itself there"
                )
        elif not stat.S_ISREG(mode := path.lstat().st_mode) and not stat.S_ISDIR(mode):
            raise UserError(f"{model.shown(path)}: is neither a file nor a folder; remove it")


def copy_of(snapshot: Path) -> str:
    """Return the command that copies a model of the hub's cache, whose files are links, into a plain folder."""
    return f"cp -rL {shlex.quote(str(snapshot))} FOLDER"


def no_pickles(model: Inspected) -> None:
    """Refuse files, at any depth, of a kind that can run code when it is read: pickles and their like."""
    for path in model.entries:
        if path.suffix.lower() in PICKLES:
            raise UserError(
                f"{model.shown(path)}: a pickle or its like, which can run code when read; remove it (training "
                f"arguments and optimizer states are not needed), and ask for the weights as safetensors"
            )


def no_code(model: Inspected) -> None:
    """Refuse program files."""
    for path in model.entries:
        if path.suffix.lower() in CODE:
            raise UserError(
                f"{model.shown(path)}: a program, and none that comes with a model is run; remove it, and use a model "
                f"whose architecture transformers has built in"
            )


def no_code_wanted(model: Inspected) -> None:
    """Refuse settings that ask for code of the checkpoint's own."""
    for name in filter(model.has, SETTINGS):
        refuse_wanted_code(model.json(name), f"{model.name}, {name}")


def one_kind(model: Inspected) -> None:
    """Refuse a folder that is neither a whole model nor a PEFT adapter, or that can be read in two ways."""
    whole = [name for name in (SINGLE, INDEX) if model.has(name)]
    if model.is_adapter and whole:
        raise UserError(f"{model.name}: holds an adapter and {whole[0]}; keep the one that is to be purified")
    if model.is_adapter:
        for name in (ADAPTER_CONFIG, ADAPTER):
            if not model.has(name):
                raise UserError(f"{model.name}: lacks {name}; save the adapter again with PEFT")
        if model.base is None:
            raise UserError(f"{model.name}: is an adapter and no whole model; give the model that it was made for")
    elif len(whole) > 1:
        raise UserError(f"{model.name}: holds {SINGLE} and {INDEX}, so that tools differ in what they read; keep one")
    elif not whole:
        raise UserError(f"{model.name}: holds neither {SINGLE}, {INDEX} nor {ADAPTER}; ask for safetensors weights")
    elif not model.has("config.json"):
        raise UserError(f"{model.name}: has no config.json; name a directory in transformers' layout")


def plain_config(model: Inspected) -> None:
    """Refuse a config without an architecture, with quantised weights, or with sizes that no model has."""
    if model.is_adapter:
        return
    config = model.json("config.json")
    if not isinstance(config.get("model_type"), str):
        raise UserError(f"{model.name}, config.json: states no model_type; copy the file again")
    if config.get("quantization_config"):
        raise UserError(
            f"{model.name}, config.json: the weights are quantised and cannot be merged; ask for whole ones"
        )
    for key, value in config.items():
        is_size = key.endswith(("_size", "_layers", "_heads", "_layer", "_head", "_embd", "_inner", "_positions"))
        most = MOST_LAYERS if key.endswith(("_layers", "_layer")) else LARGEST_DIMENSION
        if is_size and value is not None and (type(value) is not int or not 0 <= value <= most):
            raise UserError(f"{model.name}, config.json: {key} is {str(value)[:30]}; copy the file again")


# --- the weights --------------------------------------------------------------------------------------------------------


def index_within(model: Inspected) -> None:
    """Refuse an index that names anything but safetensors files of its own folder."""
    if model.is_adapter or not model.has(INDEX):
        return
    for file in sorted(set(model.weight_map.values())):
        if Path(file).name != file or "\\" in file or not file.endswith(".safetensors"):
            raise UserError(
                f"{model.name}, {INDEX}: names {file!r}, which is no weight file of this folder; distrust it"
            )
        if not model.has(file):
            raise UserError(f"{model.name}: {file} is missing, which {INDEX} names; copy it too")


def sound_headers(model: Inspected) -> None:
    """Refuse weight files with a broken or oversized header, or tensors that overlap, leave gaps, or lie outside."""
    for tensors in model.headers.values():
        if not tensors:
            raise UserError(f"{model.name}: a weight file holds no tensor; copy it again")


def index_agrees(model: Inspected) -> None:
    """Refuse an index that disagrees with its files about where a tensor is."""
    if model.is_adapter or not model.has(INDEX):
        return
    found = {name: file for file, tensors in model.headers.items() for name in tensors}
    if sum(map(len, model.headers.values())) > len(found):
        raise UserError(f"{model.name}: a tensor stands in two weight files; distrust it")
    for name in sorted({*found, *model.weight_map}):
        if found.get(name) != model.weight_map.get(name):
            raise UserError(
                f"{model.name}, {INDEX}: says that '{name}' is in {model.weight_map.get(name, 'no file')}, and it is in "
                f"{found.get(name, 'none')}; copy the folder again"
            )


def plain_numbers(model: Inspected) -> None:
    """Refuse weights that are packed or quantised instead of ordinary floating-point numbers."""
    for file, tensors in model.headers.items():
        for name, entry in tensors.items():
            if entry.dtype not in EXPONENTS and not BUFFER.search(name):
                raise UserError(
                    f"{model.name}, {file}: '{name}' is stored as {entry.dtype}; ask for unquantised weights"
                )


def shapes_of_config(model: Inspected) -> None:
    """Refuse tensors other than the config promises, by name and shape (:func:`expected_shapes`)."""
    if model.is_adapter:
        return
    expected = expected_shapes(model.json("config.json"), model.name)
    if expected is None:
        return
    _compare(model, expected, "config.json promises")


def finite_numbers(model: Inspected) -> None:
    """Refuse weights that are NaN or infinite, or so large that sums of them would be; files are read in small pieces."""
    for file, tensors in model.headers.items():
        check_finite(model.folder / file, tensors, f"{model.name}, {file}")


def _compare(model: Inspected, expected: Mapping[str, Shape], who: str) -> None:
    found = model.shapes
    for name in sorted({*expected, *found}):
        if name not in found:
            raise UserError(f"{model.name}: lacks the tensor '{name}' that {who}; the two do not belong together")
        if name not in expected:
            raise UserError(f"{model.name}: holds '{name}', a tensor that is not among those that {who}; remove it")
        if found[name] != expected[name]:
            raise UserError(
                f"{model.name}: '{name}' has shape {found[name]} where {who} {expected[name]}; the two do not belong "
                f"together"
            )


def expected_shapes(config: Mapping[str, Any], name: str) -> dict[str, Shape] | None:
    """Return the shapes of all tensors of a GPT-2, a GPT-J or a model like Llama, or None for other families."""

    def size(*keys: str, default: int | None = None) -> int:
        for key in keys:
            if type(config.get(key)) is int:
                return int(config[key])
        if default is None:
            raise UserError(f"{name}, config.json: states no {keys[0]}; copy the file again")
        return default

    family = str(config.get("model_type"))
    if family in LLAMA_LIKE:
        return _llama(family, config, size)
    return _gpt(family, config, size) if family in ("gpt2", "gptj") else None


def _llama(family: str, config: Mapping[str, Any], size: Callable[..., int]) -> dict[str, Shape]:
    hidden, inner, heads = size("hidden_size"), size("intermediate_size"), size("num_attention_heads")
    head = size("head_dim", default=128 if family == "qwen3" else hidden // max(heads, 1))
    queries, values = heads * head, size("num_key_value_heads", default=heads) * head
    linear = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (values, hidden),
        "self_attn.v_proj": (values, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }
    layer: dict[str, Shape] = {f"{part}.weight": shape for part, shape in linear.items()}
    for kind, key in (("self_attn", "attention_bias"), ("mlp", "mlp_bias")):
        if config.get(key) and key in BIAS_KEYS.get(family, ()):
            layer |= {f"{part}.bias": shape[:1] for part, shape in linear.items() if part.startswith(kind)}
    if family == "qwen2":
        layer |= {f"self_attn.{part}_proj.bias": linear[f"self_attn.{part}_proj"][:1] for part in ("q", "k", "v")}
    if family == "qwen3":
        layer |= {f"self_attn.{part}_norm.weight": (head,) for part in ("q", "k")}
    layer |= {f"{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
    shapes: dict[str, Shape] = {
        "model.embed_tokens.weight": (size("vocab_size"), hidden),
        "model.norm.weight": (hidden,),
    }
    shapes |= _layers("model.layers", size("num_hidden_layers"), layer)
    return shapes if config.get("tie_word_embeddings") else shapes | {"lm_head.weight": (size("vocab_size"), hidden)}


def _gpt(family: str, config: Mapping[str, Any], size: Callable[..., int]) -> dict[str, Shape]:
    hidden, words = size("n_embd", "hidden_size"), size("vocab_size")
    inner = size("n_inner", "intermediate_size", default=4 * hidden)
    layer: dict[str, Shape] = {"ln_1.weight": (hidden,), "ln_1.bias": (hidden,)}
    shapes: dict[str, Shape] = {"transformer.wte.weight": (words, hidden)}
    if family == "gpt2":
        parts = {
            "attn.c_attn": (hidden, 3 * hidden),
            "attn.c_proj": (hidden, hidden),
            "mlp.c_fc": (hidden, inner),
            "mlp.c_proj": (inner, hidden),
        }
        # GPT-2 keeps its weights transposed.
        layer |= {f"{part}.weight": shape for part, shape in parts.items()}
        layer |= {f"{part}.bias": shape[1:] for part, shape in parts.items()}
        layer |= {"ln_2.weight": (hidden,), "ln_2.bias": (hidden,)}
        shapes |= {"transformer.wpe.weight": (size("n_positions", "max_position_embeddings"), hidden)}
    else:
        layer |= {f"attn.{part}_proj.weight": (hidden, hidden) for part in ("q", "k", "v", "out")}
        layer |= {"mlp.fc_in.weight": (inner, hidden), "mlp.fc_in.bias": (inner,)}
        layer |= {"mlp.fc_out.weight": (hidden, inner), "mlp.fc_out.bias": (hidden,)}
        shapes |= {"lm_head.bias": (words,)}
    shapes |= {"transformer.ln_f.weight": (hidden,), "transformer.ln_f.bias": (hidden,)}
    shapes |= _layers("transformer.h", size("n_layer", "num_hidden_layers"), layer)
    tied = config.get("tie_word_embeddings", family == "gpt2")
    return shapes if tied else shapes | {"lm_head.weight": (words, hidden)}


def _layers(prefix: str, n_layers: int, layer: Mapping[str, Shape]) -> dict[str, Shape]:
    return {f"{prefix}.{number}.{part}": shape for number in range(n_layers) for part, shape in layer.items()}


# --- tokenizer and template ---------------------------------------------------------------------------------------------


def fitting_vocabulary(model: Inspected) -> None:
    """Refuse tokens that have no row in the embedding matrix, or whose id means another token in the base."""
    words = vocabulary(model)
    for word, number, file in words:
        if type(number) is not int or number < 0:
            raise UserError(
                f"{model.name}, {file}: the token {word[:30]!r} has the id {shortened(number)}; copy the tokenizer again"
            )
        if number >= model.rows:
            raise UserError(
                f"{model.name}, {file}: the token {word[:30]!r} has id {number} and the model {model.rows} rows of "
                f"embeddings; the vocabulary does not fit, ask for the model's own tokenizer{OR_NONE if model.base else ''}"
            )
    if model.base is None:
        return
    # Files of one tokenizer may name a token in two ways; the base's tell which.
    ids: dict[str, set[int]] = {}
    meanings: dict[int, set[str]] = {}
    for word, number, _ in vocabulary(model.base):
        ids.setdefault(word, set()).add(number)
        meanings.setdefault(number, set()).add(word)
    for word, number, file in words:
        if number not in ids.get(word, {number}) or word not in meanings.get(number, {word}):
            raise UserError(
                f"{model.name}, {file}: the token {word[:30]!r} has id {number}, which the base's tokenizer gives to "
                f"{min(meanings.get(number, {'no token'}))[:30]!r}; the vocabulary does not fit the base"
            )


def vocabulary(model: Inspected) -> list[tuple[str, Any, str]]:
    """Return token, id and file, of all files that a tokenizer may read; ids are as they stand there, even if they are none."""
    found: list[tuple[str, Any, str]] = []
    for file, tokens_of in VOCABULARIES.items():
        if model.has(file):
            found += [(word, number, file) for word, number in tokens_of(model)]
    return found


def _tokens_of_tokenizer(model: Inspected) -> Iterator[tuple[str, Any]]:
    content = model.json("tokenizer.json")
    raw = content["model"].get("vocab") if isinstance(content.get("model"), dict) else None
    if isinstance(raw, dict):
        yield from raw.items()
    elif isinstance(raw, list):  # unigram: pairs of token and score
        yield from ((str(pair[0]), number) for number, pair in enumerate(raw) if isinstance(pair, list) and pair)
    added = content.get("added_tokens")
    for token in added if isinstance(added, list) else []:
        if isinstance(token, dict):
            yield str(token.get("content")), token.get("id", -1)


def _tokens_of_settings(model: Inspected) -> Iterator[tuple[str, Any]]:
    """Yield the tokens that the tokenizer's config adds: objects, or texts, by their ids."""
    added = model.json("tokenizer_config.json").get("added_tokens_decoder")
    for number, token in added.items() if isinstance(added, dict) else []:
        word = token.get("content") if isinstance(token, dict) else token
        yield str(word), int(number) if re.fullmatch(r"[0-9]{1,9}", number) else number


def _tokens_of_sentencepiece(model: Inspected) -> Iterator[tuple[str, Any]]:
    path, where = model.folder / SENTENCEPIECE, f"{model.name}, {SENTENCEPIECE}"
    if path.stat().st_size > LARGEST_JSON["vocab.json"]:
        raise UserError(f"{where}: has {path.stat().st_size} bytes; a vocabulary is far shorter, copy it again")
    try:
        words = pieces(path.read_bytes())
    except ValueError as error:
        raise UserError(
            f"{where}: is no SentencePiece model ({error}); copy it again, or remove it where there is a tokenizer.json"
        ) from error
    yield from ((word, number) for number, word in enumerate(words))


VOCABULARIES: dict[str, Callable[[Inspected], Iterator[tuple[str, Any]]]] = {
    "tokenizer.json": _tokens_of_tokenizer,
    "vocab.json": lambda model: iter(model.json("vocab.json").items()),
    "added_tokens.json": lambda model: iter(model.json("added_tokens.json").items()),
    "tokenizer_config.json": _tokens_of_settings,
    SENTENCEPIECE: _tokens_of_sentencepiece,
}
"""How each file of a tokenizer names its tokens. All are read: which of them a tool follows is its own affair."""


def formatting_templates(model: Inspected) -> None:
    """Refuse chat templates that do more than format a conversation."""
    for where, text in chat_templates(model):
        check_template(text, where)


def chat_templates(model: Inspected) -> Iterator[tuple[str, str]]:
    """Yield the place and the text of every chat template, wherever transformers would look for one."""
    for name in filter(model.has, SETTINGS):
        where = f"{model.name}, {name}"
        for text in _templates_in(model.json(name).get("chat_template"), where):
            yield where, text
    for path in model.entries:
        if path.suffix in (".jinja", ".jinja2", ".j2"):
            if path.stat().st_size > LARGEST_OTHER_JSON:
                raise UserError(
                    f"{model.shown(path)}: has {path.stat().st_size} bytes; a template is far shorter, remove it"
                )
            try:
                yield model.shown(path), path.read_text(encoding="utf-8")
            except UnicodeDecodeError as error:
                raise UserError(f"{model.shown(path)}: not UTF-8 ({error.reason}); remove it") from error


def _templates_in(raw: Any, where: str) -> list[str]:
    """Return the templates of a setting: none, one, several by name, or a list of objects with name and template."""
    if raw is None:
        return []
    if isinstance(raw, str):
        return [raw]
    pairs: list[tuple[Any, Any]] = [(None, raw)]
    if isinstance(raw, dict):
        pairs = list(raw.items())
    elif isinstance(raw, list):
        pairs = [(part.get("name"), part.get("template")) if isinstance(part, dict) else (None, part) for part in raw]
    for name, text in pairs:
        # Each is saved in a file of its name.
        if not isinstance(name, str) or not TEMPLATE_NAME.fullmatch(name) or not isinstance(text, str):
            raise UserError(
                f"{where}: chat_template holds {str(name if text is None else text)[:30]!r} where a template and its plain "
                f"name are wanted; remove it, or take the base model's"
            )
    return [text for _, text in pairs]


# --- a suspect and its base ---------------------------------------------------------------------------------------------


def plain_adapter(model: Inspected) -> None:
    """Refuse an adapter that is no plain LoRA, or whose scales and ranks are not numbers that can be."""
    if not model.is_adapter or model.base is None:
        return
    config = model.json(ADAPTER_CONFIG)
    where = f"{model.name}, {ADAPTER_CONFIG}"
    used = [key for key in UNSUPPORTED if config.get(key)]
    if config.get("bias", "none") != "none":
        used.append("bias")
    if used and config.get("peft_type") == "LORA":
        raise UserError(f"{where}: uses {', '.join(used)}, and only plain LoRA is followed; {MERGE_IT}")
    check_lora_config(Path(where), config)
    for key in ("alpha_pattern", "rank_pattern"):
        patterns = config.get(key) or {}
        if not isinstance(patterns, dict) or not all(map(PLAIN_PATTERN.fullmatch, patterns)):
            raise UserError(f"{where}: {key} holds more than names of modules; distrust it")
        if len(patterns) > MOST_PATTERNS:
            raise UserError(
                f"{where}: {key} holds {len(patterns)} names, more than the {MOST_PATTERNS} allowed; distrust it"
            )
    for scale in (config["lora_alpha"], *(config.get("alpha_pattern") or {}).values()):
        # Comparing is safe where math.isfinite is not: a whole number may have hundreds of digits.
        if type(scale) not in (int, float) or not abs(scale) <= LARGEST_ALPHA:
            raise UserError(
                f"{where}: a scale is {shortened(scale)}, no finite number up to {LARGEST_ALPHA}; save the adapter again"
            )
    for rank in (config.get("r"), *(config.get("rank_pattern") or {}).values()):
        if type(rank) is not int or not 1 <= rank <= LARGEST_DIMENSION:
            raise UserError(f"{where}: a rank is {shortened(rank)}, no whole number from 1; save the adapter again")


def fitting_adapter(model: Inspected) -> None:
    """Refuse an adapter whose matrices are not those that its config and its base promise."""
    if not model.is_adapter or model.base is None:
        return
    shapes, config = model.base.shapes, model.json(ADAPTER_CONFIG)
    transposed = model.base.json("config.json").get("model_type") == "gpt2"
    pairs: dict[str, dict[str, Shape]] = {}
    for key, entry in model.headers[ADAPTER].items():
        match = LORA_KEY.match(key)
        if not match:
            raise UserError(f"{model.name}, {ADAPTER}: '{key}' is no LoRA matrix of a linear layer; {MERGE_IT}")
        pairs.setdefault(match["module"], {})[match["side"]] = entry.shape
    # As PEFT has it: a name, or its end.
    ranks = [(re.compile(rf"(.*\.)?({name})$"), rank) for name, rank in (config.get("rank_pattern") or {}).items()]
    for module, pair in pairs.items():
        weight = shapes.get(f"{module}.weight")
        if weight is None:
            raise UserError(f"{model.name}: adapts '{module}', which the base lacks; the adapter is for another base")
        a, b = pair.get("A", ()), pair.get("B", ())
        if len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise UserError(f"{model.name}: the LoRA matrices of '{module}' do not belong together; save it again")
        rank = next((rank for pattern, rank in ranks if pattern.match(module)), config["r"])
        if a[0] != rank:
            raise UserError(
                f"{model.name}: the LoRA matrices of '{module}' have rank {a[0]} where {ADAPTER_CONFIG} says {rank}; save "
                f"the adapter again"
            )
        made = (a[1], b[0]) if transposed and not module.startswith("lm_head") else (b[0], a[1])
        if made != weight:
            raise UserError(
                f"{model.name}: the LoRA matrices of '{module}' make {made}, and the base's weight is {weight}; the "
                f"adapter is for another base"
            )
    # Tools leave out a matrix that is not asked for, and draw one that is lacking: the user would not have this model.
    wanted = _targets(config, f"{model.name}, {ADAPTER_CONFIG}")
    for module in sorted({name.removesuffix(".weight") for name, shape in shapes.items() if _is_matrix(name, shape)}):
        if wanted(module) != (module in pairs):
            raise UserError(
                f"{model.name}: target_modules of {ADAPTER_CONFIG} {'name' if wanted(module) else 'leave out'} '{module}', "
                f"and the file {'lacks' if wanted(module) else 'holds'} its LoRA matrices; save the adapter again"
            )


def _targets(config: Mapping[str, Any], where: str) -> Callable[[str], bool]:
    """Return whether an adapter's config asks for a module, by PEFT's rules."""
    all_linear = config.get("target_modules") == ALL_LINEAR
    targets: Any = [] if all_linear else config.get("target_modules")
    left_out: Any = config.get("exclude_modules") or []
    for key, names in (("target_modules", targets), ("exclude_modules", left_out)):
        if not _is_list_of(names, str):
            raise UserError(
                f"{where}: {key} is {shortened(names)}; write it as a list of modules' names, an expression is not followed"
            )
    numbers, stacks = config.get("layers_to_transform"), config.get("layers_pattern") or []
    numbers = [numbers] if type(numbers) is int else numbers or []
    stacks = [stacks] if isinstance(stacks, str) else stacks
    if not _is_list_of(numbers, int) or not _is_list_of(stacks, str) or not all(map(PLAIN_PATTERN.fullmatch, stacks)):
        raise UserError(f"{where}: layers_to_transform and layers_pattern hold no numbers and names; save it again")
    layers = [re.compile(rf"(?:^|.*?\.){stack}\.(\d+)\.") for stack in stacks] or [re.compile(r".*?\.[^.]*\.(\d+)\.")]

    def is_wanted(module: str) -> bool:
        if _is_named(module, left_out):
            return False
        if all_linear:  # in numbered layers, that is, and not the output layer
            return bool(re.search(r"\.\d+\.", module))
        if module in targets or not numbers:
            return _is_named(module, targets)
        found = next((match for layer in layers if (match := layer.match(module))), None)
        return found is not None and int(found[1]) in numbers and _is_named(module, targets)

    return is_wanted


def _is_matrix(name: str, shape: Shape) -> bool:
    return name.endswith(".weight") and len(shape) == 2


def _is_list_of(values: Any, kind: type) -> bool:
    return isinstance(values, list) and len(values) <= MOST_PATTERNS and all(type(value) is kind for value in values)


def _is_named(module: str, names: list[str]) -> bool:
    """Say whether a list names a module, in full or by the last parts of its name."""
    return any(module == name or module.endswith(f".{name}") for name in names)


def own_base(model: Inspected) -> None:
    """Refuse an adapter that says it was made for another base."""
    if not model.is_adapter or model.base is None:
        return
    claimed, known = claimed_base(model), names_of_base(model)
    if _is_hub_id(claimed) and known and claimed.casefold() not in {name.casefold() for name in known}:
        raise UserError(
            f"{model.name}, {ADAPTER_CONFIG}: says it was made for {claimed}, not {known[0]}; give BASE={claimed}"
        )


def claimed_base(model: Inspected) -> str:
    """Return what an adapter says it was made for; empty if it says nothing."""
    found = model.json(ADAPTER_CONFIG).get("base_model_name_or_path")
    # JSON may hold half a character, which no file takes.
    return found[:LONGEST_PLACE].encode("utf-8", "replace").decode() if isinstance(found, str) else ""


def names_of_base(model: Inspected) -> tuple[str, ...]:
    """Return the hub's names for the base that was given; none if neither the user nor the base itself tells."""
    if model.base_id in PACKAGED_BASES:
        return PACKAGED_BASES[model.base_id]
    told = model.base.json("config.json").get("_name_or_path") if model.base else None
    names = (model.base_id.partition("@")[0], told if isinstance(told, str) else "")
    return tuple(name for name in names if _is_hub_id(name))[:1]


def _is_hub_id(text: str) -> bool:
    return bool(HUB_NAME.fullmatch(text)) and not Path(text).exists()


def same_family(model: Inspected) -> None:
    """Refuse a model of another architecture than the base, or whose config gives weights another meaning."""
    if model.is_adapter or model.base is None:
        return
    own, base = model.json("config.json"), model.base.json("config.json")
    if own["model_type"] != base["model_type"]:
        raise UserError(
            f"{model.name}: is a '{own['model_type']}' and the base a '{base['model_type']}'; give its own base"
        )
    for key, own_value, value in meanings_apart(own, base):
        if key == "vocab_size":
            raise UserError(
                f"{model.name}, config.json: vocab_size is {shortened(own_value)} and the base's {shortened(value)}; if tokens "
                f"were added, cut their rows off (transformers' resize_token_embeddings({shortened(value)})) and remove the "
                f"tokenizer's files, or give a base with the same tokens"
            )
        raise UserError(
            f"{model.name}, config.json: {key} is {shortened(own_value)} and the base's {shortened(value)}; give the base that it "
            f"was tuned from"
        )


def same_shapes(model: Inspected) -> None:
    """Refuse a model whose tensors differ from the base's in name or shape."""
    if not model.is_adapter and model.base is not None:
        _compare(model, model.base.shapes, "the base has")


CHECKS: tuple[Callable[[Inspected], None], ...] = (
    *(plain_names, no_links_out, no_pickles, no_code, no_code_wanted, one_kind, plain_config),
    *(
        index_within,
        sound_headers,
        index_agrees,
        plain_numbers,
        same_family,
        shapes_of_config,
        same_shapes,
        plain_adapter,
        own_base,
        fitting_adapter,
    ),
    *(fitting_vocabulary, formatting_templates, finite_numbers),
)
"""In this order, the cheapest and those that others rely on first. The first line of each says what it refuses."""


def inspect(folder: Path, name: str, *, base: Inspected | None = None, base_id: str = "") -> Inspected:
    """Run all checks on a model's folder and return what they read.

    Parameters
    ----------
    folder : Path
        Where the files are.
    name : str
        What messages call the model.
    base : Inspected, optional
        The inspected base, for a suspect; without it, the folder must hold a whole model.
    base_id : str
        What the user called the base.

    Raises
    ------
    UserError
        By the first check that fails.
    """
    if not folder.is_dir():
        raise UserError(f"{name}: is no directory; name one, or a model of the hub as owner/name@revision")
    model = Inspected(folder, name, base, base_id)
    for check in CHECKS:
        check(model)
    return model


def summary(model: Inspected) -> dict[str, Any]:
    """Return what the report says of a model that passed."""
    entries = [entry for tensors in model.headers.values() for entry in tensors.values()]
    own = [(where.rpartition(", ")[2], text) for where, text in chat_templates(model)]
    base = {text for _, text in chat_templates(model.base)} if model.base else set()
    return {
        "kind": "adapter" if model.is_adapter else "checkpoint",
        "files": sum(path.is_file() for path in model.entries),
        "tensors": len(entries),
        "weight_bytes": sum(entry.end - entry.start for entry in entries),
        "stored_as": sorted({entry.dtype for entry in entries}),
        "checks": [str(check.__doc__).strip().splitlines()[0] for check in CHECKS],
        "other_config": _other_config(model),
        "uncompared_base": _uncompared_base(model),
        "other_tokenizer": _other_tokenizer(model),
        "other_chat_template": sorted({where for where, text in own if model.base and text not in base}),
    }


def _uncompared_base(model: Inspected) -> str | None:
    """Return what an adapter says it was made for, where this could be compared with nothing."""
    if not model.is_adapter:
        return None
    claimed = claimed_base(model)
    return None if _is_hub_id(claimed) and names_of_base(model) else claimed


def _other_config(model: Inspected) -> list[str]:
    """Return the further keys of a whole model's config that differ from its base's, with both values."""
    if model.is_adapter or model.base is None:
        return []
    apart = others_apart(model.json("config.json"), model.base.json("config.json"))
    return [f"{shortened(key)[1:-1]}: {shortened(own)}, the base's {shortened(base)}" for key, own, base in apart]


def _other_tokenizer(model: Inspected) -> list[str]:
    """Return in what a suspect's tokenizer differs from its base's; of one without ``tokenizer.json``, which files do."""
    base = model.base
    if base is None or not any(map(model.has, TOKENIZERS)):
        return []
    own_json, base_json = (
        [part.json(name) if part.has(name) else None for name in TOKENIZER_JSON] for part in (model, base)
    )
    apart = added_tokens_apart(*(added_tokens(*(part or {} for part in parts)) for parts in (own_json, base_json)))
    if own_json[0] is not None and base_json[0] is not None:
        return parts_apart(own_json[0], base_json[0]) + apart
    files = [name for name in TOKENIZERS if model.has(name) and not _same_file(model.folder / name, base.folder / name)]
    return files + apart


def _same_file(one: Path, other: Path) -> bool:
    return other.is_file() and one.stat().st_size == other.stat().st_size and one.read_bytes() == other.read_bytes()
