"""Whether a gateway still does its work for a run, by what it has answered lately.

In memory of this process only: a look at it must cost nothing. Not here: what an answer means for
its message (`settling`), and who stands in (`routing`).
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

from adapters.gateways.base import UNREACHABLE, Answer, ErrorClass
from tasks.settling import NOT_STARTED

MESSAGES, REQUESTS = 100, 6
"""A gateway is judged by its last requests: those with so many messages, but at least so many."""
LEAST_MESSAGES, LEAST_FAILURES = 20, 3
"""Messages answered for, and requests failed, that are needed to judge it."""
FAILING = 0.5
"""Share of requests, without a connection or without a clear answer, from which on it fails."""
SWITCH_SECONDS = 30.0
"""How long a gateway may be unreachable, with nothing accepted, before another stands in."""
GIVE_UP_SECONDS = 300.0
"""The same, before the run is paused where there is no other."""
CONTENT_STOP = 20
"""So many refusals of the text or sender, with nothing accepted, stop the run: all would fail."""
REFUSED_STOP = 100
"""So many refusals of whatever kind, with nothing accepted, stop it, too: some setting is wrong."""


@dataclass(frozen=True)
class Trouble:
    """What is wrong with a gateway, and what to do about it."""

    what: str
    """After the gateway's name: `cannot be reached`."""
    answer: Answer
    switches: bool = False
    """Whether another gateway should go on, where there is one."""
    stops: bool = False
    """Whether the run pauses otherwise."""


@dataclass
class _Health:
    """What a gateway has answered for one run."""

    recent: deque[tuple[Answer | None, int]] = field(default_factory=deque)
    """A failure of each request, if it failed, and its number of messages."""
    accepted: int = 0
    refused: int = 0
    content: int = 0
    progress_at: float = field(default_factory=time.monotonic)


_healths: dict[tuple[str, str], _Health] = {}
_lock = Lock()


def judge(run_id: str, gateway: str, requests: Sequence[Sequence[Answer]]) -> Trouble | None:
    """Take what a gateway answered to requests into account; return what is wrong with it, if so.

    `requests` are the answers to each, those of which no request was made left out.
    """
    made = [request for request in map(_made, requests) if request]
    answers = [answer for request in made for answer in request]
    with _lock:
        health = _healths.setdefault((run_id, gateway), _Health())
        _count(health, made, answers)
        failure = _failure(health)
        if failure is not None:
            health.recent.clear()
        accepted_now = any(answer.outcome == "accepted" for answer in answers)
        return _trouble(health, answers, failure, accepted_now=accepted_now)


def forget(run_id: str) -> None:
    """Judge the gateways of a run anew: somebody has mended what was wrong."""
    with _lock:
        for key in [key for key in _healths if key[0] == run_id]:
            del _healths[key]


def _made(request: Sequence[Answer]) -> list[Answer]:
    return [answer for answer in request if answer.error_code != NOT_STARTED]


def _count(health: _Health, made: list[list[Answer]], answers: list[Answer]) -> None:
    for request in made:
        failures = [answer for answer in request if _failed(answer)]
        failed = failures[0] if 2 * len(failures) >= len(request) else None
        health.recent.append((failed, len(request)))
    while len(health.recent) > REQUESTS and (
        sum(size for _, size in health.recent) - health.recent[0][1] >= MESSAGES
    ):
        health.recent.popleft()
    accepted = sum(answer.outcome == "accepted" for answer in answers)
    if accepted:
        health.progress_at = time.monotonic()
    health.accepted += accepted
    final = [a.error_class for a in answers if a.error_class not in (None, ErrorClass.RETRY)]
    health.refused += len(final)
    health.content += final.count(ErrorClass.CONTENT)


def _failed(answer: Answer) -> bool:
    return answer.outcome == "unknown" or answer.error_code == UNREACHABLE


def _failure(health: _Health) -> Answer | None:
    """Return a failure of the kind that is most frequent, where the gateway fails too often."""
    failures = [failed for failed, _ in health.recent if failed is not None]
    if len(failures) < max(LEAST_FAILURES, FAILING * len(health.recent)):
        return None
    if sum(size for _, size in health.recent) < LEAST_MESSAGES:
        return None
    unclear = [answer for answer in failures if answer.outcome == "unknown"]
    return unclear[-1] if 2 * len(unclear) >= len(failures) else failures[-1]


def _trouble(
    health: _Health, answers: list[Answer], failure: Answer | None, *, accepted_now: bool
) -> Trouble | None:
    account = [a for a in answers if a.error_class is ErrorClass.ACCOUNT]
    if account and not accepted_now:
        return Trouble("cannot send from this account", account[0], switches=True, stops=True)
    if failure is not None and failure.outcome == "unknown":
        what = "gives no clear answers, and more messages would be in doubt"
        return Trouble(what, failure, switches=True, stops=True)
    unreachable = failure or next((a for a in answers if a.error_code == UNREACHABLE), None)
    idle = time.monotonic() - health.progress_at
    if unreachable is not None and not accepted_now:
        switches, stops = bool(failure) or idle > SWITCH_SECONDS, idle > GIVE_UP_SECONDS
        if switches or stops:
            return Trouble("cannot be reached", unreachable, switches=switches, stops=stops)
    return None if health.accepted else _nothing_taken(health, answers)


def _nothing_taken(health: _Health, answers: list[Answer]) -> Trouble | None:
    """What is to be said of a gateway that has refused everything so far."""
    refused = [a for a in answers if a.outcome == "refused" and not _failed(a)]
    content = [a for a in refused if a.error_class is ErrorClass.CONTENT]
    if content and health.content >= CONTENT_STOP and 2 * health.content >= health.refused:
        return Trouble("refuses this text or sender for everybody", content[0], stops=True)
    if refused and health.refused >= REFUSED_STOP:
        return Trouble("refuses everybody", refused[-1], stops=True)
    return None
