"""Reconciliation: delivery reports onto messages, polling, expiry, results, the end of runs.

Once through, from what the inbox holds to what the results say; a flow decides how often. Not
here: the statements (`data/deliveries`, `data/results`) and how a gateway is asked (its adapter).
"""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
import pandas as pd
from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    func,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlmodel import col

from adapters.gateways.base import Gateway, Report
from data import consent_ledger, deferral, deliveries, doubts, ledger, results, runs
from data.database import now as present
from data.database import reading, writing
from data.errors import SmsError
from data.privacy import impersonal, mask_text
from data.settings import settings
from data.tables import CampaignRun, Message, UtcDateTime

POLL_AFTER = timedelta(seconds=120)
POLL_EVERY = timedelta(minutes=10)
POLL_MOST = 1_000
"""Messages of one gateway that are asked about in one call."""
MATCH_WITHIN = timedelta(days=7)
"""How long a report waits for its message. Older ones stay in the inbox and are not tried."""

_CHUNK = 50_000  # events in one transaction
_ALL = 1_000_000
_MAY_HOLD = (runs.SENDING, runs.PAUSED, runs.RECONCILING, runs.CANCELLED, runs.REJECTED)
# The others are rebuilt when a report comes: nobody does it at their end.
_KEPT_BY_REFRESHING = frozenset({runs.SENDING, runs.RECONCILING, runs.FINISHED})


@dataclass(slots=True)
class Reconciled:
    """What one reconciliation did."""

    matched: int = 0
    """Events that found their message."""
    waiting: int = 0
    """Events whose message is not known yet."""
    opt_outs: int = 0
    polled: int = 0
    """Messages asked about at their gateways."""
    expired: int = 0
    rebuilt: int = 0
    """Runs whose results were written anew."""
    changed: list[str] = field(default_factory=list)
    """Ids of the runs whose results are others now."""
    finished: list[str] = field(default_factory=list)
    """Ids of the runs that finished now."""
    problems: list[str] = field(default_factory=list)
    """One line for each thing that did not work and held up nothing else."""


@impersonal
def reconcile(
    gateway_of: Callable[[str], Gateway | None],
    *,
    run_ids: Collection[str] | None = None,
    now: datetime | None = None,
) -> Reconciled:
    """Match and apply reports, poll, expire, bring results up to date, and finish runs.

    The results of what changed follow at once, all results of a run are rebuilt when it finishes.
    `run_ids` limits all but the matching to these runs, and has their results rebuilt in any case:
    use it before results are shown. Opens an event loop of its own: call it where none runs.
    """
    at = now or present()
    done = Reconciled()
    changed = _strand(run_ids, at) | _settle(at, done)
    if _poll(gateway_of, run_ids, at, done):
        changed |= _settle(at, done)
    changed |= _expire(run_ids, at, done)
    done.changed = sorted(changed)
    for run in _campaigns(changed, run_ids):
        _close(run, at, done, rebuild=run_ids is not None)
    return done


def _strand(run_ids: Collection[str] | None, at: datetime) -> set[str]:
    """Put in doubt what dead senders held, and close what came back into a run that has ended.

    Returns the ids of the runs whose results are others now.
    """
    touched = set()
    for run in runs.list_runs(_MAY_HOLD, limit=_ALL):
        ended = run.state in (runs.CANCELLED, runs.REJECTED)
        over = ended and _long_ago(run.finished_at, at)
        wanted = run_ids is None or run.id in run_ids
        if run.planned and wanted and not over:
            closed = deferral.cancel_open(run.id) if ended else 0
            # Ended, it had its results written; since then its last windows were answered, or
            # whoever ended it died before it wrote them.
            if doubts.strand(run.id) or closed or (ended and _is_behind(run.id)):
                touched.add(run.id)
    return touched


def _is_behind(run_id: str) -> bool:
    with reading() as connection:
        return results.is_behind(connection, run_id)


def _long_ago(instant: datetime | None, at: datetime) -> bool:
    return instant is not None and at - instant > MATCH_WITHIN


def _settle(at: datetime, done: Reconciled) -> set[str]:
    """Match and apply what the inbox holds; return the ids of the runs it speaks of."""
    changed: set[str] = set()
    after = waiting = 0
    while True:
        with writing() as connection:
            page = deliveries.match(connection, since=at - MATCH_WITHIN, after=after, limit=_CHUNK)
            if page.matched:
                applied = deliveries.apply(connection)
                results.refresh_reported(connection)
                _opt_out(connection, applied.opt_outs)
                changed |= applied.runs
                done.opt_outs += len(applied.opt_outs)
        done.matched += page.matched
        waiting += page.scanned - page.matched
        after = page.last
        if page.scanned < _CHUNK:
            done.waiting = waiting
            return changed


