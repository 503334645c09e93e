"""The language of a message: the part of Jinja2 that a marketer may use, and its filters.

Here: the allow-list over the syntax tree, what is said of everything else, and what a missing
value does. Not here: which column a name means, and writing the texts (composition).
"""

import inspect
import re
from collections.abc import Callable
from functools import wraps
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.filters import do_title
from jinja2.sandbox import ImmutableSandboxedEnvironment

from data.errors import SmsError

MAX_SOURCE = 10_000  # characters; keeps a nested message from exhausting the compiler

# What a message may not contain, in the words of who writes one. Whatever is neither here nor in
# _ALLOWED is refused by its Jinja2 name: a new kind of node is never let through by omission.
REFUSED: dict[type[nodes.Node], str] = {
    nodes.For: "loops are not allowed; write the text out",
    nodes.Macro: "macros are not allowed; write the text out",
    nodes.CallBlock: "calls are not allowed; use a column of the audience",
    nodes.Call: "calls are not allowed; use a column of the audience",
    nodes.FilterBlock: "filter blocks are not allowed; put the filter in {{ … }}",
    nodes.Assign: "variables are not allowed; add a column to the audience",
    nodes.AssignBlock: "variables are not allowed; add a column to the audience",
    nodes.With: "variables are not allowed; add a column to the audience",
    nodes.Import: "imports are not allowed; write the text out",
    nodes.FromImport: "imports are not allowed; write the text out",
    nodes.Include: "imports are not allowed; write the text out",
    nodes.Extends: "imports are not allowed; write the text out",
    nodes.Block: "blocks are not allowed; write the text out",
    nodes.Getattr: "attributes (a.b) are not allowed; use a column of the audience",
    nodes.Getitem: "subscripts (a[b]) are not allowed; use a column of the audience",
    nodes.BinExpr: "arithmetic is not allowed; calculate it in the audience",
    nodes.UnaryExpr: "arithmetic is not allowed; calculate it in the audience",
    nodes.Concat: "the ~ operator is not allowed; write {{ a }}{{ b }}",
}
_ALLOWED = (
    *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const),
    *(nodes.If, nodes.CondExpr, nodes.And, nodes.Or, nodes.Not),
    *(nodes.Compare, nodes.Operand, nodes.Test, nodes.List, nodes.Tuple),
    *(nodes.Filter, nodes.Keyword),
)
_COMPARISONS = ("eq", "ne", "in", "notin")
_TESTS = ("defined", "undefined")
_LISTS = (nodes.List, nodes.Tuple)
_LONG_NUMBER = "a number is too long; put it in quotes"
# What no text can hold: PostgreSQL stores no NUL, and half a surrogate pair is no character.
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")


class TemplateError(SmsError):
    """A message that cannot be sent as written."""


class MissingValueError(Exception):
    """A row was about to show a value that it does not have."""


class TooLongError(Exception):
    """A filter was about to make a text far longer than a message can be."""


class Missing(jinja2.Undefined):
    """A value that the row lacks: false in a condition, and an error as soon as it is shown."""

    __slots__ = ()

    def __str__(self) -> str:
        raise MissingValueError(self._undefined_name)


def _default(value: object, default_value: object = "", boolean: bool = False) -> object:
    absent = isinstance(value, jinja2.Undefined) or (boolean and not value)
    return default_value if absent else value


def _replace(text: str, old: object, new: object) -> str:
    old, new = str(old), str(new)
    # Chained replacements grow a text exponentially; the size is known before the memory is spent.
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_SOURCE:
        raise TooLongError
    return text.replace(old, new)


def _on_text(function: Callable[..., str]) -> Callable[..., object]:
    @wraps(function)
    def apply(value: object, *arguments: object) -> object:
        # A missing value passes through, so that `name | upper | default('you')` finds its default.
        return value if isinstance(value, Missing) else function(str(value), *arguments)

    return apply


FILTERS: dict[str, Callable[..., Any]] = {
    "default": _default,
    "d": _default,
    "upper": _on_text(str.upper),
    "lower": _on_text(str.lower),
    "title": _on_text(do_title),
    "capitalize": _on_text(str.capitalize),
    "trim": _on_text(str.strip),
    "replace": _on_text(_replace),
}


