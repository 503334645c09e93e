"""What a sending process looks at every second: the lane's rate and the state of its Prefect run.

People change both in the Prefect UI, and Prefect itself stops no task that already runs. What is
seen here is written to the ledger, where every window of every worker reads it.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from prefect import get_run_logger, suspend_flow_run
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.exceptions import ObjectNotFound, Pause
from prefect.runtime import deployment, flow_run
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from adapters import blocks
from adapters.limits import rate_in_force
from data import pace, runs
from data.tables import CampaignRun
from tasks import control, routing, sending

EVERY_SECONDS = 1.0
PAUSED_SECONDS = 7 * 24 * 3600
"""How long a run that stopped keeps its Resume button in the UI."""

_log = logging.getLogger("sms.watch")


@contextmanager
def watched(run: CampaignRun, *, decides: bool = True) -> Iterator[None]:
    """Watch while the context lasts. What is seen first is in the ledger when it begins.

    `decides`: whether pausing and cancelling this Prefect run is meant for the whole campaign.
    """
    senders = routing.route_of(run).senders
    lanes = [
        _Lane(name, sender, float(blocks.load(blocks.SmsGateway, name).settings.rate))
        for name, sender in senders.items()
    ]
    own = str(flow_run.id) if decides and flow_run.id else None
    watch = _Watch(run, lanes, own)
    sending.halted.discard(run.id)
    watch.look()
    over = threading.Event()
    thread = threading.Thread(target=watch.keep_looking, args=(over,), daemon=True, name="watch")
    thread.start()
    try:
        yield
    except BaseException:
        # Told to end (a cancelled run gets SIGTERM): the batches, in threads, end their windows.
        sending.halted.add(run.id)
        with suppress(Exception):
            watch.look()
        raise
    finally:
        over.set()
        thread.join(EVERY_SECONDS)


class _Lane(NamedTuple):
    gateway: str
    sender: str
    first_rate: float
    """Messages (or segments) a second where no concurrency limit says otherwise yet."""


class _Watch:
    def __init__(self, run: CampaignRun, lanes: list[_Lane], flow_run_id: str | None) -> None:
        self._run = run
        self._lanes = lanes
        self._flow_run_id = flow_run_id
        self._trouble = ""

    def look(self) -> None:
        """Write what is in force now to the ledger: first whether to go on, then how fast."""
        state = prefect_state(self._flow_run_id)
        if state is not None:
            self._follow(state)
        for lane in self._lanes:
            rate = rate_in_force(lane.gateway, lane.sender, lane.first_rate)
            pace.set_rate(pace.lane_of(lane.gateway, lane.sender), rate)

    def _follow(self, state: State) -> None:
        if state.type in (StateType.CANCELLING, StateType.CANCELLED):
            self._cancel()
        elif state.type is StateType.PAUSED and runs.get_run(self._run.id).state == runs.SENDING:
            runs.move(self._run.id, runs.PAUSED, note=runs.PAUSED_IN_UI)

    def _cancel(self) -> None:
        if runs.get_run(self._run.id).state not in runs.ENDED:
            control.cancel(self._run.id, "cancelled in the Prefect UI")

    def keep_looking(self, over: threading.Event) -> None:
        """Look every second; go on from memory while Prefect or the database is away."""
        while not over.wait(EVERY_SECONDS):
            try:
                # Prefect's client waits 2, 4, 8 … s after a 503 and asks again, and its SQLite
                # answers that under load: the next look comes sooner.
                with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                    self.look()
                self._trouble = ""
            except Exception as error:  # noqa: BLE001 - a watcher must not die of what it watches
                if self._trouble != type(error).__name__:
                    self._trouble = type(error).__name__
                    _log.warning(
                        "run %s: its rate and Prefect state cannot be read at present (%s);"
                        " sending goes on as it was",
                        self._run.id,
                        self._trouble,
                    )


def prefect_state(flow_run_id: str | None) -> State | None:
    """Return the state of a Prefect run; None where there is none of that id."""
    if flow_run_id is None:
        return None
    with get_client(sync_client=True) as client:
        try:
            return client.read_flow_run(flow_run_id).state  # type: ignore[arg-type]
        except ObjectNotFound:
            return None


def leave_suspended(run: CampaignRun) -> None:
    """End this process with its Prefect run suspended, so that the UI can resume it.

    Returns, for the caller to fail, where the run is not paused or has no deployment: then only
    `sms resume` can start it again.
    """
    if run.state != runs.PAUSED or deployment.id is None:
        return
    get_run_logger().warning(run.note)
    state = prefect_state(flow_run.id)
    if state is not None and state.is_paused():
        raise Pause(state=state)
    suspend_flow_run(timeout=PAUSED_SECONDS)
