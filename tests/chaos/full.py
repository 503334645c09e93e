"""The menu of faults of the trials with the whole stack, and striking them.

Names are those of the bare trials where the fault is the same. Not here: when (`stack.py`).
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from data import runs
from tasks import control
from tests.chaos import faults
from tests.chaos.faults import POSTGRESQL, Fault, Kind, _drawn
from tests.chaos.installation import REQUEST_TIMEOUT, kill_all
from tests.chaos.plan import Size

if TYPE_CHECKING:
    from tests.chaos.stack import Trial

Mend = Callable[[], None]

SIZE = Size(databases=(POSTGRESQL,), messages=(60, 150), span=(3.0, 5.0), faults=(1, 2))
"""Two faults at most: a process that starts again takes as long as all of the sending."""
_SERVER = "Prefect server killed"
_SHARED = (
    "opt-outs",
    "cancelled",
    "database restarted",
    "gateway killed",
    "gateway resets",
    "gateway closes",
    "gateway hangs",
    "gateway throttles",
    "gateway fails",
    "reports doubled",
    "reports shuffled",
    "reports late",
    "reports never",
    "reports before the answer",
)
MENU: Sequence[Kind] = (
    Kind("flow killed", _drawn()),
    Kind("worker and flow killed", _drawn(lasts=(0.1, 1.0))),
    Kind("worker killed", _drawn(lasts=(0.1, 1.0))),
    Kind(_SERVER, _drawn(lasts=(0.1, 1.0))),
    Kind("receiver killed", _drawn(lasts=(0.1, 1.0))),
    Kind("second resume beside", _drawn(moment=(0.0, 0.5))),
    Kind(
        "paused and resumed",
        _drawn(lasts=(0.2, 2.0), by=("the command", "the UI")),
        ends_the_run=True,
    ),
    *(kind for kind in faults.BARE if kind.name in _SHARED),
)


def rules(fault: Fault) -> list[dict[str, object]]:
    """Return the rules that the sandbox is to follow while a fault lasts; none: not its fault."""
    scale = REQUEST_TIMEOUT / faults.REQUEST_TIMEOUT
    return [
        {**rule, "seconds": rule["seconds"] * scale} if rule["kind"] == "slow" else rule
        for rule in faults.rules(fault)
    ]


def _kill_flow(trial: "Trial", _: Fault) -> None:
    for process in trial.senders():
        # Resumed by hand, it is nobody's: what died is then for people to go on with.
        trial.revivable = process.pid not in trial.resumes
        kill_all([process])
        trial.observer.look(process.pid)


def _kill_worker_and_flow(trial: "Trial", fault: Fault) -> Mend:
    before = trial.senders()
    trial.world.kill("worker")
    _kill_flow(trial, fault)
    for process in before:
        trial.observer.look(process.pid)
    trial.revivable = False
    return lambda: trial.world.start("worker")


def _kill_worker(trial: "Trial", fault: Fault) -> Mend:
    trial.watch(fault)
    trial.world.kill("worker", with_children=False)
    trial.revivable = False

    def start() -> None:
        trial.unwatch(fault)
        trial.world.start("worker")

    return start


def _kill_server(trial: "Trial", _: Fault) -> Mend:
    trial.world.kill("server")
    trial.revivable = False
    return lambda: trial.world.start("server")


def _kill_receiver(trial: "Trial", _: Fault) -> Mend:
    trial.world.kill("receiver")
    return lambda: trial.world.start("receiver")


def _kill_gateway(trial: "Trial", fault: Fault) -> Mend:
    trial.watch(fault)
    trial.count_unclear()
    trial.world.sandbox.kill()

    def start() -> None:
        trial.world.sandbox.start()
        trial.unwatch(fault)

    return start


def _restart_database(trial: "Trial", fault: Fault) -> Mend:
    trial.watch(fault)
    trial.revivable = False
    trial.world.postgres.crash()

    def start() -> None:
        trial.world.postgres.start()
        trial.unwatch(fault)

    return start


def _second_resume(trial: "Trial", _: Fault) -> None:
    if trial.observer.state() == runs.SENDING:
        trial.resume()


def _pause(trial: "Trial", fault: Fault) -> Mend | None:
    try:
        runs.move(trial.observer.run.id, runs.PAUSED, note="by chaos")
    except runs.RunError:
        return None  # too late: it is sent
    trial.paused = True

    def go_on() -> None:
        trial.paused = False
        if fault.details["by"] == "the UI" and trial.resume_in_the_ui():
            return
        trial.resume()

    return go_on


def _cancel(trial: "Trial", _: Fault) -> None:
    flow_run = runs.get_run(trial.observer.run.id).flow_run_id
    trial.cancelling_at = time.time()
    # The button does nothing where the server is away, or the process that would see it is.
    if flow_run in trial.world.flow_processes().values() and not trial.plan.has(_SERVER):
        state = {"state": {"type": "CANCELLING", "name": "Cancelling"}, "force": True}
        trial.world.call(f"/flow_runs/{flow_run}/set_state", state)
    else:
        with suppress(runs.RunError):  # too late
            control.cancel(trial.observer.run.id, "by chaos")


def _opt_out(trial: "Trial", fault: Fault) -> None:
    trial.observer.opt_out(fault.details["share"])


STRIKES: dict[str, Callable[["Trial", Fault], Mend | None]] = {
    "flow killed": _kill_flow,
    "worker and flow killed": _kill_worker_and_flow,
    "worker killed": _kill_worker,
    _SERVER: _kill_server,
    "receiver killed": _kill_receiver,
    "gateway killed": _kill_gateway,
    "database restarted": _restart_database,
    "second resume beside": _second_resume,
    "paused and resumed": _pause,
    "cancelled": _cancel,
    "opt-outs": _opt_out,
}
