"""How long what a chat template writes can become: a bound is carried through the template's statements, nothing is run.

A length is at most a polynomial in n, the length of what the template is given: the conversation, the tools, the tokenizer's
special tokens. Texts of the template itself count with their own lengths, a loop over what is given as n rounds, a loop over a
short range as its rounds. A loop is gone through a few times: what grows by the same amount in each round has grown n times as
much behind it; so it is with what grows by an amount that itself grows evenly, as a list of lists does. What grows faster is
refused.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest

from jinja2 import nodes

MOST_POWER = 9
"""Of n, by loops within loops and macros; a hundred templates of well-known models have 6 at most."""
MOST_COPIES = 1_000_000
"""The same templates have 630,000 at most: each of many small things is counted at its longest."""
MOST_STEPS = 30_000
"""Nodes that are looked at, a loop's and a macro's each time anew; the same templates take 12,000 at most."""
ROUNDS = 4
PRINTED = 4
"""How much longer a value may be in writing: quotes, escapes, commas."""


@dataclass(frozen=True)
class Size:
    """At most so many characters: a number, n times a number, n * n times a number, and so on."""

    parts: tuple[int, ...] = ()

    @property
    def power(self) -> int:
        """Return the highest power of n that counts."""
        return max((power for power, part in enumerate(self.parts) if part), default=0)

    @property
    def copies(self) -> int:
        """Return how often all that is given stands in it, powers not counted."""
        return sum(self.parts)

    def __add__(self, other: "Size") -> "Size":
        """Return the size of both, one behind the other."""
        return Size(tuple(one + two for one, two in zip_longest(self.parts, other.parts, fillvalue=0)))

    def __sub__(self, other: "Size") -> "Size":
        """Return how much larger this is."""
        return Size(tuple(max(0, one - two) for one, two in zip_longest(self.parts, other.parts, fillvalue=0)))

    def __mul__(self, other: "Size") -> "Size":
        """Return the size of one for each character, or each round, of the other."""
        found = [0] * (len(self.parts) + len(other.parts))
        for power, part in enumerate(self.parts):
            for other_power, other_part in enumerate(other.parts):
                found[power + other_power] += part * other_part
        return Size(tuple(found[: 1 + max((at for at, part in enumerate(found) if part), default=-1)]))

    def __or__(self, other: "Size") -> "Size":
        """Return the size of whichever is longer."""
        return Size(tuple(max(one, two) for one, two in zip_longest(self.parts, other.parts, fillvalue=0)))


def fixed(number: int) -> Size:
    """Return a size that does not depend on what is given."""
    return Size((number,))


GIVEN = Size((0, 1))
SMALL = fixed(20)
"""A number, a truth, a place."""
ONE = fixed(1)
SMALL_RESULTS = frozenset(
    {"length", "count", "int", "float", "abs", "round", "find", "startswith", "endswith", "isdigit", "range"}
)
IN_PIECES = frozenset({"split", "rsplit", "list", "items", "keys", "values", "dictsort", "string", "title", "upper"})
"""What makes a list of a text, or a text of a list, or may lengthen letters."""
ESCAPED = 6
"""How much longer a character may be that is escaped."""
WIDEST_INDENT = 16


class Grown(Exception):
    """A text may become too long; ``line`` says where, ``what`` how."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line, self.what = line, what


class Names(dict[str, Size]):
    """Sizes by name. Attributes of namespaces begin with a dot; they outlive loops and macros."""

    def copied(self) -> "Names":
        """Return a copy."""
        return Names(self)

    def kept(self) -> dict[str, Size]:
        """Return what outlives loops and macros."""
        return {name: size for name, size in self.items() if name.startswith(".")}


