"""Composition: a marketer's message with `{{ columns }}`, checked once and written for every row.

Here: which column a name means, and the texts of a partition, written column by column. Not here:
what a message may contain (message_language), segments and typography (segments), their price.
"""

import difflib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import nodes

from tasks.message_language import (
    ENVIRONMENT,
    FILTERS,
    Missing,
    MissingValueError,
    TemplateError,
    TooLongError,
    parse,
)

__all__ = ["MAX_TEXT", "Template", "TemplateError"]

MAX_TEXT = 1_600  # characters; gateways refuse or cut a longer text


@dataclass(frozen=True)
class _Slot:
    """A name in the message: as written, and the column it means (None: no such column)."""

    written: str
    column: str | None


@dataclass(frozen=True)
class _Piece:
    """A stretch of the message that depends on these slots and on nothing else."""

    slots: tuple[int, ...]
    write: Callable[..., str]  # takes one value, or Missing, a slot
    bare: bool = False  # the value of its one slot as it stands


class Template:
    """A message that is checked and compiled once: `Template(source, columns).render(frame)`.

    A name means the column of that name, else the one that equals it in lower case with every run
    of other characters than letters and digits as `_`: `{{ first_name }}` can mean "First Name".

    `columns` are the audience columns that the message uses. `warnings` are lines about what is
    allowed and may be a slip: names without a column that have a default.

    Raises `TemplateError` for what a message may not contain, with the line and what to do.
    """

    def __init__(self, source: str, columns: Sequence[str]) -> None:
        self.source = source
        self._audience = tuple(str(column) for column in columns)
        self._slots: list[_Slot] = []
        self._warnings: list[str] = []
        try:
            tree = parse(source)
            self._name_slots(tree, has_default=False)
            self._pieces = [self._piece(part) for part in _parts(tree)]
        # The compilers of Jinja2 and Python give up on deep nesting in all of these ways.
        except (RecursionError, MemoryError, SyntaxError) as error:
            raise TemplateError("the message is nested too deeply; write it more simply") from error
        self.columns = tuple(dict.fromkeys(slot.column for slot in self._slots if slot.column))
        self.warnings = tuple(self._warnings)

    def render(self, frame: pd.DataFrame, longest: int = MAX_TEXT) -> pd.DataFrame:
        """Write the texts of a partition: `text` and `reason`, indexed as `frame`.

        Where a message cannot be sent, `text` is missing and `reason` says why, else `reason` is
        empty: `missing_value:first_name` (missing or blank, and without a default),
        `text_too_long` (over `longest` characters), `empty_text`.

        Values are cleaned: stripped, control characters and invisible characters removed, line
        breaks and tabs turned into spaces, so that a value cannot forge lines of the message.
        """
        values = [_column(frame, slot.column) for slot in self._slots]
        texts, reasons = [], []
        for piece in self._pieces:
            text, reason = self._write(piece, values, len(frame))
            texts.append(text)
            reasons += [] if reason is None else [reason]
        joined = pc.binary_join_element_wise(*texts, _string(""), _string(""))
        if not isinstance(joined, pa.Array):  # every piece is the same for all rows
            joined = pa.repeat(joined, len(frame))

        shown = joined.fill_null("x")
        faults = [
            *reasons,
            pc.if_else(pc.greater(pc.utf8_length(shown), longest), "text_too_long", None),
            pc.if_else(pc.equal(pc.utf8_trim_whitespace(shown), ""), "empty_text", None),
        ]
        reason = pc.coalesce(*(fault.cast(pa.large_string()) for fault in faults))
        text = pc.if_else(reason.is_null(), joined, _string(None))
        return pd.DataFrame(
            {
                "text": pd.Series(text, dtype="str"),
                "reason": pd.Series(reason.fill_null(""), dtype="str"),
            }
        ).set_axis(frame.index)

    def _name_slots(self, node: nodes.Node, *, has_default: bool) -> None:
        """Give every name its slot. Inside the tree it is renamed `v0`, `v1`, … from here on.

        Under names of our own, no column can collide with what Jinja2 reserves (self, loop).
        """
        if isinstance(node, nodes.Name):
            node.name = f"v{self._slot(node, has_default=has_default)}"
        elif isinstance(node, nodes.Filter):
            assert node.node is not None  # noqa: S101 (only filter blocks have none)
            inner = has_default or node.name in ("default", "d")
            self._name_slots(node.node, has_default=inner)
            for argument in (*node.args, *node.kwargs):
                self._name_slots(argument, has_default=False)
        else:
            passes_on = has_default and isinstance(node, nodes.Or | nodes.And | nodes.CondExpr)
            for child in node.iter_child_nodes():
                self._name_slots(child, has_default=passes_on)

    def _slot(self, node: nodes.Name, *, has_default: bool) -> int:
        column = self._find(node.name, node.lineno)
        slot = _Slot(node.name, column)
        if column is None:
            near = difflib.get_close_matches(
                _normal(node.name), dict.fromkeys(map(_normal, self._audience)), n=1
            )
            hint = f" Did you mean {near[0]}?" if near else ""
            fault = f"the message uses {{{{ {node.name} }}}}, but the audience has no such column"
            if not has_default:
                raise TemplateError(f"{fault}.{hint}")
            if slot not in self._slots:
                self._warnings.append(f"{fault}; every message gets the default.{hint}")
        if slot not in self._slots:
            self._slots.append(slot)
        return self._slots.index(slot)

    def _find(self, name: str, line: int) -> str | None:
        found = [column for column in self._audience if column == name]
        found = found or [column for column in self._audience if _normal(column) == _normal(name)]
        if len(found) > 1:
            which = ", ".join(f'"{column}"' for column in found)
            raise TemplateError(
                f"line {line} of the message: {{{{ {name} }}}} can mean any of the columns {which};"
                " rename one of them in the audience"
            )
        return found[0] if found else None

    def _piece(self, part: nodes.Node) -> _Piece:
        names = dict.fromkeys(
            int(name.name[1:])
            for name in ([part] if isinstance(part, nodes.Name) else part.find_all(nodes.Name))
        )
        slots = tuple(names)
        if isinstance(part, nodes.TemplateData):
            text = part.data
            return _Piece((), lambda: text)
        chain = _chain(part)
        if chain is not None:
            return _Piece(slots, chain, bare=isinstance(part, nodes.Name))
        return _Piece(slots, _compiled(part, slots))

    def _write(
        self, piece: _Piece, values: list[pa.Array], rows: int
    ) -> tuple[pa.Array | pa.Scalar, pa.Array | None]:
        """Write one piece for every row: its texts, and the reasons of the rows that lack it."""
        if not piece.slots:
            text, reason = self._outcome(piece, ())
            return _string(text), None if reason is None else pa.repeat(reason, rows)
        if piece.bare:
            column = values[piece.slots[0]]
            if not column.null_count:
                return column, None
            reason = f"missing_value:{self._slots[piece.slots[0]].written}"
            return column, pc.if_else(column.is_null(), reason, None)
        codes, combinations = _combinations([values[slot] for slot in piece.slots])
        outcomes = [self._outcome(piece, combination) for combination in combinations]
        texts = pa.array([text for text, _ in outcomes], pa.large_string()).take(codes)
        if all(reason is None for _, reason in outcomes):
            return texts, None
        return texts, pa.array([reason for _, reason in outcomes], pa.large_string()).take(codes)

    def _outcome(
        self, piece: _Piece, combination: Sequence[str | None]
    ) -> tuple[str | None, str | None]:
        filled: Sequence[object] = combination
        if None in combination:
            filled = [
                Missing(name=self._slots[slot].written) if value is None else value
                for slot, value in zip(piece.slots, combination, strict=True)
            ]
        try:
            return piece.write(*filled), None
        except MissingValueError as error:
            return None, f"missing_value:{error}"
        except TooLongError:
            return None, "text_too_long"


