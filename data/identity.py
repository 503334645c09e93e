"""Keyed identifiers: what a message and a number are called where the number must not be seen.

Keyed with the installation's secret, never a plain hash: telephone numbers are so few that every
plain hash of one can be turned back by trying them all.
"""

import hashlib
from collections.abc import Iterable

from data.settings import settings


def _keyed(purpose: bytes, values: Iterable[str]) -> list[str]:
    base = hashlib.blake2b(digest_size=16, key=settings().key[:64], person=purpose)

    def digest(value: str) -> str:
        state = base.copy()
        state.update(value.encode())
        return state.hexdigest()

    # A keyed hash has no column operation; 1.5 µs a row is what it costs.
    return [digest(value) for value in values]


def number_keys(numbers: Iterable[str]) -> list[str]:
    """Return the 32 hex digits by which the consent ledger knows each E.164 number."""
    return _keyed(b"number", numbers)


def message_ids(run_id: str, kind: str, request_keys: Iterable[str]) -> list[str]:
    """Return the id of each message: the same for the same run, kind and request key."""
    return _keyed(b"message", (f"{run_id}\0{kind}\0{key}" for key in request_keys))
