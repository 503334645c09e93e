"""Many messages in one request, and what is done when one of them has it refused as a whole.

Not here: what a reply says of each message (the adapters'), and requests for one message (`http`).
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime

from adapters.gateways.base import Answer, ErrorClass, Outgoing
from adapters.gateways.http import (
    NoAnswerError,
    NoTimeError,
    NotSentError,
    Reply,
    in_doubt,
    unreachable,
    unreadable_is_unknown,
)

REFUSED_TOGETHER = "refused_together"
"""Error code of a message that was refused along with others only, so nobody knows why."""
LEAST_REST = 0.5
"""Seconds that must be left for a request."""
ALONE_STOP = 20
"""So many messages refused one by one, with nothing accepted, tell of a setting that is wrong: the
others are not to be refused for it, too."""

_OF_ONE_MESSAGE = {ErrorClass.RECIPIENT, ErrorClass.OPTOUT, ErrorClass.CONTENT}


async def submit_group(
    messages: Sequence[Outgoing],
    send: Callable[[Sequence[Outgoing], float], Awaitable[Reply]],
    read: Callable[[Sequence[Outgoing], Reply], list[Answer]],
    within: float,
) -> list[Answer]:
    """Submit messages in one request, as far as the gateway lets us; one answer for each.

    A request that was refused as a whole (not with 2xx) for one of its messages is made again in
    halves, one after the other, until that message stands alone: nothing of it had been accepted.
    `send` gets messages and the instant (monotonic) at which it must end. All requests together
    end `within` the seconds of one, because the sender's lease has room for no more. Halves are not
    begun when less is left than the slowest request took, nor after `ALONE_STOP`.

    What no answer was found for by then is answered `refused` with RETRY and `REFUSED_TOGETHER`.
    None of it was accepted: each request that it was in was refused as a whole, or not made.
    """
    until = time.monotonic() + within
    waiting: list[Sequence[Outgoing]] = [messages] if messages else []
    answers: list[Answer] = []
    slowest, alone, accepted = 0.0, 0, False
    while waiting:
        part = waiting.pop()
        began = time.monotonic()
        if part is not messages:
            part, late = _by_deadline(part)
            answers += [_left_over(message, 1) for message in late]
            no_time = until - began < max(LEAST_REST, slowest)
            if no_time or (alone >= ALONE_STOP and not accepted):
                waiting.append(part)
                break
        try:
            said, refused_whole = await _request(part, send, read, until) if part else ([], False)
        except NoTimeError:
            waiting.append(part)
            break
        slowest = max(slowest, time.monotonic() - began)
        if refused_whole and len(part) > 1:
            middle = len(part) // 2
            waiting += [part[middle:], part[:middle]]
            continue
        answers += said
        alone += refused_whole
        accepted = accepted or any(answer.outcome == "accepted" for answer in said)
    # Each part a second later than the one before, and what was refused in the smallest company
    # last: they come back in windows of their own, and one message does not hold up the others.
    for wait, part in enumerate(waiting, 1):
        answers += [_left_over(message, wait) for message in part]
    return answers


async def _request(
    part: Sequence[Outgoing],
    send: Callable[[Sequence[Outgoing], float], Awaitable[Reply]],
    read: Callable[[Sequence[Outgoing], Reply], list[Answer]],
    until: float,
) -> tuple[list[Answer], bool]:
    """Make one request; return its answers, and whether it was refused whole for one message."""
    try:
        reply = await send(part, until)
    except NotSentError as error:
        return [unreachable(message.id, error) for message in part], False
    except NoAnswerError as error:
        return [in_doubt(message.id, str(error)) for message in part], False
    answers = unreadable_is_unknown([m.id for m in part], reply, lambda: read(part, reply))
    of_one = all(answer.error_class in _OF_ONE_MESSAGE for answer in answers)
    return answers, of_one and not 200 <= reply.status < 300


def _by_deadline(
    messages: Sequence[Outgoing],
) -> tuple[Sequence[Outgoing], Sequence[Outgoing]]:
    """Part messages into those that may still leave and those that may not."""
    now = datetime.now(UTC)
    going = [m for m in messages if m.deadline is None or m.deadline > now]
    return going, [m for m in messages if m not in going]


def _left_over(message: Outgoing, wait: float) -> Answer:
    return Answer(
        message.id,
        "refused",
        error_class=ErrorClass.RETRY,
        error_code=REFUSED_TOGETHER,
        error_text="refused along with others; which of them it was for is not known yet",
        retry_after=wait,
    )
