"""The strings under the fields of a class: what each option means, said once, where it is defined."""

import ast
import functools
import inspect
import itertools
from pathlib import Path

from pydantic import BaseModel


def field_texts(model: type[BaseModel]) -> dict[str, str]:
    """Return the strings under a model's fields; its own count before its ancestors'."""
    texts: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if issubclass(parent, BaseModel) and parent is not BaseModel:
            # Classes made at run time (an attack and its method) have no source of their own.
            texts |= _texts_by_class(inspect.getfile(parent)).get(parent.__name__, {})
    return texts


@functools.cache
def _texts_by_class(file: str) -> dict[str, dict[str, str]]:
    """Return the string under each annotated name of each class in a source file."""
    found: dict[str, dict[str, str]] = {}
    for node in ast.parse(Path(file).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef):
            texts = found.setdefault(node.name, {})
            for statement, following in itertools.pairwise(node.body):
                match statement, following:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        texts[name] = " ".join(text.split())
    return found
