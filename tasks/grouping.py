"""Which claimed messages go out in one request: by what the gateway can do, never by its name.

Not here: how many are claimed (`sending`), and what a request looks like (the adapter).
"""

from collections.abc import Hashable, Sequence

from adapters.gateways.base import Capabilities, Outgoing


def groups(messages: Sequence[Outgoing], can: Capabilities) -> list[list[Outgoing]]:
    """Part messages into requests, in their order; each holds `can.max_batch` at most.

    What they must have in common is said at `Capabilities.batch`. A number is in one request only
    once, since many gateways tell the messages of a request apart by it.
    """
    made: list[list[Outgoing]] = []
    filling: dict[Hashable, tuple[list[Outgoing], set[str]]] = {}
    for message in messages:
        group, numbers = filling.get(alike := _alike(message, can), ([], set[str]()))
        if not group or len(group) >= can.max_batch or message.to in numbers:
            group, numbers = filling[alike] = ([], set())
            made.append(group)
        group.append(message)
        numbers.add(message.to)
    return made


def _alike(message: Outgoing, can: Capabilities) -> Hashable:
    """What the messages of one request have in common."""
    match can.batch:
        case "same_text":
            return message.text, message.sender, message.encoding, message.deadline
        case "variables":
            return message.sender, message.deadline
        case "distinct":
            return None
        case _:
            return message.id