def _opt_out(connection: Connection, opt_outs: pd.DataFrame) -> None:
    """Tell the consent ledger what gateways report, in the transaction that applies the report."""
    if opt_outs.empty:
        return
    events = opt_outs.drop(columns=["reason", "gateway"]).assign(
        type="opt_out",
        scope="*",
        source="gateway " + opt_outs["gateway"],
        method="delivery_report",
        basis="",
        evidence=opt_outs["reason"].map(lambda reason: {"reason": reason}),
    )
    consent_ledger.append(connection, events)


# --- poll ------------------------------------------------------------------------------------


def _poll(
    gateway_of: Callable[[str], Gateway | None],
    run_ids: Collection[str] | None,
    at: datetime,
    done: Reconciled,
) -> bool:
    """Ask the gateways about messages without a final report; whether there are new answers."""
    asked: list[tuple[Gateway, list[Any]]] = []
    for name in _waiting_gateways(run_ids, at):
        try:
            gateway = gateway_of(name)
        except SmsError as error:
            done.problems.append(f"gateway {name}: not polled: {error}")
            continue
        if gateway is None:
            done.problems.append(
                f"gateway {name}: not polled: it is not configured; add it by `sms gateway add`"
            )
        elif gateway.capabilities.polls:
            asked.append((gateway, _due(name, run_ids, at)))
    answers = asyncio.run(_ask(asked))
    events: list[dict[str, Any]] = []
    for (_, messages), answer in zip(asked, answers, strict=True):
        done.polled += len(messages)
        if isinstance(answer, BaseException):
            told = mask_text(str(answer)) or type(answer).__name__
            done.problems.append(f"gateway {messages[0].gateway}: polling failed: {told}")
        else:
            events += _events(messages, answer, at)
    polled = [{"of": message.id} for _, messages in asked for message in messages]
    if polled:
        with writing() as connection:
            connection.execute(_POLLED.values(polled_at=at), polled)
            deliveries.append(connection, events)
    return bool(events)


async def _ask(
    asked: Sequence[tuple[Gateway, list[Any]]],
) -> list[list[Report] | BaseException]:
    async def one(gateway: Gateway, messages: list[Any]) -> list[Report]:
        async with gateway:
            return await gateway.poll([message.gateway_message_id for message in messages])

    return await asyncio.gather(
        *(one(gateway, messages) for gateway, messages in asked), return_exceptions=True
    )


def _events(
    messages: Sequence[Any], answers: Sequence[Report], at: datetime
) -> list[dict[str, Any]]:
    """Poll answers as events, those that tell more than is known already."""
    known: dict[str | None, list[Any]] = {}
    for message in messages:
        known.setdefault(message.gateway_message_id, []).append(message)
    events = []
    for answer in answers:
        mine = known.get(answer.gateway_message_id, [])
        message = mine[0] if len(mine) == 1 else None
        if message is not None and _says_nothing_new(message, answer):
            continue
        fields = asdict(answer)
        events.append(
            {
                **fields,
                "gateway": messages[0].gateway,
                "source": "poll",
                "reference": answer.reference or (message.id if message else None),
                "status": str(answer.status),
                "error_class": None if answer.error_class is None else str(answer.error_class),
                "received_at": at,
                "raw": orjson.dumps(fields, default=str).decode(),
            }
        )
    return events


def _says_nothing_new(message: Any, answer: Report) -> bool:
    return deliveries.RANK[answer.status] <= message.status_rank and answer.price in {
        None,
        message.price,
    }


def _unsettled(run_ids: Collection[str] | None) -> list[Any]:
    """Conditions: a gateway took it, and no final report has come."""
    # Literals, not parameters: an index on just these messages is used for nothing else.
    conditions: list[Any] = [
        text(f"message.state = 'accepted' AND message.status_rank < {deliveries.FINAL}")
    ]
    if run_ids is not None:
        conditions.append(col(Message.run_id).in_(run_ids))
    return conditions


