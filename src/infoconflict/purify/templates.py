"""Chat templates are programs: here one is parsed, never run, and refused if it does more than format a conversation.

Allowed are text, loops over the conversation or over short ranges, conditions, variables, macros that do not call
themselves, comparisons, concatenation, the usual methods of strings and dicts, Jinja's harmless filters and tests, and the
functions that transformers gives to templates (``raise_exception``, ``strftime_now``). Everything else is refused: other
templates, attributes that begin with an underscore, unknown functions and filters, and ways to grow a text beyond what goes
in: repetition, powers, paddings, long ranges, loops within loops within loops, and those that take several steps, as a
variable that doubles itself (:mod:`infoconflict.purify.growth`).
"""

from collections.abc import Iterator, Mapping

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser

from infoconflict.errors import UserError
from infoconflict.purify.growth import WIDEST_INDENT, growth_of

LONGEST_TEMPLATE = 100_000
"""Characters; the longest of well-known models have about 15,000."""
LONGEST_RANGE = 1_000
DEEPEST_LOOP = 3

FUNCTIONS = frozenset({"raise_exception", "strftime_now", "namespace", "range", "dict"})
UNWANTED = frozenset({"lipsum", "cycler", "joiner"})
"""What else Jinja gives to every template."""
METHODS = frozenset(
    {"strip", "lstrip", "rstrip", "split", "rsplit", "startswith", "endswith", "upper", "lower", "title", "capitalize"}
    | {"replace", "find", "items", "keys", "values", "get", "join", "removeprefix", "removesuffix", "isdigit"}
)
FILTERS = frozenset(
    {"trim", "length", "count", "upper", "lower", "title", "capitalize", "replace", "join", "list", "first", "last"}
    | {"default", "d", "tojson", "string", "int", "float", "items", "dictsort", "selectattr", "rejectattr", "select"}
    | {"reject", "map", "reverse", "sort", "unique", "safe", "escape", "e", "abs", "round", "min", "max", "sum"}
)
BY_ATTRIBUTE = frozenset({"map", "selectattr", "rejectattr"})
"""Filters whose first argument names an attribute; of these and of others, an argument ``attribute`` does."""
PLACES = frozenset({"index", "index0", "revindex", "revindex0", "length", "depth", "depth0"})
"""Numbers of a loop."""
_FORBIDDEN: dict[type[nodes.Node], str] = {
    nodes.Import: "imports another template",
    nodes.FromImport: "imports another template",
    nodes.Include: "includes another template",
    nodes.Extends: "extends another template",
    nodes.Block: "has a block, which is there for other templates",
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
        macros = {macro.name for macro in tree.find_all(nodes.Macro)}
        found = next(_findings(tree, macros), None) or growth_of(tree)
    except (TemplateSyntaxError, RecursionError) as error:
        raise UserError(f"{where}: the chat template cannot be parsed ({error}); remove it") from error
    if found:
        line, what = found
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
    called = {macro.name: _calls(macro) & macros for macro in tree.find_all(nodes.Macro)}
    for macro in tree.find_all(nodes.Macro):
        if macro.name in _reached(macro.name, called):
            yield macro.lineno, f"has the macro '{macro.name}', which calls itself"
    yield from _loops(tree, 0)


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
    elif isinstance(node, nodes.Getitem) and _is_put_together(node.arg):
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
    attributes = [keyword.value for keyword in node.kwargs if keyword.key == "attribute"]
    attributes += node.args[:1] if node.name in BY_ATTRIBUTE else []
    if not all(map(_is_plain_attribute, attributes)):
        return f"has the filter '{node.name}' reach for an attribute that it does not name plainly"
    return None


def _is_plain_attribute(node: nodes.Node) -> bool:
    """Say whether this is an attribute's name as it stands, or a number, and no part of it begins with an underscore."""
    if not isinstance(node, nodes.Const):
        return False
    return not any(part.startswith("_") for part in str(node.value).split("."))


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
    """Say whether the limit of a range is a small number, a length or a place in a loop, or made of two such."""
    match limit:
        case nodes.Const():
            return isinstance(limit.value, int) and abs(limit.value) <= LONGEST_RANGE
        case nodes.Neg():
            return _is_short(limit.node)
        case nodes.Filter():
            return limit.name in ("length", "count")
        case nodes.Getattr(node=nodes.Name(name="loop")):
            return limit.attr in PLACES
        case nodes.Add() | nodes.Sub():
            return _is_short(limit.left) and _is_short(limit.right)
    return False


def _is_number(node: nodes.Node) -> bool:
    """Say whether this can only be a number: a place in a loop, a length, or a sum of such."""
    match node:
        case nodes.Const():
            return isinstance(node.value, int)
        case nodes.Getattr(node=nodes.Name(name="loop")):
            return node.attr in PLACES
        case nodes.Filter():
            return node.name in ("length", "count")
        case nodes.Add() | nodes.Sub():
            return _is_number(node.left) and _is_number(node.right)
    return False


def _is_put_together(node: nodes.Node) -> bool:
    """Say whether this may be a text made of others."""
    return isinstance(node, nodes.Concat | nodes.Add | nodes.Filter) and not _is_place(node)


def _is_place(node: nodes.Node) -> bool:
    """Say whether this cannot be a text: a number, or a sum with one in it, as in ``messages[loop.index0 + 1]``."""
    return _is_number(node) or (isinstance(node, nodes.Add) and (_is_place(node.left) or _is_place(node.right)))


def _named(call: nodes.Call) -> str | None:
    return str(call.node.name) if isinstance(call.node, nodes.Name) else None


def _calls(node: nodes.Node) -> set[str]:
    return {name for call in node.find_all(nodes.Call) if (name := _named(call))}


def _reached(name: str, called: Mapping[str, set[str]]) -> set[str]:
    """Return the macros that a macro calls, directly or by way of others."""
    found: set[str] = set()
    todo = [name]
    while todo:
        new = called[todo.pop()] - found
        found |= new
        todo += new
    return found


def _loops(node: nodes.Node, depth: int) -> Iterator[tuple[int, str]]:
    """Look for loops that are too deep or recursive."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.For):
            if child.recursive:
                yield child.lineno, "has a recursive loop"
            if depth + 1 > DEEPEST_LOOP:
                yield child.lineno, f"has more than {DEEPEST_LOOP} loops within one another"
        yield from _loops(child, depth + isinstance(child, nodes.For))
