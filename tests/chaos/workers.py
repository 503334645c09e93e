"""Real Prefect workers on PostgreSQL, one killed with its flow every ten seconds: what comes of it.

uv run python -m tests.chaos.workers [--messages 20000] [--workers 3] [--rate 300]

Too slow for CI, where `test_workers.py` does the same with bare processes.
"""

import argparse
import random
import sys
import time

from data import batches, runs
from flows.commands import services
from tests import plans
from tests.chaos.evidence import Observer
from tests.chaos.installation import Installation, child_pids, kill_all
from tests.chaos.judge import Evidence, judge

KILL_EVERY = 10.0
PATIENCE = 900.0


class Workers(Installation):
    """An installation whose shards have workers of their own, as `sms up --workers N` has."""

    def __init__(self, workers: int) -> None:
        super().__init__(SMS_REPORT_WAIT="5", SMS_LEASE_SECONDS="60", SMS_REQUEST_TIMEOUT="10")
        self.workers = workers

    def _start_services(self) -> None:
        super()._start_services()
        for number in range(2, self.workers + 1):
            self.start(f"worker {number}")

    def start(self, name: str) -> None:
        """Start a service; `worker N` is the Nth worker."""
        if name.startswith("worker"):
            number = int(name.removeprefix("worker") or 1)
            self.services[name] = services._launch_worker(number, self.workers)
        else:
            super().start(name)


def main() -> int:
    """Run it once; 0: nothing twice, nothing lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.workers", description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--rate", type=int, default=300)
    chosen = parser.parse_args()
    people = plans.numbers(chosen.messages)
    with Workers(chosen.workers) as world:
        evidence, kills = _run(world, people, chosen.rate)
    verdict = judge(evidence)
    times = [entry["time"] for entry in evidence.journal]
    seconds = max(times) - min(times)
    sys.stdout.write(
        f"{len(people):,} messages, {chosen.workers} workers, {kills} kills:"
        f" {len(verdict.duplicates)} duplicates, {len(verdict.lost)} lost,"
        f" {verdict.in_flight} in flight at kills, {verdict.doubted} in doubt,"
        f" {verdict.left} left; {seconds:.0f} s, {len(times) / seconds:.0f} a second\n"
    )
    for finding in verdict.findings[:20]:
        sys.stdout.write(f"  {finding}\n")
    return 1 if verdict.findings else 0


def _run(world: Workers, people: list[str], rate: int) -> tuple[Evidence, int]:
    offset = world.sandbox.begin_trial()
    world.set_rate(rate)
    world.start_campaign("workers", people)
    ends = time.monotonic() + PATIENCE
    while world.sandbox.journal.stat().st_size == offset:
        assert time.monotonic() < ends, "nothing was sent"
        time.sleep(0.1)
    observer = Observer(runs.find_run("workers"), people, 1.0)
    kills, kill_at = 0, time.monotonic() + KILL_EVERY
    while observer.state() == runs.SENDING and time.monotonic() < ends:
        if time.monotonic() > kill_at and _kill_one(world, observer):
            kill_at = time.monotonic() + KILL_EVERY
            kills += 1
        time.sleep(0.2)
    observer.doubted = observer.doubt()
    while world.flow_processes() and time.monotonic() < ends:
        time.sleep(0.5)
    kill_all(world.flow_processes())
    while world.sandbox.owes_reports and time.monotonic() < ends:
        time.sleep(0.5)
    return observer.conclude(world.sandbox.journal, offset, lambda _: None), kills


def _kill_one(world: Workers, observer: Observer) -> bool:
    """Kill a worker with the shard that it sends, and start another; False: none sends."""
    owners = {
        int(process.rpartition("|")[0].rpartition("|")[2])
        for process in batches.processes(observer.run.id)
    }
    sending = {
        name: victims
        for name, child in world.services.items()
        if name.startswith("worker ") and (victims := owners & child_pids(child))
    }
    if not sending:
        return False
    name, victims = random.choice(list(sending.items()))
    world.kill(name)
    for victim in victims:
        observer.look(victim)
    world.start(name)
    return True


if __name__ == "__main__":
    sys.exit(main())
