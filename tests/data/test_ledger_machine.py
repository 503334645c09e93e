"""A state machine over the ledger: whatever happens in whatever order, nothing breaks.

The rules are in `ledger_sending` and `ledger_machine`, what must hold in `ledger_model`.
`SMS_CHAOS_EXAMPLES=5000` looks for longer.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from sqlalchemy import event, false, text, update

from data import deliveries, doubts, recheck, runs
from data.database import engine, writing
from data.settings import settings as installation
from data.tables import Message
from tests.data import ledger_model as model
from tests.data.ledger_machine import LedgerMachine
from tests.data.ledger_sending import clock, new_token

_MESSAGE = Message.__table__


@pytest.fixture
def simulated(database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database that does not wait for the disk, and time and ids that the machine tells."""
    monkeypatch.setenv("SMS_SECRET_KEY", "0" * 64)
    installation.cache_clear()

    @event.listens_for(engine(), "connect")
    def hurry(connection: Any, _: Any) -> None:
        if database.startswith("sqlite"):
            connection.execute("PRAGMA synchronous=OFF")

    engine().dispose()
    model.told_by(clock, monkeypatch)
    # The same choices must lead to the same ledger, or Hypothesis cannot repeat them.
    monkeypatch.setattr(runs.secrets, "token_hex", new_token)
    monkeypatch.setattr(doubts, "is_dead", LedgerMachine.known_dead.__contains__)
    return database


def run_machine(examples: int, steps: int = 40, **options: Any) -> None:
    given = {
        "max_examples": examples,
        "stateful_step_count": steps,
        "deadline": None,
        "print_blob": True,
        # Explaining traces every line, and a failure is short once it is shrunk.
        "phases": [Phase.reuse, Phase.generate, Phase.shrink],
        "suppress_health_check": list(HealthCheck),
        **options,
    }
    run_state_machine_as_test(LedgerMachine, settings=settings(**given))


@pytest.mark.timeout(0)  # a failure is shrunk, and somebody may ask for many examples
def test_no_order_of_events_breaks_the_ledger(simulated: str) -> None:
    usual = 40 if simulated.startswith("sqlite") else 10
    asked = os.environ.get("SMS_CHAOS_EXAMPLES")
    # The same orders each time, but for a long run, which is to find new ones.
    run_machine(int(asked or usual), derandomize=asked is None, database=None)


# --- the machine itself: does it find what is broken on purpose? ------------------------------


def _queue_what_is_stranded(patch: pytest.MonkeyPatch) -> None:
    strand = doubts.strand

    def strand_and_queue(run_id: str) -> int:
        stranded = strand(run_id)
        lost = (_MESSAGE.c.state == "in_doubt") & (_MESSAGE.c.reason == "sender_died")
        with writing() as connection:
            connection.execute(update(_MESSAGE).where(lost).values(state="queued"))
        return stranded

    patch.setattr(doubts, "strand", strand_and_queue)


def _let_statuses_fall(patch: pytest.MonkeyPatch) -> None:
    rise = str(deliveries._RISE).replace(deliveries._HIGHER, "folded.level > 0")
    patch.setattr(deliveries, "_RISE", text(rise))


def _forget_opt_outs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(recheck, "opt_out_stands", lambda *_: false())


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (_queue_what_is_stranded, "may be sent again"),
        (_let_statuses_fall, "became"),
        (_forget_opt_outs, "claimed what may not be"),
    ],
)
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_the_machine_finds(
    fault: Callable[[pytest.MonkeyPatch], None],
    found: str,
    simulated: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fault(monkeypatch)
    # The same examples each time, and none is shrunk: they are found within the first few dozen.
    with pytest.raises(AssertionError, match=found):
        run_machine(200, phases=[Phase.generate], database=None, derandomize=True)
