"""Keeps the wanted number of `send-shard` runs going beside a campaign's own flow.

One that was lost is replaced; Prefect's workers decide where they run.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from math import ceil

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.states import Cancelled

from data import batches, ledger, runs
from data.database import is_sqlite, now, reading
from data.errors import SmsError
from data.senders import this_process
from data.settings import settings
from data.tables import CampaignRun
from flows.handover import live_runs, start

EVERY_SECONDS = 3.0
BEGINNING = timedelta(seconds=30)
"""How long a shard may take from its start to its first batch."""

_log = logging.getLogger("sms.shards")


class ShardError(SmsError):
    """Several workers cannot share this installation's runs."""


@contextmanager
def sharded(run: CampaignRun) -> Iterator[None]:
    """Have shards help while the context lasts. Raises `ShardError` on SQLite."""
    wanted = settings().shards
    if not wanted:
        yield
        return
    with reading() as connection:
        if is_sqlite(connection):
            raise ShardError(
                "SMS_SHARDS is set, and several workers cannot share SQLite: set SMS_DATABASE_URL"
                " to a PostgreSQL database, or unset SMS_SHARDS"
            )
    over = threading.Event()
    thread = threading.Thread(target=_keep, args=(run.id, wanted, over), daemon=True, name="shards")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(EVERY_SECONDS)


def _keep(run_id: str, wanted: int, over: threading.Event) -> None:
    while not over.is_set():
        try:
            _top_up(run_id, wanted)
        except Exception as error:  # noqa: BLE001 - the run is sent without shards, only slower
            told = str(error) if isinstance(error, SmsError) else type(error).__name__
            _log.warning("run %s: no shards could be started: %s", run_id, told)
        over.wait(EVERY_SECONDS)
    with suppress(Exception):  # one that starts after the end finds nothing to do
        _withdraw(run_id)


def _top_up(run_id: str, wanted: int) -> None:
    """Start what is missing of the shards that the rest of a run is worth."""
    each = settings().batch_size * settings().batches_in_flight
    worth = ceil(ledger.waiting(run_id, (wanted + 1) * each) / each) - 1
    if runs.get_run(run_id).state != runs.SENDING or worth < 1:
        return
    with get_client(sync_client=True) as client:
        missing = min(wanted, worth) - _live(run_id, live_runs(client, _tag(run_id)))
        if missing < 1:
            return
        for _ in range(missing):
            start(client, "send-shard", {"run_id": run_id}, _tag(run_id))


def _live(run_id: str, shards: list[FlowRun]) -> int:
    """How many shards wait for a worker, begin, or send.

    One that was killed with its worker stays Running in Prefect: those that hold batches live.
    """
    waiting = [shard for shard in shards if shard.state_type is not StateType.RUNNING]
    running = len(shards) - len(waiting)
    young = sum(
        shard.start_time is not None and shard.start_time > now() - BEGINNING
        for shard in shards
        if shard not in waiting
    )
    sending = len(batches.processes(run_id) - {this_process()})
    return len(waiting) + min(running, max(young, sending))


def _withdraw(run_id: str) -> None:
    """Cancel the shards that no worker has begun."""
    with get_client(sync_client=True) as client:
        for shard in live_runs(client, _tag(run_id)):
            if shard.state_type is StateType.SCHEDULED:
                client.set_flow_run_state(shard.id, Cancelled(message="the run is over"))


def _tag(run_id: str) -> str:
    return f"shard-of-{run_id}"
