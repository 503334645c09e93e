"""One message a request to a gateway in another process: the ledger's send loop, beside none."""

import asyncio
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import httpx
import psutil
from httpx_aiohttp import AiohttpTransport

from data import pace
from data.batches import take
from data.settings import settings
from tasks import sending
from tests import plans
from tests.benchmarks.bench import (
    GATEWAY,
    RECEIVER_URL,
    SENDER,
    Figure,
    Report,
    Timing,
    free_port,
    fresh_home,
    gateway,
    timed,
)
from tests.sandboxes import SID, TOKEN, Sandbox, start

TEXT = "Hi there, our spring sale is on: 20% off everything until Sunday. Reply STOP to opt out"
RATE = 100_000.0  # messages a second: the pace is not what is measured
IN_FLIGHT = 50


def run(messages: int = 10_000, sample: int = 3_000, prefect_tasks: int = 0) -> Report:
    """Measure `tasks.sending.send_batch` in as many threads as a flow uses.

    `prefect_tasks` above 0 measures so many Prefect tasks of one recipient each as well.
    """
    with fresh_home(), _sandbox() as box:
        base_url = f"http://127.0.0.1:{box.port}"
        served = psutil.Process(box.process.pid)
        before = sum(served.cpu_times()[:2])
        ours = _ledger(messages, base_url)
        theirs = (sum(served.cpu_times()[:2]) - before) / messages * 1e6
        forms = [_form(number) for number in plans.numbers(sample)]
        limits = httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT)
        plain = [
            _bare(
                "httpx, 50 in flight, no ledger", base_url, forms, httpx.AsyncHTTPTransport, limits
            ),
            _bare("httpx over aiohttp, no ledger", base_url, forms, AiohttpTransport, limits),
        ]
        if prefect_tasks:
            plain.append(_prefect(base_url, forms[:prefect_tasks]))
    note = f"the sandbox, on the same cores, took {theirs:.0f} µs of CPU a message"
    return Report("send", "messages", 1_000, ours, plain, [note])


@contextmanager
def _sandbox() -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="sms-bench-") as folder:
        box = start(Path(folder) / "journal.jsonl")
        try:
            box.order({"kind": "reports", "reports": "never"})
            yield box
        finally:
            box.kill()
            box.client.close()


def _ledger(messages: int, base_url: str) -> Figure:
    campaign = plans.open_run(gateway=GATEWAY)
    size = settings().batch_size
    batches = [place // size for place in range(messages)]
    plans.add_messages(campaign, plans.numbers(messages), batch=batches, text=TEXT)

    pace.set_rate(pace.lane_of(campaign.gateway, campaign.sender), RATE)

    def send(_: int) -> Counter[str]:
        held = take(campaign.id)
        return sending.send_batch(held, lambda _: gateway(base_url)).counts if held else Counter()

    with timed() as timing, ThreadPoolExecutor(settings().batches_in_flight) as pool:
        counts = sum(pool.map(send, sorted(set(batches))), Counter[str]())
    assert counts == {"accepted": messages}, counts
    return Figure("tasks.sending.send_batch", messages, timing)


def _form(number: str) -> dict[str, str]:
    return {
        "To": number,
        "From": SENDER,
        "Body": TEXT,
        "StatusCallback": f"{RECEIVER_URL}/gateways/{GATEWAY}/reports?ref={number}",
    }


def _bare(
    way: str, base_url: str, forms: Sequence[dict[str, str]], transport: Any, limits: httpx.Limits
) -> Figure:
    async def post_all() -> None:
        slots = asyncio.Semaphore(IN_FLIGHT)
        async with httpx.AsyncClient(
            base_url=base_url, auth=(SID, TOKEN), transport=transport(limits=limits)
        ) as client:

            async def one(form: dict[str, str]) -> None:
                async with slots:
                    (await client.post(Sandbox.messages, data=form)).raise_for_status()

            await asyncio.gather(*map(one, forms))

    with timed() as timing:
        asyncio.run(post_all())
    return Figure(way, len(forms), timing)


def _prefect(base_url: str, forms: Sequence[dict[str, str]]) -> Figure:
    """What most people write first: `map` over the recipients."""
    from flows import server

    port = str(free_port())
    theirs = {
        "SMS_PREFECT_PORT": port,
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_LOGGING_LEVEL": "ERROR",
    }
    with patch.dict(os.environ, theirs):
        settings.cache_clear()
        with server.running():
            timing = _one_task_each(base_url, forms)
    settings.cache_clear()
    return Figure("one Prefect task a recipient", len(forms), timing)


def _one_task_each(base_url: str, forms: Sequence[dict[str, str]]) -> Timing:
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE
    from prefect.futures import wait
    from prefect.task_runners import ThreadPoolTaskRunner

    with httpx.Client(base_url=base_url, auth=(SID, TOKEN)) as client:

        @task(cache_policy=NO_CACHE)
        def send_one(form: dict[str, str]) -> str:
            answer = client.post(Sandbox.messages, data=form).raise_for_status()
            return str(answer.json()["sid"])

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=IN_FLIGHT))  # type: ignore[arg-type]
        def send_each() -> int:
            futures = [send_one.submit(form) for form in forms]
            wait(futures)
            return sum(future.state.is_completed() for future in futures)

        with timed() as timing:
            sent = send_each()
    assert sent == len(forms)
    return timing