def _parts(tree: nodes.Template) -> Iterator[nodes.Node]:
    for node in tree.body:
        if isinstance(node, nodes.Output):
            yield from node.nodes
        else:
            yield node


def _chain(node: nodes.Node) -> Callable[[object], str] | None:
    """Write `{{ name | filter('x') | … }}` as one function; None for anything else."""
    steps: list[tuple[Callable[..., object], list[Any], dict[str, Any]]] = []
    while isinstance(node, nodes.Filter) and node.node is not None:
        arguments = [*node.args, *(pair.value for pair in node.kwargs)]
        if not all(isinstance(argument, nodes.Const) for argument in arguments):
            return None
        named = {str(pair.key): pair.value.as_const() for pair in node.kwargs}
        positional = [argument.as_const() for argument in node.args]
        steps.insert(0, (FILTERS[node.name], positional, named))
        node = node.node
    if not isinstance(node, nodes.Name):
        return None

    def write(value: object) -> str:
        for function, positional, named in steps:
            value = function(value, *positional, **named)
        return str(value)

    return write


def _compiled(part: nodes.Node, slots: tuple[int, ...]) -> Callable[..., str]:
    """Compile a part of the tree as a Jinja2 template of its own."""
    statement = part if isinstance(part, nodes.Stmt) else nodes.Output([part])
    alone = nodes.Template([statement], lineno=part.lineno)
    alone.set_environment(ENVIRONMENT)
    template = jinja2.Template.from_code(ENVIRONMENT, ENVIRONMENT.compile(alone), {})
    names = [f"v{slot}" for slot in slots]

    def write(*values: object) -> str:
        # Not Template.render: it rewrites the traceback of every missing value, at 100 µs a row.
        context = template.new_context(dict(zip(names, values, strict=True)))
        return "".join(template.root_render_func(context))

    return write


