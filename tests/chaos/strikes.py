"""Striking a bare trial with what is no rule of the sandbox: processes, clocks, databases, people.

One function a kind of fault; it returns how to mend it, if that is for the trial to do. Not here:
when (`bare.py`), and with which details (`faults.py`).
"""

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from data import runs
from data.settings import settings
from tasks import control
from tests.chaos.faults import Fault
from tests.chaos.processes import fork, hold_lock, kill

if TYPE_CHECKING:
    from tests.chaos.bare import Sender, Trial

Mend = Callable[[], None]


def _victim(trial: "Trial") -> "Sender | None":
    living = [one for one in trial.senders if one.process.is_alive()]
    return trial.chance.choice(living) if living else None


def _kill_sender(trial: "Trial", _: Fault) -> None:
    if victim := _victim(trial):
        kill(victim.process)
        trial.observer.look(victim.pid)
        trial.senders.remove(victim)


def _kill_receiver(trial: "Trial", _: Fault) -> Mend:
    trial.place.receiver.kill()
    return trial.place.receiver.start


def _kill_gateway(trial: "Trial", _: Fault) -> Mend:
    trial.world.sandbox.kill()
    return trial.world.sandbox.start


def _kill_reconciler(trial: "Trial", _: Fault) -> None:
    kill(trial.beside.pop())
    trial.start_reconciler()


def _freeze_sender(trial: "Trial", fault: Fault) -> Mend | None:
    victim = _victim(trial)
    if victim is None:
        return None
    os.kill(victim.pid, signal.SIGSTOP)
    trial.watch(fault)
    # What somebody does who sees that nothing moves.
    trial.start_sender()

    def thaw() -> None:
        trial.unwatch(fault)
        with suppress(ProcessLookupError):
            os.kill(victim.pid, signal.SIGCONT)

    return thaw


def _set_clock(trial: "Trial", fault: Fault) -> None:
    if victim := _victim(trial):
        victim.controls.clock_offset = fault.details["seconds"]
        # Its leases are wrong for as long as it lives.
        trial.watch(fault)


def _second_sender(trial: "Trial", _: Fault) -> None:
    if trial.observer.state() == runs.SENDING:
        trial.start_sender()


def _pause(trial: "Trial", _: Fault) -> Mend | None:
    try:
        runs.move(trial.observer.run.id, runs.PAUSED, note="by chaos")
    except runs.RunError:
        return None  # too late: it is sent
    trial.paused = True

    def resume() -> None:
        trial.paused = False
        trial.start_sender()

    return resume


def _cancel(trial: "Trial", _: Fault) -> None:
    try:
        with suppress(runs.RunError):  # too late
            control.cancel(trial.observer.run.id, "by chaos")
    finally:
        # Also where the command breaks off after it has cancelled.
        if trial.observer.state() == runs.CANCELLED:
            trial.observer.cancelled_at = time.time()


def _opt_out(trial: "Trial", fault: Fault) -> None:
    trial.observer.opt_out(fault.details["share"])


def _crash_database(trial: "Trial", fault: Fault) -> Mend:
    assert trial.world.postgres is not None
    trial.watch(fault)
    trial.world.postgres.crash()

    def start() -> None:
        assert trial.world.postgres is not None
        trial.world.postgres.start()
        trial.unwatch(fault)

    return start


def _cut_connections(trial: "Trial", _: Fault) -> None:
    assert trial.world.postgres is not None
    trial.observer.look()
    trial.world.postgres.cut_senders()
    trial.observer.look()


def _fill_disk(trial: "Trial", fault: Fault) -> Mend:
    trial.watch(fault)
    full = list(trial.senders)
    for one in full:
        one.controls.disk_is_full = True

    def free() -> None:
        for one in full:
            one.controls.disk_is_full = False
        trial.unwatch(fault)

    return free


def _lock_database(trial: "Trial", fault: Fault) -> Mend:
    trial.watch(fault)
    path = settings().database.removeprefix("sqlite:///")
    trial.beside.insert(0, fork(hold_lock, path, fault.lasts, log=trial.log))
    return lambda: trial.unwatch(fault)


STRIKES: dict[str, Callable[["Trial", Fault], Mend | None]] = {
    "sender killed": _kill_sender,
    "receiver killed": _kill_receiver,
    "gateway killed": _kill_gateway,
    "reconciler killed": _kill_reconciler,
    "sender frozen beyond its lease": _freeze_sender,
    "clock set in the sender": _set_clock,
    "second sender beside": _second_sender,
    "paused and resumed": _pause,
    "cancelled": _cancel,
    "opt-outs": _opt_out,
    "database restarted": _crash_database,
    "database connections cut": _cut_connections,
    "disk full": _fill_disk,
    "database locked": _lock_database,
}
