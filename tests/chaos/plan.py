"""The plan of a trial: its size and its faults, all from the seed and the trial's number.

A pure function, so that a trial can be run again. Not here: running it (`bare.py`, `stack.py`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from tests.chaos.faults import BARE, POSTGRESQL, SQLITE, Fault, Kind


@dataclass(frozen=True, slots=True)
class Plan:
    """One trial before it runs."""

    seed: int
    number: int
    database: str
    messages: int
    batch: int
    """Messages in a batch; a window is at most that."""
    rate: float
    """Messages a second."""
    senders: int
    """Processes that send side by side from the start."""
    in_flight: int
    """Batches at one time in one process."""
    proves_absence: bool
    """Whether the gateway can be asked by reference and proves absence after the lease."""
    silent: bool
    """Whether the gateway answers no look-up: doubt is then settled by reports alone."""
    reconciles: bool
    """Whether a reconciling process runs beside."""
    faults: tuple[Fault, ...]
    mutation: str = ""
    """What is taken out of the product, to test the harness (`mutations.py`)."""

    @property
    def window(self) -> float:
        """Seconds in which a claimed window leaves."""
        return self.batch / self.rate

    def has(self, kind: str) -> bool:
        """Whether a fault of this kind is in it."""
        return any(fault.kind == kind for fault in self.faults)


@dataclass(frozen=True, slots=True)
class Size:
    """How large the trials of a kind are."""

    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    """In turn."""
    messages: tuple[int, int] = (40, 150)
    span: tuple[float, float] = (0.5, 1.0)
    """Seconds that sending takes undisturbed."""
    faults: tuple[int, ...] = (1, 2, 3)
    """Of so many trials one has so many, another so many."""


def draw(seed: int, number: int, menu: Sequence[Kind] = BARE, size: Size = Size()) -> Plan:
    """Draw the trial of this number. Where there are two databases, they take turns."""
    chance = Random(f"{seed}:{number}")
    database = size.databases[(number - 1) % len(size.databases)]
    messages = chance.randrange(size.messages[0], size.messages[1] + 1)
    span = chance.uniform(*size.span)
    kinds = _compatible(_dealt(seed, number, database, menu, size))
    return Plan(
        seed,
        number,
        database,
        messages=messages,
        batch=chance.randrange(8, 31),
        rate=messages / span,
        senders=chance.choice((1, 1, 2, 3)),
        in_flight=chance.choice((1, 2, 3)),
        proves_absence=chance.random() < 0.25 and not any(kind.leases_fail for kind in kinds),
        silent=chance.random() < 0.35,
        reconciles=chance.random() < 0.3,
        faults=tuple(sorted((kind.fault(chance, span) for kind in kinds), key=lambda f: f.at)),
    )


def _dealt(seed: int, number: int, database: str, menu: Sequence[Kind], size: Size) -> list[Kind]:
    """Deal a few kinds as from a pack of cards, so that each comes up equally often."""
    place = (number - 1) // len(size.databases)
    # With the bare, of three trials on a database one has one fault, one two and one three.
    of = len(size.faults)
    counts = Random(f"{seed}:{place // of}").sample(size.faults, of)
    first = sum(counts) * (place // of) + sum(counts[: place % of])
    pack = [kind for kind in menu if database in kind.databases]

    def card(position: int) -> Kind:
        shuffled = list(pack)
        Random(f"{seed}:{position // len(pack)}").shuffle(shuffled)
        # From the other end: a short run then meets nearly every kind on one of the two.
        return shuffled[:: -1 if database == SQLITE else 1][position % len(pack)]

    cards = (card(position) for position in itertools.count(first))
    return list({kind.name: kind for kind in itertools.islice(cards, counts[place % of])}.values())


def _compatible(kinds: Sequence[Kind]) -> list[Kind]:
    """Leave out what contradicts an earlier one."""
    kept: list[Kind] = []
    for kind in kinds:
        if not (kind.ends_the_run and any(other.ends_the_run for other in kept)):
            kept.append(kind)
    return kept
