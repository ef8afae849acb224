"""Chat templates are programs: here one is parsed, never run, and refused if it does more than format a conversation.

Allowed are text, loops over the conversation or over short ranges, conditions, variables, macros that do not call
themselves, comparisons, concatenation, the usual methods of strings and dicts, Jinja's harmless filters and tests, and the
functions that transformers gives to templates (``raise_exception``, ``strftime_now``). Everything else is refused: other
templates, attributes that begin with an underscore, unknown functions and filters, and ways to grow a text beyond what goes
in (repetition, powers, paddings, long ranges, a variable that doubles itself in a loop, loops within loops within loops).
"""

from collections.abc import Iterator

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from infoconflict.errors import UserError

LONGEST_TEMPLATE = 100_000
"""Characters; the longest of well-known models have about 15,000."""
LONGEST_RANGE = 1_000
DEEPEST_LOOP = 3
WIDEST_INDENT = 16

FUNCTIONS = frozenset({"raise_exception", "strftime_now", "namespace", "range", "dict"})
UNWANTED = frozenset({"lipsum", "cycler", "joiner"})
"""What else Jinja gives to every template."""
METHODS = frozenset(
    {"strip", "lstrip", "rstrip", "split", "rsplit", "startswith", "endswith", "upper", "lower", "title", "capitalize"}
    | {"replace", "find", "items", "keys", "values", "get", "append", "join", "removeprefix", "removesuffix", "isdigit"}
)
FILTERS = frozenset(
    {"trim", "length", "count", "upper", "lower", "title", "capitalize", "replace", "join", "list", "first", "last"}
    | {"default", "d", "tojson", "string", "int", "float", "items", "dictsort", "selectattr", "rejectattr", "select"}
    | {"reject", "map", "reverse", "sort", "unique", "safe", "escape", "e", "abs", "round", "min", "max", "sum"}
)
# What makes of two texts one whose length is a product.
_MULTIPLY = frozenset({"replace", "join"})
_FORBIDDEN: dict[type[nodes.Node], str] = {
    nodes.Import: "imports another template",
    nodes.FromImport: "imports another template",
    nodes.Include: "includes another template",
    nodes.Extends: "extends another template",
    nodes.Pow: "raises a number to a power",
    nodes.Mul: "multiplies, which can repeat a text without end",
    nodes.InternalName: "uses a name of Jinja's own",
    nodes.EnvironmentAttribute: "reaches into Jinja",
    nodes.ContextReference: "reaches into Jinja",
    nodes.ScopedEvalContextModifier: "changes how Jinja works",
    nodes.EvalContextModifier: "changes how Jinja works",
}


