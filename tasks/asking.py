"""Asking gateways about messages without a clear answer. Does not import Prefect.

Nothing is sent here. What a gateway knows once only by its id waits again to be sent under it.
Statements are in `data.doubts`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from adapters.gateways.base import Gateway, Recovery, Suspect
from data import doubts, runs, switches
from data.database import now, patiently
from data.errors import SmsError
from data.privacy import impersonal
from data.tables import Message
from tasks import routing

ASKED = 1_000
"""Messages in doubt that are asked about at one time."""
MakeGateway = Callable[[str], Gateway]


@impersonal
def resolve_doubts(run_id: str, make_gateway: MakeGateway) -> Counter[str]:
    """Ask the gateways about everything in doubt; return how many were accepted, absent, open.

    `again` are those that wait to be sent again under the same id. What nobody can say stays in
    doubt until a delivery report settles it. Raises what the only gateway of a run raises; of
    several, one that cannot be asked leaves its messages open.
    """
    # Two processes that do this at one time may lock each other out: the database ends one of them.
    patiently(lambda: doubts.strand(run_id))
    tally: Counter[str] = Counter()
    names = doubts.gateways_in_doubt(run_id)
    for name in names:
        try:
            gateway = make_gateway(name)
        except SmsError:
            if len(names) == 1:
                raise
            continue
        tally.update(_resolve(run_id, name, gateway, make_gateway))
    return tally


def _resolve(run_id: str, name: str, gateway: Gateway, make: MakeGateway) -> Counter[str]:
    tally: Counter[str] = Counter()
    after = ""
    while page := doubts.doubted(run_id, name, after, ASKED):
        tally.update(_ask_about(page, gateway))
        after = page[-1].id
        gateway = make(name)
    can = gateway.capabilities
    window = can.resend_window
    if can.recovery is Recovery.RESEND and window and _may_resend(run_id, name):
        again = patiently(lambda: doubts.send_again(run_id, name, window))
        tally.update(again=again, open=-again)
    return tally


def _may_resend(run_id: str, gateway: str) -> bool:
    return runs.get_run(run_id).state == runs.SENDING and gateway not in switches.out(run_id)


def _ask_about(messages: Sequence[Message], gateway: Gateway) -> Counter[str]:
    total, keys = len(messages), {message.number_key for message in messages}
    if gateway.capabilities.recovery is Recovery.BY_NUMBER:
        unclear = doubts.unnamed(messages[0].gateway, keys)
        messages = [message for message in messages if message.number_key not in unclear]
    known = doubts.known_ids(keys)
    suspects = [
        Suspect(
            id=message.id,
            to=message.recipient,
            text=message.text,
            sender=message.sender,
            submitted_after=message.submitted_at or now(),
            lease_until=message.lease_until or now(),
            known=known.get(message.number_key, frozenset()),
            submission=message.submission or "",
        )
        for message in messages
    ]

    async def ask() -> dict[str, tuple[str, str | None]]:
        async with gateway:
            findings = await gateway.recover(suspects)
        return {found.id: (found.outcome, found.gateway_message_id) for found in findings}

    found = asyncio.run(ask())
    accepted = {key: gid for key, (outcome, gid) in found.items() if outcome == "accepted"}
    absent = [key for key, (outcome, _) in found.items() if outcome == "absent"]
    if elsewhere := _perhaps_elsewhere(messages):
        absent = [key for key in absent if key not in elsewhere]
    patiently(lambda: doubts.settle(accepted, absent))
    return Counter(
        accepted=len(accepted), absent=len(absent), open=total - len(accepted) - len(absent)
    )


def _perhaps_elsewhere(messages: Sequence[Message]) -> set[str]:
    """Ids of messages that another gateway of the route may have sent since a restored backup."""
    restored = {message.id for message in messages if message.reason == "restored"}
    if restored and len(routing.route_of(runs.get_run(messages[0].run_id)).gateways) == 1:
        return set()
    return restored
