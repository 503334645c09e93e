"""kill -9 of the sending process at random moments: nobody gets it twice, nobody is lost.

Checked from the outside: what the gateway wrote to its journal before it answered, against what
the ledger says. SMS_CHAOS_SEED and SMS_CHAOS_KILLS repeat or lengthen a run.
"""

import multiprocessing
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from sqlalchemy import func, select

from adapters.sandbox.journal import read_journal
from data import ledger, runs
from data.database import reading
from data.tables import CampaignRun
from tasks.reconciliation import reconcile
from tests import plans
from tests.chaos.sender import main as sender_main
from tests.sandboxes import SID, TOKEN, Sandbox, start, wait_until

SEED = int(os.environ.get("SMS_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
KILLS = int(os.environ.get("SMS_CHAOS_KILLS", "20"))
MESSAGES = 1_200
BATCH = 150
RATE = 50  # so that a window takes a second, and a kill falls into it
WINDOW = 50
IN_FLIGHT = 2  # batches at one time, so windows in flight at a kill

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(240)]


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[Sandbox]:
    sandbox = start(tmp_path / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def receiver(sqlite: str, free_port: Callable[[], int]) -> Iterator[str]:
    """A receiver process on the same database."""
    port = free_port()
    code = (
        "import sys;from adapters.web import app;from adapters.gateways import make_gateway;"
        "from adapters.gateways.base import Timeouts;"
        "from adapters.gateways.twilio import TwilioSettings;"
        f"url='http://127.0.0.1:{port}';"
        f"g=make_gateway('sandbox',TwilioSettings(account_sid='{SID}',auth_token='{TOKEN}'),"
        "receiver_url=url,timeouts=Timeouts());"
        f"app.serve(app.create_app({{'sandbox':g}}.get,public_url=url),{port},'127.0.0.1')"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    yield f"http://127.0.0.1:{port}"
    process.kill()
    process.wait()


def planned() -> CampaignRun:
    run = plans.open_run()
    ids = plans.add_messages(run, plans.numbers(MESSAGES))
    table = plans.Message.__table__
    with plans.writing() as connection:
        for batch in range(MESSAGES // BATCH):
            mine = ids[batch * BATCH : (batch + 1) * BATCH]
            connection.execute(table.update().where(table.c.id.in_(mine)).values(batch=batch))
    return run


def send(run: CampaignRun, sandbox: Sandbox, receiver: str) -> BaseProcess:
    # Forked, because a fresh interpreter spends four seconds of CPU on its imports.
    sender = multiprocessing.get_context("fork").Process(
        target=sender_main,
        args=(run.id, f"http://127.0.0.1:{sandbox.port}", receiver, RATE, IN_FLIGHT),
    )
    sender.start()
    return sender


def send_to_the_end(run: CampaignRun, sandbox: Sandbox, receiver: str) -> None:
    sender = send(run, sandbox, receiver)
    sender.join(120)
    assert sender.exitcode == 0


def send_and_kill(run: CampaignRun, sandbox: Sandbox, receiver: str, seconds: float) -> int:
    """Kill a sender so long after its first claim; return the messages that it held then."""
    sender = send(run, sandbox, receiver)
    assert sender.pid is not None
    try:
        wait_until(lambda: not sender.is_alive() or held_by(sender.pid or 0))
        time.sleep(seconds)
    finally:
        sender.kill()
        sender.join()
    return held_by(sender.pid)


def held_by(process: int) -> int:
    """Messages claimed by a process and not answered for."""
    table = plans.Message.__table__
    mine = select(func.count()).where(
        table.c.state == ledger.SENDING, table.c.owner.contains(f"|{process}|")
    )
    with reading() as connection:
        return int(connection.execute(mine).scalar_one())


def received(journal: Path) -> Counter[str]:
    return Counter(entry["to"] for entry in read_journal(journal))


def test_no_kill_sends_anybody_the_message_twice_and_none_is_lost(
    sqlite: str,
    sandbox: Sandbox,
    receiver: str,
    record_property: Callable[[str, object], None],
) -> None:
    run, chance = planned(), random.Random(SEED)
    # Reports come late, so that what was in flight at a kill stays in doubt until they do.
    sandbox.order({"kind": "reports", "reports": "late", "seconds": 4})
    held = [send_and_kill(run, sandbox, receiver, chance.uniform(0, 0.8)) for _ in range(KILLS)]
    send_to_the_end(run, sandbox, receiver)
    hits = sum(count > 0 for count in held)
    assert hits >= KILLS // 2, "too few kills fell between a claim and its answer"

    got = received(sandbox.journal)
    assert [number for number, times in got.items() if times > 1] == []

    messages = plans.messages(run)
    assert len(messages) == MESSAGES
    doubts = [m for m in messages.values() if m.state == ledger.IN_DOUBT]
    accepted = {m.recipient for m in messages.values() if m.state == ledger.ACCEPTED}
    assert len(accepted) + len(doubts) == MESSAGES
    assert accepted <= set(got), "accepted in the ledger, but never at the gateway"
    assert len(doubts) <= sum(held) <= hits * IN_FLIGHT * WINDOW
    record_property("kills while messages were in flight", hits)
    record_property("messages in flight at a kill", sum(held))
    record_property("of them still in doubt before their late reports", len(doubts))

    runs.move(run.id, runs.RECONCILING)
    wait_until(lambda: not sandbox.client.get("/_stats").json()["callbacks_waiting"], 60)
    reconcile(lambda _: None, run_ids=[run.id])
    settled = {m.recipient for m in plans.messages(run).values() if m.state == ledger.ACCEPTED}
    assert settled == set(got), "a late report did not settle its message"


def test_without_the_claim_the_same_kills_do_send_twice(
    sqlite: str,
    sandbox: Sandbox,
    receiver: str,
) -> None:
    """The test of the test: with the claim undone at a kill, as if it had not been committed."""
    run = planned()
    sandbox.order({"kind": "reports", "reports": "never"})
    table = plans.Message.__table__
    for _ in range(2):
        send_and_kill(run, sandbox, receiver, 0.3)
        with plans.writing() as connection:
            unclaimed = {"state": "queued", "owner": None, "lease_until": None}
            connection.execute(
                table.update().where(table.c.state == ledger.SENDING).values(**unclaimed)
            )
    send_and_kill(run, sandbox, receiver, 0.3)
    assert [number for number, times in received(sandbox.journal).items() if times > 1] != []
