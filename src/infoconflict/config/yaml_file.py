"""YAML files read strictly: one mapping, valid UTF-8, no key twice."""

from pathlib import Path
from typing import Any

import yaml

from infoconflict.config_errors import shown
from infoconflict.errors import UserError
from infoconflict.files import PathLike


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which takes the last of two equal keys, and a memory of where it did so."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self.repeated: list[tuple[int, str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    self.repeated.append((key.start_mark.line + 1, key.value))
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: PathLike) -> dict[str, Any]:
    """Return the mapping that a YAML file holds.

    Raises
    ------
    UserError
        If the file is absent, not UTF-8, not valid YAML, no mapping, or has a key twice.
    """
    try:
        loader = _Loader(Path(path).read_text(encoding="utf-8"))
        raw = loader.get_single_data()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); name a config file") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        reason = error.problem or error.context
        raise UserError(f"{path}{where}: is not valid YAML ({reason}); mend the line") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML ({' '.join(str(error).split())}); mend it") from error
    if not isinstance(raw, dict):
        raise UserError(f"{path}: holds {shown(raw)}, expected a mapping of keys to values; begin with 'name: ...'")
    if loader.repeated:
        raise UserError(
            "\n".join(
                f"{path}, line {line}: the key '{key}' stands twice in one mapping; remove one"
                for line, key in loader.repeated
            )
        )
    return raw
