"""Several senders of one run, on PostgreSQL: one killed every few seconds, and what they gain.

SMS_CHAOS_MESSAGES=20000 for the size of the promise. With real Prefect workers: `workers.py`.
"""

import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess

import pytest

from adapters.gateways.base import Gateway
from data import pace, runs
from tests import plans
from tests.chaos import sender
from tests.chaos.evidence import Observer
from tests.chaos.faults import POSTGRESQL
from tests.chaos.judge import Evidence, judge
from tests.chaos.processes import Controls, fork, kill
from tests.chaos.world import World

MESSAGES = int(os.environ.get("SMS_CHAOS_MESSAGES", "3000"))
ALONE = 400
"""Messages by which the throughput of one sender is measured."""
WORKERS = 3
BATCH = 15
KILL_EVERY = 3.0
# A gateway that is far away: what bounds a sender is waiting, and not the cores of this machine.
ANSWERS_AFTER = 0.4
REQUESTS, BATCHES = 5, 3
RATE = 100_000.0
GAIN = 1.0
"""Three are to be faster than one; with cores enough it is three times."""

pytestmark = [pytest.mark.chaos, pytest.mark.heavy, pytest.mark.timeout(240 + MESSAGES // 50)]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World(databases=(POSTGRESQL,)) as world:
        # As a real installation: no lease ends because this machine has much to do.
        world._set(
            SMS_LEASE_SECONDS="30",
            SMS_REQUEST_TIMEOUT="10",
            SMS_REQUESTS_IN_FLIGHT=str(REQUESTS),
        )
        yield world


class Sending:
    """One run, sent by so many processes."""

    def __init__(self, world: World, key: str, numbers: list[str]) -> None:
        self.world = world
        self.offset = world.sandbox.begin_trial()
        world.sandbox.order({"far away": [{"kind": "slow", "seconds": ANSWERS_AFTER}]})
        self.run = plans.open_run(key, sender=f"+1500600{len(numbers):04d}"[:12])
        plans.add_messages(
            self.run, numbers, batch=[place // BATCH for place in range(len(numbers))]
        )
        pace.set_rate(pace.lane_of(self.run.gateway, self.run.sender), RATE)
        self.observer = Observer(self.run, numbers, 1.0)
        self.log = world.folder / f"{key}.log"
        self.witness = world.folder / f"{key}.witness"
        self.witness.touch()
        receiver = world.places[POSTGRESQL].receiver
        self.work = sender.Work(self.run.id, world.sandbox.url, receiver.url, BATCHES, self.witness)
        self.kills = 0
        self.resumed = 0

    def _start(self, main: Callable[..., None]) -> BaseProcess:
        return fork(main, self.work, Controls(), log=self.log)

    def run_to_the_end(self, workers: int, *, kill_every: float = float("inf")) -> Evidence:
        # The campaign's own process, which resolves and ends, and those that only send.
        roles = [sender.send, *[sender.help_to_send] * (workers - 1)]
        living = [self._start(role) for role in roles]
        kill_at = time.monotonic() + kill_every
        while living[0].is_alive():
            if time.monotonic() > kill_at and runs.get_run(self.run.id).state == runs.SENDING:
                place = random.randrange(workers)
                kill(living[place])
                self.observer.look(living[place].pid)
                living[place] = self._start(roles[place])
                self.kills += 1
                kill_at = time.monotonic() + kill_every
            time.sleep(0.02)
        for one in living:
            one.join(30)
        # One that ended with an error is gone on with, as `sms resume` would; it is counted.
        while living[0].exitcode and self.resumed < 3:
            self.resumed += 1
            living[0] = self._start(sender.send)
            living[0].join(120)
        assert living[0].exitcode == 0, self.log.read_text()
        self.observer.doubted = self.observer.doubt()
        while self.world.sandbox.owes_reports:
            time.sleep(0.1)
        self.observer.in_flight.update(self.witness.read_text().split())
        return self.observer.conclude(self.world.sandbox.journal, self.offset, self._gateway)

    def _gateway(self, _: str) -> Gateway:
        return sender.gateway(self.work)


def throughput(evidence: Evidence) -> float:
    """Messages a second, by the gateway's clock."""
    times: list[float] = [entry["time"] for entry in evidence.journal]
    return (len(times) - 1) / (max(times) - min(times))


def test_three_workers_one_killed_every_few_seconds_send_everything_once_and_faster_than_one(
    world: World, record_property: Callable[[str, object], None]
) -> None:
    numbers = plans.numbers(ALONE + MESSAGES)
    alone = Sending(world, "alone", numbers[:ALONE]).run_to_the_end(1)
    together = Sending(world, "together", numbers[ALONE:])
    evidence = together.run_to_the_end(WORKERS, kill_every=KILL_EVERY)

    one, verdict = judge(alone), judge(evidence)
    figures = {
        "messages": MESSAGES,
        "kills": together.kills,
        "resumed after an error": together.resumed,
        "duplicates": len(verdict.duplicates),
        "lost": len(verdict.lost),
        "in flight at kills": verdict.in_flight,
        "in doubt": verdict.doubted,
        "left in doubt": verdict.left,
        "a second, one worker": round(throughput(alone)),
        "a second, three workers with kills": round(throughput(evidence)),
    }
    for name, figure in figures.items():
        record_property(name, figure)
    sys.stdout.write("\n" + ", ".join(f"{name} {figure}" for name, figure in figures.items()))
    assert one.findings == verdict.findings == []
    assert together.kills >= 3
    assert throughput(evidence) > GAIN * throughput(alone)