def _combinations(columns: list[pa.Array]) -> tuple[pa.Array, Iterator[tuple[str | None, ...]]]:
    """Return for each row which combination it has, and the distinct combinations of values."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        coded = pc.dictionary_encode(column, null_encoding="encode")
        codes = codes * len(coded.dictionary) + coded.indices.to_numpy()
        codes = pd.factorize(codes)[0]  # dense again, so that many columns cannot overflow
    _, firsts = np.unique(codes, return_index=True)
    chosen = pa.array(firsts)
    return pa.array(codes), zip(*(c.take(chosen).to_pylist() for c in columns), strict=True)


def _normal(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.lower()).strip("_")


_BREAKS = r"[\t\n\x{b}\f\r\x{1c}-\x{1e}\x{85}\x{2028}\x{2029}]+"
# Control characters, and what hides or reorders text: zero-width space, word joiner, BOM,
# embeddings, overrides and isolates. The joiners stay: emoji and Persian names need them.
_REMOVED = r"[\x{0}-\x{1f}\x{7f}-\x{9f}\x{200b}\x{2060}\x{feff}\x{202a}-\x{202e}\x{2066}-\x{2069}]+"


def _column(frame: pd.DataFrame, name: str | None) -> pa.Array:
    """Return a column's cleaned values; blank ones are null."""
    if name is None:
        return pa.nulls(len(frame), pa.large_string())
    if name not in frame:
        raise TemplateError(f'the message needs the column "{name}", and this data has none')
    column = pa.array(frame[name].astype("str"), type=pa.large_string())
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    column = pc.replace_substring_regex(column, _BREAKS, " ")
    column = pc.replace_substring_regex(column, _REMOVED, "")
    column = pc.utf8_trim_whitespace(column)
    return pc.if_else(pc.equal(column, ""), _string(None), column)


def _string(text: str | None) -> pa.Scalar:
    return pa.scalar(text, pa.large_string())
