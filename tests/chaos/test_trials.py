"""Trials of every kind of fault, and that the harness finds what it is there to find.

The same trials each time, for whoever waits for the answer; SMS_CHAOS_SEED draws others, and
`python -m tests.chaos` makes long runs.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from data.database import DatabaseError, writing
from tests.chaos import mutations, sender
from tests.chaos.bare import Bare
from tests.chaos.faults import SQLITE, Fault
from tests.chaos.judge import Verdict, judge
from tests.chaos.plan import Plan, draw
from tests.chaos.processes import Controls, fork
from tests.chaos.runner import run_all

SEED = int(os.environ.get("SMS_CHAOS_SEED", "7"))
TRIALS = 12
ATTEMPTS = 3
"""Trials in which a mutation has to be found: a kill may fall between two windows."""

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    with Bare() as trials:
        yield trials


def plan(number: int, *faults: Fault, **changes: object) -> Plan:
    """Two batches at a time of one sender, for a second and a half, on SQLite."""
    values: dict[str, object] = {
        "database": SQLITE,
        "messages": 150,
        "batch": 25,
        "rate": 100.0,
        "senders": 1,
        "in_flight": 2,
        "proves_absence": False,
        "silent": False,
        "reconciles": False,
        "faults": faults,
    }
    return Plan(SEED, number, **{**values, **changes})  # type: ignore[arg-type]


def test_whatever_happens_nobody_gets_it_twice_and_nobody_is_lost(bare: Bare) -> None:
    plans = (draw(SEED, number, bare.menu) for number in range(1, TRIALS + 1))
    outcomes = run_all(bare, plans, lambda _: None)

    assert [outcome.failure for outcome in outcomes if outcome.failure] == []


def test_kill_after_kill_leaves_no_more_in_doubt_than_was_in_flight_and_reports_settle_it(
    bare: Bare,
) -> None:
    kills = [Fault("sender killed", moment / 2) for moment in range(8)]
    late = Fault("reports late", 0, details={"seconds": 2.0, "share": 1.0})

    for number in (10_001, 10_002, 10_003):
        verdict = judge(bare.run(plan(number, late, *kills, messages=400, silent=True)))
        assert verdict.findings == []
        assert 0 < verdict.doubted <= verdict.in_flight
        # On a busy machine every kill may come before the first request of its window.
        if verdict.settled:
            break
    assert verdict.settled > 0


UNSAFE = {
    "claim": [Fault("sender killed", 0.3), Fault("sender killed", 0.8)],
    "stranding": [Fault("sender killed", 0.3), Fault("sender killed", 0.8)],
    "unknown rule": [
        Fault("gateway fails", 0.1, 0.5, {"code": 503, "accepted": True, "share": 0.5})
    ],
    # Its window is proven absent and sent by others; then it wakes up and goes on with it.
    "lease": [
        Fault("sender frozen beyond its lease", 0.1, 3.3),
        Fault("second sender beside", 2.5),
    ],
}


@pytest.mark.parametrize("mutation", mutations.NAMES)
def test_without_one_of_its_safeguards_the_same_faults_do_send_twice(
    bare: Bare, mutation: str
) -> None:
    slowly = {"rate": 35.0, "proves_absence": True} if mutation == "lease" else {}

    def attempt(number: int) -> Verdict:
        disturbed = plan(number, *UNSAFE[mutation], mutation=mutation, **slowly)
        return judge(bare.run(disturbed))

    first = 11_000 + 10 * mutations.NAMES.index(mutation)
    assert any(attempt(first + place).duplicates for place in range(ATTEMPTS))


def test_a_full_disk_is_sqlites_own(bare: Bare, tmp_path: Path) -> None:
    bare.world.use(SQLITE)
    controls = Controls()
    controls.disk_is_full = True
    process = fork(write_much, controls, log=tmp_path / "log")
    process.join(20)

    assert (process.exitcode, (tmp_path / "log").read_text()) == (0, "")


def write_much(controls: Controls) -> None:
    sender._obey(controls, None)
    insert = text(
        "INSERT INTO delivery_event (gateway, source, status, received_at, raw)"
        " VALUES ('test', 'test', 'sent', '2026-01-01 00:00:00', :raw)"
    )
    with pytest.raises(DatabaseError, match="is full"), writing() as connection:
        connection.execute(insert, {"raw": "x" * 10**6})