@dataclass
class Growth:
    """Bounds the lengths of one template; raises :class:`Grown` where one is too large."""

    tree: nodes.Template
    macros: dict[str, nodes.Macro] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)
    are_plain: bool = False
    """Whether each namespace is made in one place and has one name; else attributes of the same name count as one."""
    steps: int = 0

    def __post_init__(self) -> None:
        self.macros = {macro.name: macro for macro in self.tree.find_all(nodes.Macro)}
        made = [name for node in self.tree.find_all(nodes.Assign) if (name := _namespace_made(node))]
        self.namespaces = _namespaces(self.tree)
        self.are_plain = self.namespaces == set(made) and len(made) == len(set(made))

    def judged(self) -> Size:
        """Return the size of all that the template writes."""
        return self.run(self.tree.body, Names())

    def run(self, statements: Iterable[nodes.Node], names: Names) -> Size:
        """Return the size of what statements write; ``names`` are changed."""
        written = Size()
        for statement in statements:
            written = self.bounded(written + self.written(statement, names), statement)
        return written

    def bounded(self, size: Size, node: nodes.Node) -> Size:
        """Raise if a size, or the work so far, is beyond bounds."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Grown(node.lineno, "has too many loops and macros to be judged")
        if size.power > MOST_POWER or size.copies > MOST_COPIES:
            raise Grown(node.lineno, "may grow a text far beyond what goes in")
        return size

    # --- statements ---------------------------------------------------------------------------------------------------

    def written(self, node: nodes.Node, names: Names) -> Size:
        """Return the size of what one statement writes."""
        match node:
            case nodes.Output():
                return self.all_of(node.nodes, names)
            case nodes.Assign():
                self.assign(node.target, self.size(node.node, names), node.node, names)
                return Size()
            case nodes.AssignBlock():
                size = self.run(node.body, names.copied())
                self.assign(node.target, self.behind_all(node.filter, size, names), None, names)
                return Size()
            case nodes.If():
                return self.branches([node.body, *(part.body for part in node.elif_), node.else_], names)
            case nodes.For():
                return self.loop(node, names)
            case nodes.With():
                inner = names.copied()
                for target, value in zip(node.targets, node.values, strict=True):
                    self.assign(target, self.size(value, names), value, inner)
                return self.within(node.body, inner, names)
            case nodes.FilterBlock():
                return self.behind_all(node.filter, self.run(node.body, names), names)
            case nodes.CallBlock():
                return self.size(node.call, names) + self.run(node.body, names.copied())
            case nodes.Macro():
                return Size()
            case nodes.ExprStmt():
                return self.size(node.node, names)
        return self.run(node.iter_child_nodes(), names)

    def within(self, statements: Iterable[nodes.Node], inner: Names, names: Names) -> Size:
        """Return what statements write that have names of their own; of these, attributes of namespaces outlive them."""
        written = self.run(statements, inner)
        names.update(inner.kept())
        return written

    def assign(self, target: nodes.Node, size: Size, value: nodes.Node | None, names: Names) -> None:
        """Note the size of what is assigned."""
        self.bounded(size, target)
        if isinstance(target, nodes.NSRef):
            self.keep(target.name, target.attr, size, names)
        for name in [target.name] if isinstance(target, nodes.Name) else []:
            names[name] = size
        for part in target.items if isinstance(target, nodes.Tuple) else []:
            self.assign(part, size, None, names)
        if isinstance(target, nodes.Name) and isinstance(value, nodes.Call) and _name(value.node) == "namespace":
            for keyword in value.kwargs:
                self.keep(target.name, keyword.key, self.size(keyword.value, names), names)

    def keep(self, owner: str, attribute: str, size: Size, names: Names) -> None:
        """Note the size of what is assigned to an attribute of a namespace."""
        key = self.key(owner, attribute)
        names[key] = size if self.are_plain else names.get(key, Size()) | size

    def key(self, owner: str, attribute: str) -> str:
        """Return the name of an attribute of a namespace."""
        return f".{owner}.{attribute}" if self.are_plain else f".{attribute}"

    def branches(self, bodies: Iterable[Iterable[nodes.Node]], names: Names) -> Size:
        """Return the size of the longest of several bodies; a name has the largest size that one of them gives it."""
        longest, ends = Size(), [names.copied()]
        for body in bodies:
            inner = names.copied()
            longest |= self.run(body, inner)
            ends.append(inner)
        for end in ends:
            for name, size in end.items():
                names[name] = names.get(name, Size()) | size
        return longest

    def loop(self, node: nodes.For, names: Names) -> Size:
        """Return the size of what all rounds write."""
        each = self.size(node.iter, names)
        rounds = self.rounds(node.iter)

        def one_round(begin: dict[str, Size]) -> tuple[Size, dict[str, Size]]:
            inner = names.copied()
            inner.update(begin)
            inner["loop"] = each + SMALL
            self.assign(node.target, each, None, inner)
            written = self.run(node.body, inner)
            return written, inner.kept()

        kept = [names.kept()]
        for _ in range(ROUNDS):
            kept.append(one_round(kept[-1])[1])
        end = {name: _at_the_end([part.get(name, Size()) for part in kept], rounds, node) for name in kept[-1]}
        written, _ = one_round(end)
        names.update(end)
        otherwise = self.run(node.else_, names.copied())
        return rounds * (written + ONE) + otherwise

    def rounds(self, values: nodes.Node) -> Size:
        """Return how often a loop over some values runs."""
        if isinstance(values, nodes.Call) and _name(values.node) == "range":
            limits = [part.value for part in values.args if isinstance(part, nodes.Const)]
            if len(limits) == len(values.args):
                return fixed(max(1, *map(abs, limits)))
        return GIVEN

    # --- expressions --------------------------------------------------------------------------------------------------

    def all_of(self, parts: Iterable[nodes.Node], names: Names) -> Size:
        """Return the size of several values together."""
        total = Size()
        for part in parts:
            total += self.size(part, names)
        return total

    def size(self, node: nodes.Node, names: Names) -> Size:
        """Return the size of a value in writing."""
        return self.bounded(self._size(node, names), node)

    def _size(self, node: nodes.Node, names: Names) -> Size:
        match node:
            case nodes.TemplateData():
                return fixed(len(node.data))
            case nodes.Const():
                return fixed(len(node.value)) if isinstance(node.value, str) else SMALL
            case nodes.Name():
                if node.name in self.namespaces:
                    return sum(names.kept().values(), names.get(node.name, Size()))
                return names.get(node.name, GIVEN)
            case nodes.Getattr(node=nodes.Name(name=owner), attr=attr) if owner in self.namespaces:
                return names.get(self.key(owner, attr), GIVEN)
            case nodes.Getitem(node=nodes.Call(node=nodes.Getattr(attr="split" | "rsplit", node=text))):
                return self.size(text, names)  # one of the pieces
            case nodes.Getattr() | nodes.Getitem():
                return self.size(node.node, names)
            case nodes.Filter():
                base = Size() if node.node is None else self.size(node.node, names)
                return self.filtered(node, base, names)
            case nodes.Call():
                return self.called(node, names)
            case nodes.CondExpr():
                other = self.size(node.expr2, names) if node.expr2 is not None else Size()
                return self.size(node.expr1, names) | other
            case nodes.And() | nodes.Or():
                return self.size(node.left, names) | self.size(node.right, names)
            case nodes.Compare() | nodes.Not() | nodes.Test() | nodes.Sub() | nodes.Div() | nodes.FloorDiv():
                for part in node.iter_child_nodes():
                    self.size(part, names)
                return SMALL
            case nodes.List() | nodes.Dict() | nodes.Tuple():
                # In writing, quotes and backslashes of what it holds are escaped.
                return self.all_of(node.iter_child_nodes(), names) * fixed(2) + SMALL
        return self.all_of(node.iter_child_nodes(), names)

    def called(self, node: nodes.Call, names: Names) -> Size:
        """Return the size of what a function, a macro or a method gives."""
        given = [*node.args, *(keyword.value for keyword in node.kwargs)]
        if isinstance(node.node, nodes.Getattr):
            return self.changed(node.node.attr, self.size(node.node.node, names), given, names, node, is_method=True)
        name = _name(node.node)
        if name in self.macros:
            return self.macro(self.macros[name], self.all_of(given, names), names)
        if name in SMALL_RESULTS:
            return SMALL
        if name == "strftime_now":
            return self.all_of(given, names) * fixed(100) + SMALL
        return self.all_of(given, names) * fixed(2)

    def macro(self, macro: nodes.Macro, given: Size, names: Names) -> Size:
        """Return the size of what a macro writes; each of its arguments counts as all of them."""
        inner = names.copied()
        for parameter in macro.args:
            inner[parameter.name] = given
        inner["varargs"] = inner["kwargs"] = given
        for parameter, default in zip(macro.args[::-1], macro.defaults[::-1], strict=False):
            inner[parameter.name] |= self.size(default, names)
        return self.within(macro.body, inner, names)

    def behind_all(self, node: nodes.Node | None, base: Size, names: Names) -> Size:
        """Return the size of a block behind its filters, which stand within one another."""
        if not isinstance(node, nodes.Filter):
            return base
        return self.filtered(node, self.behind_all(node.node, base, names), names)

    def filtered(self, node: nodes.Filter, base: Size, names: Names) -> Size:
        """Return the size of a value behind one filter."""
        given = [*node.args, *(keyword.value for keyword in node.kwargs)]
        name = node.name
        if name == "map" and node.args and isinstance(node.args[0], nodes.Const):
            name, given = str(node.args[0].value), given[1:]
        return self.changed(name, base, given, names, node, is_method=False)

    def changed(
        self, name: str, base: Size, given: Sequence[nodes.Node], names: Names, node: nodes.Node, *, is_method: bool
    ) -> Size:
        """Return the size of a value of size ``base`` behind a filter or a method."""
        if name in SMALL_RESULTS:
            return SMALL
        if name == "replace":
            put_in, old = self.all_of(given[1:], names), given[0] if given else None
            if isinstance(old, nodes.Const) and isinstance(old.value, str) and old.value and not put_in.power:
                return base * fixed(max(1, -(-put_in.copies // len(old.value))))
            return self.multiplied(base, put_in + ONE, node)
        if name == "join":
            values = self.all_of(given, names) if is_method else base
            between = base if is_method else self.all_of(given, names)
            return self.multiplied(values, between + ONE, node)
        size = base + self.all_of(given, names)
        if name in ("tojson", "escape", "e"):
            return size * fixed(ESCAPED * (WIDEST_INDENT if given else 1))
        return size * fixed(PRINTED) if name in IN_PIECES else size

    def multiplied(self, size: Size, other: Size, node: nodes.Node) -> Size:
        """Return the size of one text in many places of another; not both may be given."""
        if size.power and other.power:
            raise Grown(node.lineno, "puts a text that it is given into many places of another")
        return size * other


def _at_the_end(sizes: list[Size], rounds: Size, node: nodes.Node) -> Size:
    """Return the size behind a loop of what had these sizes after its first rounds."""
    steps = [later - earlier for earlier, later in pairwise(sizes)]
    gains = [later - earlier for earlier, later in pairwise(steps)]
    if (gains[-1] - gains[-2]).copies:
        raise Grown(node.lineno, "has a loop in which a text grows faster and faster")
    return sizes[-1] + rounds * steps[-1] + rounds * rounds * gains[-1]


def _namespaces(tree: nodes.Template) -> set[str]:
    """Return the names that may stand for a namespace: what one is assigned to, and whatever is made of such a name."""
    found = {target.name for target in tree.find_all(nodes.NSRef)}
    made: list[tuple[nodes.Node, nodes.Node]] = [(node.target, node.node) for node in tree.find_all(nodes.Assign)]
    made += [(node.target, node.iter) for node in tree.find_all(nodes.For)]
    for node in tree.find_all(nodes.With):
        made += zip(node.targets, node.values, strict=True)
    parts = [
        ({part.name for part in _and_below(target)}, {part.name for part in _bare(value)}) for target, value in made
    ]
    while more := {name for names, used in parts if used & (found | {"namespace"}) for name in names} - found:
        found |= more
    return found


def _namespace_made(node: nodes.Assign) -> str | None:
    is_call = isinstance(node.node, nodes.Call) and _name(node.node.node) == "namespace"
    return _name(node.target) if is_call else None


def _and_below(node: nodes.Node) -> list[nodes.Name]:
    return [*([node] if isinstance(node, nodes.Name) else []), *node.find_all(nodes.Name)]


def _bare(node: nodes.Node) -> list[nodes.Name]:
    """Return the names in a value that stand there as they are, without an attribute behind them."""
    if isinstance(node, nodes.Name):
        return [node]
    if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name):
        return []
    return [name for child in node.iter_child_nodes() for name in _bare(child)]


def _name(node: nodes.Node) -> str | None:
    return str(node.name) if isinstance(node, nodes.Name) else None


def growth_of(tree: nodes.Template) -> tuple[int, str] | None:
    """Return line and reason where a parsed template may write far more than goes in; None where it may not."""
    try:
        Growth(tree).judged()
    except Grown as error:
        return error.line, error.what
    return None
