"""The Prefect tasks: names, retries and progress around the plain functions of the other modules.

Tasks pass ids and counts. What a partition holds goes through the run's workspace, never through
Prefect: nothing here is cached, and no result is stored.
"""

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import suppress
from datetime import datetime
from typing import Any, cast

from prefect import get_run_logger, task
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectConcurrentFuture

from adapters import blocks
from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, GatewayError, Timeouts
from adapters.limits import rate_in_force
from data import batches, ledger, runs
from data.batches import Held
from data.database import UNAVAILABLE, patiently
from data.settings import settings
from data.tables import CampaignRun
from tasks import asking, preparation, reconciliation, routing, sending
from tasks.preparation import Brief, Planned, Pulled
from tasks.validation import Totals, Validator

RETRIES = 3


def gateway_of(name: str) -> Gateway:
    """Make the adapter of a gateway block. Raises `BlockError` where there is none."""
    block = blocks.load(blocks.SmsGateway, name)
    return make_gateway(
        name,
        block.settings,
        receiver_url=settings().receiver_url,
        timeouts=Timeouts(request=settings().request_timeout),
        requests_in_flight=settings().requests_in_flight,
    )


def rate_of(run: CampaignRun) -> float:
    """Messages (or segments) a second at which a run as it is planned will be through."""
    route, counts = routing.route_of(run), ledger.gateway_counts(run.id)
    rates = {
        name: rate_in_force(
            name,
            route.senders[name],
            float(blocks.load(blocks.SmsGateway, name).settings.rate),
        )
        for name in counts or route.gateways[:1]
    }
    # Each sends its part beside the others; the one that takes longest decides.
    longest = max((counts[name] / rates[name] for name in counts if rates[name]), default=0)
    return sum(counts.values()) / longest if longest else min(rates.values())


def problems_of(name: str, sender: str) -> list[str]:
    """Ask a gateway what is wrong with its settings; sends nothing."""

    async def ask(made: Gateway) -> list[str]:
        async with made as gateway:
            return await gateway.check(sender)

    # Made before the event loop starts: inside one, Prefect loads a block as a coroutine.
    return asyncio.run(ask(gateway_of(name)))


@task(cache_policy=NO_CACHE)
def check_gateways(run: CampaignRun) -> list[str]:
    """Verify credentials and senders without sending; return what is wrong with single gateways.

    Raises `GatewayError` with every problem where nobody could stand in.
    """
    route, told = routing.route_of(run), {}
    for name in route.gateways:
        if problems := problems_of(name, route.senders[name]):
            told[name] = f"gateway {name}: " + "; ".join(problems)
    if any(told.keys() >= set(leg.gateways) for leg in route.legs):
        raise GatewayError("; ".join(told.values()))
    for problem in told.values():
        get_run_logger().warning(problem)
    return list(told.values())


@task(cache_policy=NO_CACHE)
def pull_audience(brief: Brief) -> Pulled:
    """Read the whole audience and store the number of its records."""
    connections = (
        {name: block.settings for name, block in blocks.documents(blocks.SmsSource)}
        if brief.audience.kind in ("sql", "http")
        else {}
    )
    pulled = preparation.pull(brief, connections)
    logger = get_run_logger()
    logger.info("%s records read", f"{pulled.records:,}")
    for note in pulled.notes:
        logger.info(note)
    return pulled


@task(cache_policy=NO_CACHE)
def check_partition(
    brief: Brief, pulled: Pulled, number: int, validator: Validator, totals: Totals
) -> None:
    """Validate one partition and read its numbers."""
    preparation.check(brief, pulled, number, validator, totals)


def check_share(brief: Brief, totals: Totals) -> None:
    """Raise `TooManyBadRows` where more of the audience is bad than the campaign allows."""
    preparation.check_total(brief, totals)


@task(cache_policy=NO_CACHE)
def deduplicate(brief: Brief) -> int:
    """De-duplicate across all partitions; return how many records repeat an earlier one."""
    return preparation.deduplicate_partitions(brief)


@task(cache_policy=NO_CACHE)
def plan_partition(
    brief: Brief, pulled: Pulled, number: int, at: datetime, before: Mapping[str, int]
) -> Planned:
    """Apply consent, compose, and store one partition's messages and exclusions."""
    return preparation.plan_partition(brief, pulled, number, at, before)


@task(
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=[1, 5, 20],
    task_run_name="send batch {held.batch}",
)
def send_batch(held: Held) -> dict[str, int]:
    """Send one batch. Retrying is safe: only what is still queued can be claimed."""
    tally = sending.send_batch(held, gateway_of)
    for told in (*tally.switched, tally.stopped):
        if told:
            get_run_logger().warning(told)
    return dict(tally.counts)


@task(cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=[1, 5, 20])
def resolve_doubts(run_id: str) -> dict[str, int]:
    """Ask the gateways about messages without a clear answer. Sends nothing."""
    found = dict(asking.resolve_doubts(run_id, gateway_of))
    if found:
        get_run_logger().info("messages in doubt: %s", found)
    return found


@task(cache_policy=NO_CACHE)
def reconcile(run_ids: list[str] | None = None) -> reconciliation.Reconciled:
    """Match reports, poll for missing ones, and rebuild results."""
    done = reconciliation.reconcile(_gateway_or_none, run_ids=run_ids)
    for problem in done.problems:
        get_run_logger().warning(problem)
    return done


def _gateway_or_none(name: str) -> Gateway | None:
    try:
        return gateway_of(name)
    except blocks.BlockError:
        # A gateway that was removed cannot be asked; what it still owes will expire.
        return None


class Progress:
    """The progress artifact of one run."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._artifact: Any = create_progress_artifact(
            0.0, key=f"sending-{run_id}".lower(), description="Messages sent"
        )
        self._next_at = 0.0

    def update(self) -> None:
        """Show the share of messages that no longer wait, every two seconds or more rarely."""
        began = time.monotonic()
        if began < self._next_at:
            return
        counts = ledger.state_counts(self._run_id)
        waiting = counts.get(ledger.QUEUED, 0) + counts.get(ledger.SENDING, 0)
        total = sum(counts.values())
        share = 100.0 * (total - waiting) / total if total else 100.0
        update_progress_artifact(self._artifact, share)
        # Counting takes seconds in a run of millions: a twentieth of the time is enough for it.
        self._next_at = began + max(2.0, 20 * (time.monotonic() - began))


def _take(run_id: str) -> Held | None:
    sends = runs.get_run(run_id).state == runs.SENDING
    return batches.take(run_id) if sends else None


def send_batches(run_id: str, progress: Progress | None = None) -> None:
    """Take batches and send them, a bounded number at one time, until there is none to take.

    Prefect's own `map` submits everything at once. Raises what a batch raised.
    """
    in_flight: list[PrefectConcurrentFuture[dict[str, int]]] = []
    while True:
        free = len(in_flight) < settings().batches_in_flight
        held = patiently(lambda: _take(run_id)) if free else None
        if held is not None:
            submitted = send_batch.submit(held)
            in_flight.append(cast("PrefectConcurrentFuture[dict[str, int]]", submitted))
            continue
        if not in_flight:
            break
        if progress is not None:
            with suppress(*UNAVAILABLE):
                progress.update()
        # Not Prefect's own `wait`: its time-out may strike inside a lock, and ends the flow then.
        wait([one.wrapped_future for one in in_flight], 0.2, return_when=FIRST_COMPLETED)
        ended = [one for one in in_flight if one.wrapped_future.done()]
        in_flight = [one for one in in_flight if one not in ended]
        for future in ended:
            future.result()
