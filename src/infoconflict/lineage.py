"""What a rule depends on beyond its input files: the code that its script imports, and the settings above it.

Snakemake follows neither: it notices an edited script, not an edited module, and it compares parameters without their names.
"""

import ast
import json
from functools import cache
from pathlib import Path
from typing import Any

SOURCE = Path(__file__).parent
PACKAGE = SOURCE.name
# An import is a statement; expressions, most of a tree, are passed over.
_HOLDS_STATEMENTS = (ast.stmt, ast.excepthandler, ast.match_case)


@cache
def imported_modules(file: Path) -> frozenset[Path]:
    """Return the package's files that ``file`` imports by name, anywhere in it (type-checking blocks left aside)."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in runtime_statements(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found for name in names for found in files_of(name))


def runtime_statements(tree: ast.AST) -> list[ast.AST]:
    """Return all statements outside ``if TYPE_CHECKING`` blocks: types cannot change a result."""
    nodes: list[ast.AST] = []
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            todo += node.orelse
            continue
        nodes.append(node)
        todo += (part for part in ast.iter_child_nodes(node) if isinstance(part, _HOLDS_STATEMENTS))
    return nodes


def files_of(module: str) -> list[Path]:
    """Return the file of a module of the package, and the ``__init__`` files above it; nothing for other packages."""
    parts = module.split(".")
    if parts[0] != PACKAGE:
        return []
    path = SOURCE.joinpath(*parts[1:])
    found = [path.with_suffix(".py")] if path.with_suffix(".py").exists() else []
    if (path / "__init__.py").exists():
        found.append(path / "__init__.py")
    if found:
        package = path.parent
        while package != SOURCE.parent:
            found.append(package / "__init__.py")
            package = package.parent
    return [file for file in found if file.exists()]


@cache
def code_closure(*files: Path) -> tuple[Path, ...]:
    """Return the package's files that the given files import, directly or not, and those of them that are in the package."""
    seen: set[Path] = set()
    todo = list(files)
    while todo:
        file = todo.pop()
        if file in seen:
            continue
        seen.add(file)
        todo += imported_modules(file)
    return tuple(sorted(file for file in seen if file.is_relative_to(SOURCE)))


def canonical(spec: dict[str, Any]) -> str:
    """Return the one JSON text of a spec: keys sorted, so that reordering a config changes nothing."""
    return json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
