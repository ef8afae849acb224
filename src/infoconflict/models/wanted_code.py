"""Settings that ask for code: keys at which transformers or PEFT would import, fetch or compile more than themselves."""

from collections.abc import Iterator
from typing import Any

from infoconflict.errors import UserError

SETTINGS = (
    *("config.json", "generation_config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("chat_template.json", "processor_config.json", "preprocessor_config.json", "adapter_config.json"),
)
"""Files that tools read settings from."""
# Keys with which a file asks for code of its own.
CODE_KEYS = frozenset({"auto_map", "trust_remote_code", "custom_pipelines", "custom_generate"})
# Keys whose value may be a repository of compiled code, as owner/name; transformers would fetch and run it.
KERNEL_KEYS = frozenset(
    {"attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"}
    | {"kernel_config", "use_kernels"}
)
# With these an adapter says what is imported for its base; a module of these packages only.
IMPORT_KEY, IMPORTED = "parent_library", ("transformers", "peft")
LONGEST_SHOWN = 40


def refuse_wanted_code(settings: Any, where: str) -> None:
    """Look through the settings of one file, at any depth.

    Parameters
    ----------
    settings : dict or list
        The file's content.
    where : str
        What messages call the file.

    Raises
    ------
    UserError
        If they ask for code of the checkpoint's own, for kernels of another repository, or for a module to be imported.
    """
    pairs = list(pairs_in(settings))
    if keys := sorted(CODE_KEYS & {key for key, _ in pairs}):
        raise UserError(
            f"{where}: {keys[0]} asks for code of the checkpoint's own, which is never run; use a model whose architecture "
            f"transformers has built in"
        )
    for key, value in pairs:
        if key in KERNEL_KEYS and any("/" in text for text in _texts(value)):
            raise UserError(
                f"{where}: {key} is {shortened(value)}, which asks for code of another repository; remove the key"
            )
        if key == IMPORT_KEY and (not isinstance(value, str) or value.partition(".")[0] not in IMPORTED):
            raise UserError(
                f"{where}: {key} is {shortened(value)}, which asks for a module to be imported; remove the key"
            )


def pairs_in(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield all keys with their values, at any depth."""
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, dict):
            yield from part.items()
            todo += part.values()
        elif isinstance(part, list):
            todo += part


def _texts(value: Any) -> list[str]:
    """Return the texts in a value, keys among them."""
    found: list[str] = []
    todo = [value]
    while todo:
        part = todo.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict):
            todo += [*part, *part.values()]
        elif isinstance(part, list):
            todo += part
    return found


def shortened(value: Any) -> str:
    """Return a value of a stranger's file as a few characters without line breaks."""
    text = repr(value)
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."
