"""The regular expressions of numbering plans as trees.

Here: the small subset of syntax that telephone metadata uses (digits, classes, groups,
alternatives, counts). Not here: compiling a tree into a table (`phone_automata`).
"""

from dataclasses import dataclass
from typing import TypeAlias

END = 10
"""The symbol after a row's last digit; digits are their own symbols, 0 to 9."""

ANY_DIGIT = (1 << 10) - 1
"""The mask of all digits."""


class UnsupportedPatternError(Exception):
    """The pattern uses syntax that is not compiled here; its rows need another judge."""


@dataclass(frozen=True)
class Symbols:
    """One symbol out of a set, bit n for symbol n."""

    mask: int


@dataclass(frozen=True)
class Series:
    """One part after the other."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Choice:
    """One of the options; the earlier is preferred."""

    options: tuple["Node", ...]


@dataclass(frozen=True)
class Repeat:
    """A part from `low` to `high` times, the more the better; `high` None is without limit."""

    part: "Node"
    low: int
    high: int | None


@dataclass(frozen=True)
class Capture:
    """A part between capturing parentheses."""

    part: "Node"


Node: TypeAlias = Symbols | Series | Choice | Repeat | Capture


class _Reader:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def read(self) -> Node:
        node = self._choice()
        if self.at != len(self.pattern):
            raise self._unsupported()
        return node

    def _unsupported(self) -> UnsupportedPatternError:
        return UnsupportedPatternError(f"character {self.at} of {self.pattern!r}")

    def _take(self, text: str) -> bool:
        found = self.pattern.startswith(text, self.at)
        self.at += len(text) * found
        return found

    def _next(self) -> str:
        if self.at == len(self.pattern):
            raise self._unsupported()
        self.at += 1
        return self.pattern[self.at - 1]

    def _choice(self) -> Node:
        options = [self._series()]
        while self._take("|"):
            options.append(self._series())
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _series(self) -> Node:
        parts = []
        while self.at < len(self.pattern) and self.pattern[self.at] not in "|)":
            parts.append(self._repeated())
        return parts[0] if len(parts) == 1 else Series(tuple(parts))

    def _repeated(self) -> Node:
        node = self._atom()
        if self._take("?"):
            node = Repeat(node, 0, 1)
        elif self._take("*"):
            node = Repeat(node, 0, None)
        elif self._take("{"):
            low = self._integer()
            high = self._integer() if self._take(",") else low
            if not self._take("}") or high < low:
                raise self._unsupported()
            node = Repeat(node, low, high)
        if self.pattern[self.at : self.at + 1] in {"?", "*", "+", "{"}:
            raise self._unsupported()
        return node

    def _integer(self) -> int:
        begin = self.at
        while self.pattern[self.at : self.at + 1].isdigit():
            self.at += 1
        if begin == self.at:
            raise self._unsupported()
        return int(self.pattern[begin : self.at])

    def _atom(self) -> Node:
        if self._take("(?:"):
            return self._closed(self._choice())
        if self.pattern.startswith("(?", self.at):
            raise self._unsupported()
        if self._take("("):
            return Capture(self._closed(self._choice()))
        if self._take("["):
            return self._symbol_class()
        if self._take("$"):
            return Symbols(1 << END)
        return Symbols(self._digit_mask())

    def _closed(self, node: Node) -> Node:
        if not self._take(")"):
            raise self._unsupported()
        return node

    def _digit_mask(self) -> int:
        if self._take(r"\d"):
            return ANY_DIGIT
        character = self._next()
        if character not in "0123456789":
            raise self._unsupported()
        return 1 << int(character)

    def _symbol_class(self) -> Node:
        mask = 0
        while not self._take("]"):
            low = self._digit_mask()
            if self._take("-"):
                high = self._digit_mask()
                if ANY_DIGIT in (low, high) or high < low:
                    raise self._unsupported()
                mask |= (high << 1) - low
            else:
                mask |= low
        return Symbols(mask)


def read_pattern(pattern: str) -> Node:
    """Return the pattern as a tree; raises `UnsupportedPatternError` for syntax not known here."""
    return _Reader(pattern).read()


def shortest(node: Node) -> int:
    """The fewest digits that the tree can match."""
    match node:
        case Symbols(mask):
            return int(mask != 1 << END)
        case Series(parts):
            return sum(map(shortest, parts))
        case Choice(options):
            return min(map(shortest, options))
        case Repeat(part, low, _):
            return low * shortest(part)
        case Capture(part):
            return shortest(part)


def last_capture(node: Node) -> Node | None:
    """The last capturing group of the tree, in the order of opening parentheses."""
    match node:
        case Symbols():
            return None
        case Series(parts) | Choice(parts):
            found = [group for group in map(last_capture, parts) if group is not None]
            return found[-1] if found else None
        case Repeat(part, _, _):
            return last_capture(part)
        case Capture(part):
            return last_capture(part) or node
