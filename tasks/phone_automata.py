"""Regular expressions as automata that step through a whole column of numbers at once.

Here: the compiler from trees to tables, the bank that holds the tables, and the walks over digit
cells. Not here: the syntax (`phone_patterns`) and what the patterns mean (`phone_plans`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from tasks.phone_patterns import (
    END,
    Capture,
    Choice,
    Node,
    Repeat,
    Series,
    Symbols,
    UnsupportedPatternError,
    read_pattern,
)

Cells: TypeAlias = npt.NDArray[np.uint8]
Ints: TypeAlias = npt.NDArray[np.int64]

_SYMBOLS = 11
_STRIDE = 16
_SHIFT = 4
_ACCEPT = -1
# The largest plan of today has a few thousand states; a pattern that explodes is left uncompiled.
_MOST_STATES = 100_000

Items: TypeAlias = tuple[int, ...]
State = TypeVar("State", frozenset[int], tuple[int, ...])


class _Graph:
    """Positions of patterns and what may follow each, the preferred first.

    Items are positions from 0, or `~tag` for a match. Equal tails share their positions, which
    keeps the automata small.
    """

    def __init__(self) -> None:
        self.masks: list[int] = []
        self.follow: list[Items] = []
        self._known: dict[tuple[int, Items], int] = {}

    def link(self, node: Node, after: Items) -> Items:
        match node:
            case Symbols(mask):
                return (self._position(mask, after),)
            case Series(parts):
                for part in reversed(parts):
                    after = self.link(part, after)
                return after
            case Choice(options):
                return _unique(item for option in options for item in self.link(option, after))
            case Capture(part):
                return self.link(part, after)
            case Repeat(Symbols(mask), 0, None):
                loop = len(self.masks)
                self.masks.append(mask)
                self.follow.append((loop, *after))
                return (loop, *after)
            case Repeat(part, low, int(high)):
                items = after
                for _ in range(high - low):
                    items = _unique((*self.link(part, items), *after))
                for _ in range(low):
                    items = self.link(part, items)
                return items
        raise UnsupportedPatternError("an unlimited repetition of more than one symbol")

    def _position(self, mask: int, after: Items) -> int:
        position = self._known.setdefault((mask, after), len(self.masks))
        if position == len(self.masks):
            self.masks.append(mask)
            self.follow.append(after)
        return position

    def step(self, items: Iterable[int], symbols: int) -> list[list[int]]:
        """For each symbol, the items that follow, in order and with repetitions."""
        reached: list[list[int]] = [[] for _ in range(symbols)]
        for item in items:
            if item >= 0:
                mask = self.masks[item]
                for symbol in range(symbols):
                    if mask >> symbol & 1:
                        reached[symbol].extend(self.follow[item])
        return reached


def _unique(items: Iterable[int]) -> Items:
    return tuple(dict.fromkeys(items))


@dataclass(frozen=True)
class Automaton:
    """Compiled table: `moves[state][symbol]` is a state or -1, `accept[state]` what it means."""

    moves: list[list[int]]
    accept: list[int]


def whole_automaton(
    patterns: Iterable[tuple[str, int]], meaning: Callable[[frozenset[int]], int]
) -> Automaton:
    """Compile tagged patterns into one automaton that matches them all, whole, at once.

    `meaning` turns the set of tags that match into the number the walk returns. After the end of
    the digits the state stays where it is.
    """
    graph = _Graph()
    root = frozenset(
        item for pattern, tag in patterns for item in graph.link(read_pattern(pattern), (~tag,))
    )
    states, moves = _subsets(graph, root, frozenset, END)
    accept = [meaning(frozenset(~item for item in state if item < 0)) for state in states]
    return Automaton([[*row, state] for state, row in enumerate(moves)], accept)


def prefix_automaton(pattern: str) -> Automaton:
    """Compile a pattern into an automaton for the start of the digits, as `re.match` finds it.

    Alternatives keep their order: a state is a list of what may go on, cut after an accepting
    item, because whatever comes later would lose against the match already found.
    """
    graph = _Graph()
    root = _cut(graph.link(read_pattern(pattern), (_ACCEPT,)))
    states, moves = _subsets(graph, root, _cut, _SYMBOLS)
    moves = [[place if states[place] else -1 for place in row] for row in moves]
    return Automaton(moves, [int(_ACCEPT in state) for state in states])


def _subsets(
    graph: _Graph, root: State, reduced: Callable[[list[int]], State], symbols: int
) -> tuple[list[State], list[list[int]]]:
    """All states that can be reached from the root, and for each where the symbols lead."""
    number = {root: 0}
    states = [root]
    moves: list[list[int]] = []
    for state in states:
        moves.append([])
        for items in graph.step(state, symbols):
            reached = reduced(items)
            moves[-1].append(number.setdefault(reached, len(states)))
            if moves[-1][-1] == len(states):
                states.append(reached)
        if len(states) > _MOST_STATES:
            raise UnsupportedPatternError("too many states")
    return states, moves


def _cut(items: Iterable[int]) -> Items:
    unique = _unique(items)
    return unique[: unique.index(_ACCEPT) + 1] if _ACCEPT in unique else unique


def longest_key_automaton(keys: Mapping[str, int]) -> Automaton:
    """Compile digit strings into an automaton that returns the value of the longest that fits.

    Without any that fits it returns 0.
    """
    places = {"", *(key[:length] for key in keys for length in range(1, len(key) + 1))}
    order = sorted(places, key=lambda place: (len(place), place))
    number = {place: index for index, place in enumerate(order)}
    accept: list[int] = []
    for place in order:
        inherited = accept[number[place[:-1]]] if place else 0
        accept.append(keys.get(place, inherited))
    resting: dict[int, int] = {}
    for value in accept:
        resting.setdefault(value, len(order) + len(resting))
    moves = [
        [*(number.get(place + str(digit), resting[value]) for digit in range(10)), index]
        for index, (place, value) in enumerate(zip(order, accept, strict=True))
    ]
    moves += [[rest] * _SYMBOLS for rest in resting.values()]
    return Automaton(moves, [*accept, *resting])


class Bank:
    """All compiled automata in one table, so that rows of any plan step together.

    State 0 is dead. `moves` is flat, 16 entries a state, and holds states already times 16: the
    next state is `moves[state + symbol]`.
    """

    def __init__(self, automata: list[Automaton]) -> None:
        self.roots: list[int] = []
        moves, accept = [np.zeros((1, _STRIDE), np.int64)], [0]
        for automaton in automata:
            base = len(accept)
            local = np.array(automaton.moves, np.int64)
            table = np.zeros((len(local), _STRIDE), np.int64)
            table[:, :_SYMBOLS] = np.where(local < 0, 0, local + base) << _SHIFT
            moves.append(table)
            accept += automaton.accept
            self.roots.append(base << _SHIFT)
        self.moves: Ints = np.concatenate(moves).ravel()
        self.accept: Ints = np.array(accept, np.int64)

    def start(self, root: int, digits: str) -> int:
        """The state that the digits lead to from the root."""
        for digit in digits:
            root = int(self.moves[root + int(digit)])
        return root

    def walk(self, columns: Iterable[Cells], root: Ints) -> Ints:
        """Step every row through its column of symbols each; returns what the last states mean."""
        moves = self.moves
        state = root
        for symbols in columns:
            state = moves.take(state + symbols)
        return self.accept.take(state >> _SHIFT)

    def match_whole(self, cells: Cells, begin: Ints, end: Ints, root: Ints) -> Ints:
        """Walk each row's cells from `begin` to `end`; `cells[end]` must be END in every row."""
        steps = int((end - begin).max(initial=0))
        columns = (cells.take(np.minimum(begin + step, end)) for step in range(steps))
        return self.walk(columns, root)

    def match_prefix(self, cells: Cells, begin: Ints, root: Ints) -> Ints:
        """The number of digits from `begin` that each row's prefix matches, -1 without a match."""
        found = np.where(self.accept.take(root >> _SHIFT) > 0, 0, -1)
        rows = np.flatnonzero(root)
        state, cursor = root[rows], begin[rows]
        while rows.size:
            symbols = cells.take(cursor)
            state = self.moves.take(state + symbols)
            cursor = cursor + (symbols != END)
            hit = self.accept.take(state >> _SHIFT) > 0
            found[rows[hit]] = (cursor - begin[rows])[hit]
            alive = np.flatnonzero((state != 0) & (symbols != END))
            rows, state, cursor = rows[alive], state[alive], cursor[alive]
        return found
