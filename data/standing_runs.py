"""Runs that stay open for a day, for messages that come one by one: answers to replies.

Here: opening the run of a purpose and day, adding to it, ending what is late, closing it. Not
here: what is said (tasks.answering), and sending it (tasks.responding, by the ledger's claims).
"""

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime, timedelta
from itertools import count
from typing import Any
from zlib import crc32

from sqlalchemy import Connection, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import col

from data import runs
from data.database import clock, is_sqlite, now, reading, writing
from data.deferral import end_resending
from data.identity import message_ids
from data.ledger import DEFERRED, IN_DOUBT, QUEUED, SENDING
from data.recheck import LEAVES_WITHIN
from data.tables import CampaignRun, Message

CONFIRMATIONS = "optout_confirmation"
ANSWERS = "transactional"
KIND = "confirmation"

_KEYS = {CONFIRMATIONS: "confirmations", ANSWERS: "answers"}
_NAMES = {CONFIRMATIONS: "Confirmations of opt-outs", ANSWERS: "Answers to replies"}
_LATE = {
    CONFIRMATIONS: {"reason": "confirmation_too_late", "rule": "confirmation"},
    ANSWERS: {"reason": "deadline", "rule": "deadline"},
}
_OPEN = (runs.SENDING, runs.PAUSED)
_BATCHES = 2**15
_LONGEST = 1600

_RUNS = CampaignRun.__table__  # type: ignore[attr-defined]
_STANDS = _RUNS.c.parameters["standing"].as_boolean()


@dataclass(frozen=True, slots=True)
class ToSend:
    """One message for a standing run."""

    request_key: str
    """What it answers. There is never a second message of the same key, on whatever day."""
    recipient: str
    number_key: str
    country: str | None
    text: str
    encoding: str
    segments: int
    sender: str
    gateway: str
    closes_at: datetime
    """It is not sent after that."""


@dataclass(frozen=True, slots=True)
class Open:
    """A standing run that has not ended, and what of it is not settled."""

    id: str
    state: str
    note: str
    day: date
    queued: int
    """Waits to be sent, `late` included."""
    late: int
    unclear: int
    """Being sent, or in doubt."""


def is_standing(run: CampaignRun) -> bool:
    """Whether a run is one of these: the receiver sends it, and no campaign flow may take it."""
    return run.parameters.get("standing") is True


def add(
    connection: Connection, purpose: str, day: date, messages: Sequence[ToSend]
) -> dict[str, str]:
    """Queue messages in the run of a purpose and day, each request once; return what is new.

    That is the id of each message by its request key. In the caller's transaction: what is asked
    for in one that is rolled back was never asked for.
    """
    if not messages:
        return {}
    run = _run_of(connection, purpose, day)
    # Ids without the run: a request that comes again after midnight is the same.
    keys = [message.request_key for message in messages]
    ids = dict(zip(keys, message_ids(f"standing {purpose}", KIND, keys), strict=True))
    stored = select(col(Message.id)).where(col(Message.id).in_(ids.values()))
    known = set(connection.execute(stored).scalars())
    new: dict[str, ToSend] = {}
    for message in messages:
        if ids[message.request_key] not in known:
            new.setdefault(message.request_key, message)
    if new:
        _store(connection, run, [(ids[key], message) for key, message in new.items()])
    return {key: ids[key] for key in new}


def _store(connection: Connection, run: Any, new: Sequence[tuple[str, ToSend]]) -> None:
    connection.execute(
        insert(Message),
        [
            {
                **asdict(message),
                "id": key,
                "run_id": run.id,
                "kind": KIND,
                "row": row,
                # A batch has one sender at a time: a gateway that is slow holds up no other.
                "batch": crc32(message.gateway.encode()) % _BATCHES,
                "state": QUEUED,
                "consent_ends_at": message.closes_at,
            }
            for row, (key, message) in enumerate(new, run.records_read + 1)
        ],
    )
    connection.execute(
        update(_RUNS)
        .where(_RUNS.c.id == run.id)
        .values(
            records_read=run.records_read + len(new),
            route=_route(run.route, {m.gateway: m.sender for _, m in new}),
        )
    )


def _route(known: dict[str, Any], senders: dict[str, str]) -> dict[str, Any]:
    """A route in which nobody stands in: an answer comes from where the person wrote to.

    As `tasks.routing` stores it. It names the lane that each gateway sends by.
    """
    senders = senders | known.get("senders", {})
    legs = [{"countries": [], "shares": {name: 1}, "fallbacks": []} for name in senders]
    return {"legs": legs, "senders": senders, "longest": _LONGEST}


