"""Finding messages in doubt again in a gateway's list, by number, text and time.

For every gateway with `Recovery.BY_NUMBER`. How its list is asked for is in the adapter's file.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from adapters.gateways.base import Finding, Suspect

CLOCK_SKEW = timedelta(minutes=2)
"""How far the gateway's clock and ours may be apart."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A message as the gateway lists it."""

    gateway_message_id: str
    to: str
    sender: str
    text: str
    created_at: datetime


def lanes(suspects: Iterable[Suspect]) -> dict[tuple[str, str], datetime]:
    """Return each recipient and sender to ask the list for, and the instant from which on."""
    since: dict[tuple[str, str], datetime] = {}
    for suspect in suspects:
        lane, start = (suspect.to, suspect.sender), suspect.submitted_after - CLOCK_SKEW
        since[lane] = min(start, since.get(lane, start))
    return since


def match(
    suspects: Sequence[Suspect], listed: Iterable[Listed], request_timeout: float
) -> list[Finding]:
    """Give each suspect the id of a listed message, and each id to one suspect at most.

    A pair has the same number, sender (where the suspect names one) and text, and was created
    while the suspect may have been submitted.
    Suspects without one are left out: what is not listed may be listed later.
    """
    tail = CLOCK_SKEW + timedelta(seconds=request_timeout)
    open_entries: dict[tuple[str, str], list[Listed]] = {}
    once = {entry.gateway_message_id: entry for entry in listed}
    for entry in sorted(once.values(), key=lambda entry: entry.created_at):
        open_entries.setdefault((entry.to, entry.text), []).append(entry)
    findings = []
    # The one that ends first chooses first, and takes the earliest that fits: so most find one.
    for suspect in sorted(suspects, key=lambda suspect: suspect.lease_until):
        entries = open_entries.get((suspect.to, suspect.text), [])
        earliest, latest = suspect.submitted_after - CLOCK_SKEW, suspect.lease_until + tail
        for entry in entries:
            same_sender = suspect.sender in {"", entry.sender}
            free = entry.gateway_message_id not in suspect.known
            if free and same_sender and earliest <= entry.created_at <= latest:
                entries.remove(entry)
                findings.append(Finding(suspect.id, "accepted", entry.gateway_message_id))
                break
    return findings