class _Generation(Extension):
    """The tag around an assistant's turn that transformers adds to Jinja; here it only groups what it holds."""

    tags = {"generation"}  # noqa: RUF012 as Jinja's base class has it

    def parse(self, parser: Parser) -> nodes.Node:
        """Return the content as a plain condition that holds."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.If(nodes.Const(True), body, [], [], lineno=line)


def check_template(text: str, where: str) -> None:
    """Raise if a chat template does more than format.

    Raises
    ------
    UserError
        With the first thing that is not allowed and its line.
    """
    if len(text) > LONGEST_TEMPLATE:
        raise UserError(
            f"{where}: the chat template has {len(text)} characters, more than the {LONGEST_TEMPLATE} allowed; remove it"
        )
    try:
        tree = Environment(extensions=["jinja2.ext.loopcontrols", _Generation]).parse(text)
    except (TemplateSyntaxError, RecursionError) as error:
        raise UserError(f"{where}: the chat template cannot be parsed ({error}); remove it") from error
    macros = {macro.name for macro in tree.find_all(nodes.Macro)}
    for line, what in _findings(tree, macros):
        raise UserError(
            f"{where}: the chat template {what} (line {line}), and a template may only format; remove it, or take the "
            f"base model's"
        )


def _findings(tree: nodes.Template, macros: set[str]) -> Iterator[tuple[int, str]]:
    dates = {id(part) for call in tree.find_all(nodes.Call) if _named(call) == "strftime_now" for part in call.args}
    patterns = any(
        isinstance(part.value, str) and "%" in part.value and id(part) not in dates
        for part in tree.find_all(nodes.Const)
    )
    for remainder in tree.find_all(nodes.Mod):
        if patterns and not _is_number(remainder.left):
            yield remainder.lineno, "may format a text with '%', which can pad it without end"
    for node in _walk(tree):
        if what := _finding(node, macros):
            yield node.lineno, what
    for macro in tree.find_all(nodes.Macro):
        if called := sorted(_calls(macro) & macros):
            yield macro.lineno, f"has a macro that calls the macro '{called[0]}'"
    yield from _loops(tree, 0, _kept_names(tree))


def _walk(node: nodes.Node) -> Iterator[nodes.Node]:
    yield node
    for child in node.iter_child_nodes():
        yield from _walk(child)


def _finding(node: nodes.Node, macros: set[str]) -> str | None:
    if type(node) in _FORBIDDEN:
        return _FORBIDDEN[type(node)]
    if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
        return f"reaches for the attribute '{node.attr}'"
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        if str(node.arg.value).startswith("_"):
            return f"reaches for the item '{node.arg.value}'"
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Concat | nodes.Add | nodes.Filter):
        return "reaches for an item whose name it puts together"
    if isinstance(node, nodes.Name) and node.name.startswith("__"):
        return f"uses the name '{node.name}'"
    if isinstance(node, nodes.Name) and node.ctx == "load" and node.name in UNWANTED:
        return f"uses Jinja's own '{node.name}'"
    if isinstance(node, nodes.Const) and isinstance(node.value, str) and "__" in node.value:
        return "holds a text with a double underscore, as Python's internals have"
    if isinstance(node, nodes.Filter):
        return _filter(node)
    if isinstance(node, nodes.Call):
        return _call(node, macros)
    return None


def _filter(node: nodes.Filter) -> str | None:
    if node.name not in FILTERS:
        return f"uses the filter '{node.name}'"
    given = [*node.args, *(keyword.value for keyword in node.kwargs)]
    constants = [part.value for part in given if isinstance(part, nodes.Const)]
    all_known = len(constants) == len(given)
    if node.name == "tojson" and (
        not all_known or any(isinstance(value, int) and value > WIDEST_INDENT for value in constants)
    ):
        return "writes JSON with an indent that may be very wide"
    if node.name == "map" and node.args and (not all_known or constants[0] not in FILTERS):
        return "applies a filter by a name that is not allowed"
    return None


def _call(node: nodes.Call, macros: set[str]) -> str | None:
    function = node.node
    if isinstance(function, nodes.Getattr):
        return None if function.attr in METHODS else f"calls the method '{function.attr}'"
    if not isinstance(function, nodes.Name):
        return "calls something that has no name"
    if function.name == "range" and not all(map(_is_short, node.args)):
        return f"loops over a range that may go beyond {LONGEST_RANGE}"
    return None if function.name in FUNCTIONS | macros else f"calls '{function.name}'"


def _is_short(limit: nodes.Node) -> bool:
    """Say whether the limit of a range is a small number, or the length of something that is there, less a small number."""
    match limit:
        case nodes.Const():
            return isinstance(limit.value, int) and abs(limit.value) <= LONGEST_RANGE
        case nodes.Neg():
            return _is_short(limit.node)
        case nodes.Filter():
            return limit.name in ("length", "count")
        case nodes.Sub():
            return _is_short(limit.left) and _is_short(limit.right)
    return False


def _is_number(node: nodes.Node) -> bool:
    """Say whether this can only be a number: a place in a loop, a length, or a sum of such."""
    match node:
        case nodes.Const():
            return isinstance(node.value, int)
        case nodes.Getattr(node=nodes.Name(name="loop")):
            return True
        case nodes.Filter():
            return node.name in ("length", "count")
        case nodes.Add() | nodes.Sub():
            return _is_number(node.left) and _is_number(node.right)
    return False


def _named(call: nodes.Call) -> str | None:
    return str(call.node.name) if isinstance(call.node, nodes.Name) else None


def _calls(node: nodes.Node) -> set[str]:
    return {name for call in node.find_all(nodes.Call) if (name := _named(call))}


def _loops(node: nodes.Node, depth: int, kept: set[str]) -> Iterator[tuple[int, str]]:
    """Look for loops that are too deep, recursive, or in which a text that outlives a round takes itself up twice."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.For):
            if child.recursive:
                yield child.lineno, "has a recursive loop"
            if depth + 1 > DEEPEST_LOOP:
                yield child.lineno, f"has more than {DEEPEST_LOOP} loops within one another"
            yield from _loops(child, depth + 1, kept)
        else:
            if depth and isinstance(child, nodes.Assign | nodes.AssignBlock) and (name := _doubled(child, kept)):
                yield child.lineno, f"may double the text '{name}' in each round of a loop"
            yield from _loops(child, depth, kept)


def _kept_names(tree: nodes.Template) -> set[str]:
    """Return what outlives a round of a loop: attributes of namespaces, and variables that are made of them."""
    found: list[nodes.Assign | nodes.AssignBlock] = [*tree.find_all(nodes.Assign), *tree.find_all(nodes.AssignBlock)]
    assigned = [(name, _mentions(node)) for node in found if (name := _written(node.target))]
    kept = {name for name, _ in assigned if "." in name}
    while more := {name for name, mentions in assigned if name not in kept and kept & set(mentions)}:
        kept |= more
    return kept


def _mentions(node: nodes.Node) -> list[str]:
    """Return the names in what is assigned, as often as they stand there."""
    values = [node.node] if isinstance(node, nodes.Assign) else list(getattr(node, "body", []))
    return [name for value in values for part in _walk(value) if (name := _written(part))]


def _doubled(node: nodes.Assign | nodes.AssignBlock, kept: set[str]) -> str | None:
    """Return what an assignment may make twice as long, of the texts that outlive a round."""
    target = _written(node.target)
    if target not in kept:
        return None
    times = sum(name in kept for name in _mentions(node))
    if isinstance(node, nodes.AssignBlock):
        return target if times > 1 else None
    parts = list(_walk(node.node))
    adds = any(isinstance(part, nodes.Concat | nodes.Add) for part in parts)
    multiplies = any(
        (isinstance(part, nodes.Filter) and part.name in _MULTIPLY)
        or (isinstance(part, nodes.Getattr) and part.attr in _MULTIPLY)
        or (isinstance(part, nodes.Call) and isinstance(part.node, nodes.Name) and part.node.name not in FUNCTIONS)
        for part in parts
    )
    return target if (times > 1 and adds) or (times > 0 and multiplies) else None


def _written(node: nodes.Node) -> str | None:
    match node:
        case nodes.Name():
            return str(node.name)
        case nodes.NSRef():
            return f"{node.name}.{node.attr}"
        case nodes.Getattr(node=nodes.Name() as owner):
            return f"{owner.name}.{node.attr}"
    return None