def _run_of(connection: Connection, purpose: str, day: date) -> Any:
    """The open run of a purpose and day, locked: id, records_read, route. Made where none is."""
    insert_into = sqlite.insert if is_sqlite(connection) else postgresql.insert
    base = key = f"{_KEYS[purpose]}-{day}"
    for number in count(2):
        made = insert_into(_RUNS).values(_new(key, purpose, day))
        connection.execute(made.on_conflict_do_nothing(index_elements=["key"]))
        statement = select(_RUNS).where(_RUNS.c.key == key).with_for_update()
        found = connection.execute(statement).one()
        if found.parameters.get("standing") is True and found.state in _OPEN:
            break
        # It belongs to a campaign, or to a run that somebody has ended.
        key = f"{base}-{number}"
    return found


def _new(key: str, purpose: str, day: date) -> dict[str, Any]:
    at = now()
    return {
        "id": f"{at:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        "key": key,
        "name": f"{_NAMES[purpose]}, {day}",
        "purpose": purpose,
        "state": runs.SENDING,
        "parameters": {"standing": True, "day": day.isoformat()},
        "gateway": "",
        "sender": "",
        "route": {},
        "subject": "",
        "caps": [],
        "records_read": 0,
        "planned": True,
        "batches": 0,
        "counts": {},
        "versions": {},
        "note": "",
        "created_at": at,
    }


def open_runs() -> list[Open]:
    """Return the standing runs that have not ended, the oldest first."""
    state = col(Message.state)
    with reading() as connection:
        waits = state.in_((QUEUED, DEFERRED))
        late = waits & (col(Message.closes_at) <= clock(connection) + LEAVES_WITHIN)
        unclear = state.in_((SENDING, IN_DOUBT))
        statement = (
            select(
                _RUNS.c.id,
                _RUNS.c.state,
                _RUNS.c.note,
                _RUNS.c.parameters,
                *(func.count(col(Message.id)).filter(which) for which in (waits, late, unclear)),
            )
            .outerjoin(
                Message,
                (col(Message.run_id) == _RUNS.c.id)
                & state.in_((QUEUED, DEFERRED, SENDING, IN_DOUBT)),
            )
            .where(_RUNS.c.state.in_(_OPEN), _STANDS)
            .group_by(_RUNS.c.id)
            .order_by(_RUNS.c.created_at)
        )
        return [
            Open(run_id, at, note, date.fromisoformat(parameters["day"]), *counts)
            for run_id, at, note, parameters, *counts in connection.execute(statement)
        ]


def end_late(run_id: str) -> int:
    """Block what was not sent in time; return how many."""
    with writing() as connection:
        mine = col(Message.run_id) == run_id
        late = (
            col(Message.state).in_((QUEUED, DEFERRED)),
            col(Message.closes_at) <= clock(connection) + LEAVES_WITHIN,
        )
        end_resending(connection, run_id, late[0] & late[1])
        purpose = select(_RUNS.c.purpose).where(_RUNS.c.id == run_id)
        why = _LATE[connection.execute(purpose).scalar_one()]
        return connection.execute(
            update(Message).where(mine, *late).values(state="blocked", final_at=now(), **why)
        ).rowcount


def put_off(run_id: str, batch: int, seconds: float) -> None:
    """Let nobody try what waits in a batch for so long."""
    with writing() as connection:
        connection.execute(
            update(Message)
            .where(
                col(Message.run_id) == run_id,
                col(Message.batch) == batch,
                col(Message.state) == QUEUED,
            )
            .values(retry_at=clock(connection) + timedelta(seconds=seconds))
        )


def close(run_id: str) -> bool:
    """Have a run of a day that is over wait for its reports; False where something is unsent."""
    with writing() as connection:
        connection.execute(select(_RUNS.c.id).where(_RUNS.c.id == run_id).with_for_update())
        unsent = select(col(Message.id)).where(
            col(Message.run_id) == run_id, col(Message.state).in_((QUEUED, DEFERRED, SENDING))
        )
        if connection.execute(unsent.limit(1)).first() is not None:
            return False
        return bool(
            connection.execute(
                update(_RUNS)
                .where(_RUNS.c.id == run_id, _RUNS.c.state == runs.SENDING)
                .values(state=runs.RECONCILING)
            ).rowcount
        )
