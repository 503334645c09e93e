"""How much those may take who have proven nothing: refused requests, and lines in the log.

Not here: limits on one connection (`protocol`), and back-pressure (`inbox`).
"""

import ipaddress
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from time import monotonic

BURST = 30
"""Refused requests that an address may make at once."""
RATE = 1.0
"""Refused requests a second that it may go on with."""

_ADDRESSES = 10_000  # of each kind that are remembered; the oldest are forgotten
_LINES = 5  # of one kind in a minute
_KINDS = 1_000
_MINUTE = 60.0


class Refusals:
    """Counts refused requests by the caller's address, and says who has had too many.

    An address from which a signed callback has come is never limited again, until the process
    ends: signatures are checked, and that is all that refusing saves. So is a reverse proxy that
    does not tell who calls it, as soon as one callback has come through it. A proxy does tell in
    `X-Forwarded-For`, which is believed from this machine and from the addresses in uvicorn's
    variable FORWARDED_ALLOW_IPS; have the proxy add to that header or replace it, never pass it on.

    Memory is bounded: of 10,000 addresses each, a forgotten one begins anew.
    """

    def __init__(self) -> None:
        # When the allowance of an address will be whole again: all there is to know of it.
        self._whole_at: dict[str, float] = {}
        self._signed: dict[str, None] = {}

    def wait(self, address: str) -> float:
        """Return for how many seconds an address is refused unheard; 0: it is heard."""
        address = network(address)
        whole_at = self._whole_at.get(address)
        if whole_at is None or address in self._signed:
            return 0
        return max(whole_at - monotonic() - (BURST - 1) / RATE, 0)

    def count(self, address: str) -> None:
        """Count one refused request."""
        address = network(address)
        before = self._whole_at.pop(address, 0)
        # Taken out and put in again, it is the newest.
        self._whole_at[address] = max(before, monotonic()) + 1 / RATE
        _forget(self._whole_at)

    def trust(self, address: str) -> None:
        """Note that a signed callback came from there."""
        address = network(address)
        if address not in self._signed:
            self._signed[address] = None
            _forget(self._signed)


def _forget(table: dict[str, float] | dict[str, None]) -> None:
    if len(table) > _ADDRESSES:
        del table[next(iter(table))]


@lru_cache(_ADDRESSES)
def network(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or 64 bits of an IPv6 address.

    Whoever has one IPv6 address has the rest of its /64.
    """
    try:
        read = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(read, ipaddress.IPv6Address):
        if read.ipv4_mapped is not None:
            return str(read.ipv4_mapped)
        return str(ipaddress.IPv6Network((int(read) >> 64 << 64, 64)))
    return address


@dataclass(slots=True)
class _Minute:
    since: float
    count: int = 0


class Sparing(logging.Filter):
    """Lets a message through five times a minute, and says next time how many it kept back.

    Messages are of one kind whose text before formatting is the same.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, _Minute] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide on a record; add the number of those kept back to its text."""
        at, kind = monotonic(), str(record.msg)
        minute = self._seen.get(kind)
        if minute is None or at - minute.since >= _MINUTE:
            kept = 0 if minute is None else minute.count - _LINES
            if kept > 0:
                record.msg = f"{record.getMessage()} (and {kept} more like it)"
                record.args = None
            if len(self._seen) >= _KINDS:
                self._seen.clear()
            minute = self._seen[kind] = _Minute(at)
        minute.count += 1
        return minute.count <= _LINES


@contextmanager
def sparing_logs() -> Iterator[None]:
    """Keep what this process logs from filling the disk, whoever provokes it."""
    handlers = logging.getLogger().handlers or filter(None, [logging.lastResort])
    filtered = [(handler, Sparing()) for handler in handlers]
    for handler, sparing in filtered:
        handler.addFilter(sparing)
    try:
        yield
    finally:
        for handler, sparing in filtered:
            handler.removeFilter(sparing)
