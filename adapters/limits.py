"""The rate of a lane as people set it: a global concurrency limit in Prefect. A Prefect module.

Prefect only keeps the number, because its UI can change it at any time. Its own rate limiting is
not used: a slot at a time it reaches a tenth of the rate. The reservation is in `data.pace`.
"""

import re
from math import ceil

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound

_BANNED = re.compile(r"[/%&<>]")


def limit_name(gateway: str, sender: str) -> str:
    """Name the concurrency limit of a gateway and sender."""
    return _BANNED.sub("_", f"sms {gateway} {sender}".strip())


def rate_in_force(gateway: str, sender: str, first: float) -> float:
    """Return how many messages (or segments) a second may leave; makes the limit with `first`.

    It is the limit, or the limit's slot decay per second where that is lower and not 0 (limits are
    whole numbers, rates need not be). A limit of 0 holds the lane. An inactive one leaves `first`.
    """
    name = limit_name(gateway, sender)
    with get_client(sync_client=True) as client:
        try:
            found = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            whole = ceil(first)
            new = GlobalConcurrencyLimitCreate(
                name=name,
                limit=whole,
                slot_decay_per_second=0 if first == whole else first,
            )
            try:
                client.create_global_concurrency_limit(new)
            except ObjectAlreadyExists:
                found = client.read_global_concurrency_limit_by_name(name)
            else:
                return first
    if not found.active:
        return first
    decay = found.slot_decay_per_second
    return min(float(found.limit), decay) if decay else float(found.limit)