def _pollable(run_ids: Collection[str] | None, at: datetime) -> list[Any]:
    return [
        *_unsettled(run_ids),
        col(Message.gateway_message_id).is_not(None),
        col(Message.submitted_at) < at - POLL_AFTER,
        or_(col(Message.polled_at).is_(None), col(Message.polled_at) < at - POLL_EVERY),
    ]


def _waiting_gateways(run_ids: Collection[str] | None, at: datetime) -> list[str]:
    statement = select(col(Message.gateway)).where(*_pollable(run_ids, at)).distinct()
    with reading() as connection:
        return sorted(connection.execute(statement).scalars())


def _due(gateway: str, run_ids: Collection[str] | None, at: datetime) -> list[Any]:
    """The messages to ask about, those first that were never asked about or longest ago."""
    wanted = [
        col(getattr(Message, name))
        for name in ("id", "gateway", "gateway_message_id", "status_rank", "price")
    ]
    statement = (
        select(*wanted)
        .where(*_pollable(run_ids, at), col(Message.gateway) == gateway)
        .order_by(col(Message.polled_at).asc().nulls_first(), col(Message.submitted_at))
        .limit(POLL_MOST)
    )
    with reading() as connection:
        return list(connection.execute(statement))


_POLLED = update(Message).where(col(Message.id) == bindparam("of"))


# --- expire ----------------------------------------------------------------------------------


def _expire(run_ids: Collection[str] | None, at: datetime, done: Reconciled) -> set[str]:
    """End messages that no final report came for; return the ids of their runs."""
    late = [*_unsettled(run_ids), col(Message.submitted_at) < at - _patience()]
    with reading() as connection:
        of = select(col(Message.run_id)).where(*late).distinct()
        touched = set(connection.execute(of).scalars())
    if touched:
        ended = {"state": "expired", "reason": "no_report", "rule": "", "final_at": at}
        late.append(col(Message.run_id).in_(touched))
        with writing() as connection:
            statement = update(Message).where(*late).values(**ended)
            done.expired = connection.execute(statement).rowcount
            results.refresh_expired(connection, touched, at)
    return touched


def _patience() -> timedelta:
    return timedelta(seconds=settings().expire_after)


# --- results and the end of a run ------------------------------------------------------------


def _campaigns(changed: set[str], run_ids: Collection[str] | None) -> list[Any]:
    """The runs to look at: id, state and time of creation."""
    wanted: ColumnElement[bool] = col(CampaignRun.id).in_(changed if run_ids is None else run_ids)
    if run_ids is None:
        wanted = or_(wanted, col(CampaignRun.state) == runs.RECONCILING)
    statement = (
        select(col(CampaignRun.id), col(CampaignRun.state), col(CampaignRun.created_at))
        .where(wanted, col(CampaignRun.planned))
        .order_by(col(CampaignRun.created_at))
    )
    with reading() as connection:
        return list(connection.execute(statement))


def _close(run: Any, at: datetime, done: Reconciled, *, rebuild: bool) -> None:
    """Finish a run of which nothing is open; rebuild its results then, or when told to."""
    ends = False
    if run.state == runs.RECONCILING:
        with reading() as connection:
            ends = not _open(connection, run, at)
    if not ends and not rebuild and run.state in _KEPT_BY_REFRESHING:
        return
    try:
        with writing() as connection:
            results.rebuild(connection, run.id)
            if ends and not _open(connection, run, at):
                results.check(connection, run.id)
                if runs.move_within(connection, run.id, runs.FINISHED, finished_at=at):
                    done.finished.append(run.id)
        done.rebuilt += 1
    except (results.NotAccounted, runs.RunError) as error:
        # It stays as it is: what cannot show every record's outcome is not finished.
        done.problems.append(str(error))


def _open(connection: Connection, run: Any, at: datetime) -> int:
    """How many campaign messages may still change: doubt is waited for as long as reports are."""
    since = func.coalesce(
        col(Message.submitted_at),
        col(Message.lease_until),
        literal(run.created_at, UtcDateTime()),
    )
    statement = select(func.count()).where(
        col(Message.run_id) == run.id,
        col(Message.kind) != "test",
        or_(
            col(Message.state).in_(ledger.OPEN),
            (col(Message.state) == ledger.ACCEPTED) & (col(Message.status_rank) < deliveries.FINAL),
            (col(Message.state) == ledger.IN_DOUBT) & (since >= at - _patience()),
        ),
    )
    return int(connection.execute(statement).scalar_one())