def _environment() -> jinja2.Environment:
    environment = ImmutableSandboxedEnvironment(autoescape=False)
    environment.globals.clear()
    environment.filters = dict(FILTERS)
    return environment


ENVIRONMENT = _environment()


def parse(source: str) -> nodes.Template:
    """Return the syntax tree of a message, or raise `TemplateError` naming the line."""
    if len(source) > MAX_SOURCE:
        raise TemplateError(
            f"the message has {len(source):,} characters; {MAX_SOURCE:,} are the most"
        )
    for number, line in enumerate(source.split("\n"), start=1):
        if fault := _unwritable(line):
            raise TemplateError(f"line {number} of the message: {fault}")
    try:
        tree = ENVIRONMENT.parse(source)
    except ValueError as error:  # of more digits than Python reads
        raise TemplateError(f"in the message, {_LONG_NUMBER}") from error
    except jinja2.TemplateSyntaxError as error:
        hint = ""
        if "end of print statement" in str(error.message):
            hint = "; a column with spaces is written with _, as in {{ first_name }}"
        raise TemplateError(
            f"line {error.lineno} of the message cannot be read: {error.message}{hint}"
        ) from error
    _check(tree)
    return tree


def _unwritable(text: str) -> str | None:
    found = _UNWRITABLE.search(text)
    return found and f"the character U+{ord(found[0]):04X} cannot be sent; delete it"


def _check(node: nodes.Node, parent: nodes.Node | None = None) -> None:
    """Refuse whatever is not on the allow-list."""
    fault = _fault(node, parent)
    if fault is not None:
        raise TemplateError(f"line {node.lineno or 1} of the message: {fault}")
    for child in node.iter_child_nodes():
        _check(child, node)


def _fault(node: nodes.Node, parent: nodes.Node | None) -> str | None:  # noqa: PLR0911
    if not isinstance(node, _ALLOWED):
        named = (words for kind, words in REFUSED.items() if isinstance(node, kind))
        return next(named, f"{type(node).__name__} is not allowed")
    match node:
        case nodes.Const(value=str(text)):
            return _unwritable(text)
        case nodes.Const(value=int(number)) if number >= 10**18:  # hexadecimal ones are read
            return _LONG_NUMBER
        # A list would be shown with its brackets, and with its missing values.
        case nodes.List() | nodes.Tuple() if not isinstance(parent, nodes.Operand):
            return "a list cannot be shown; write {{ a }}, {{ b }}"
        case nodes.Compare() | nodes.Test() | nodes.Not() if isinstance(parent, nodes.Output):
            return "a condition would be shown as True or False; put it in {% if … %}"
        case nodes.Test() if node.name not in _TESTS:
            return f"the test “is {node.name}” is not allowed; use ==, in, is defined"
        case nodes.Filter():
            return _filter_fault(node)
        case nodes.Compare():
            return _comparison_fault(node)
    return None


def _filter_fault(node: nodes.Filter) -> str | None:
    function = FILTERS.get(node.name)
    if function is None:
        allowed = ", ".join(name for name in FILTERS if name != "d")
        return f"the filter {node.name} is not allowed; there are {allowed}"
    if node.dyn_args is not None or node.dyn_kwargs is not None:
        return "* and ** are not allowed; write the arguments out"
    try:
        named = {str(pair.key): pair.value for pair in node.kwargs}
        inspect.signature(function).bind(node.node, *node.args, **named)
    except TypeError as error:
        return f"the filter {node.name} does not take these arguments: {error}"
    if node.kwargs and function is not _default:
        return f"the filter {node.name} takes no named arguments; write the values alone"
    return None


def _comparison_fault(node: nodes.Compare) -> str | None:
    left: nodes.Node = node.expr
    for operand in node.ops:
        right = operand.expr
        if operand.op not in _COMPARISONS:
            return (
                "<, > and the like are not allowed, because columns are text and"
                " '9' comes after '10'; add a yes/no column to the audience"
            )
        sides = [left, *(right.items if isinstance(right, _LISTS) else [right])]
        if any(isinstance(side, nodes.Const) and not isinstance(side.value, str) for side in sides):
            return "columns are text; compare with a text in quotes, as in == '5'"
        within = isinstance(right, _LISTS) or isinstance(left, nodes.Const)
        if operand.op in ("in", "notin") and not within:
            return "“in” takes a list, as in {% if country in ['US', 'CA'] %}"
        left = right
    return None
