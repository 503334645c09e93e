"""What every benchmark shares: a fresh installation, a clock, figures, and the table of them.

Not here: anything that is measured. A benchmark is a module with a `run` that returns a `Report`.
"""

import os
import platform
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

import psutil
from rich.table import Table

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.twilio import TwilioSettings
from data.database import engine
from data.migrate import migrate
from data.settings import settings
from tests.sandboxes import SID, TOKEN

GATEWAY = "sandbox"
SENDER = "+15005550006"
RECEIVER_URL = "https://sms.example.com"


@dataclass
class Timing:
    """Seconds on the clock, and of this process on a core: the second hardly feels neighbours."""

    seconds: float = 0.0
    cpu: float = 0.0


@dataclass(frozen=True)
class Figure:
    """How fast one way of doing it was."""

    way: str
    count: int
    timing: Timing

    @property
    def rate(self) -> float:
        """How many a second."""
        return self.count / self.timing.seconds

    @property
    def cpu_each(self) -> float:
        """Microseconds of CPU for one."""
        return self.timing.cpu / self.count * 1e6


@dataclass
class Report:
    """Ours beside plain alternatives that were measured in the same run."""

    what: str
    unit: str
    first_mark: int
    ours: Figure
    plain: list[Figure]
    notes: list[str] = field(default_factory=list)


@contextmanager
def timed(process: int | None = None) -> Iterator[Timing]:
    """Time what is done inside; CPU time is that of this process, or of the one named."""
    watched = psutil.Process(process)
    timing = Timing()
    cpu, begun = sum(watched.cpu_times()[:2]), time.perf_counter()
    yield timing
    timing.seconds = time.perf_counter() - begun
    timing.cpu = sum(watched.cpu_times()[:2]) - cpu


@contextmanager
def fresh_home() -> Iterator[Path]:
    """An installation of its own on the real disk: settings, key and a migrated SQLite file."""
    with tempfile.TemporaryDirectory(prefix="sms-bench-") as folder:
        with patch.dict(os.environ, {"SMS_HOME": folder, "SMS_DATABASE_URL": ""}):
            settings.cache_clear()
            migrate()
            try:
                yield Path(folder)
            finally:
                engine().dispose()
        settings.cache_clear()


def gateway(base_url: str = "http://127.0.0.1:9") -> Gateway:
    """The adapter of the sandbox, made as the flow makes it."""
    account = TwilioSettings.model_validate(
        {"account_sid": SID, "auth_token": TOKEN, "base_url": base_url}
    )
    return make_gateway(
        GATEWAY,
        account,
        receiver_url=RECEIVER_URL,
        timeouts=Timeouts(request=settings().request_timeout),
        requests_in_flight=settings().requests_in_flight,
    )


def free_port() -> int:
    """Name a port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def table(reports: list[Report]) -> Table:
    """Ours, and below it each alternative with how many times as fast ours is."""
    shown = Table(title=machine(), title_justify="left", title_style="")
    for name in ("", "way"):
        shown.add_column(name)
    for name in ("a second", "CPU µs each", "ours is", "first mark"):
        shown.add_column(name, justify="right", no_wrap=True)
    for report in reports:
        ours, mark = report.ours, f"{report.first_mark:,}" if report.first_mark else ""
        if mark:
            mark += " met" if ours.rate >= report.first_mark else " MISSED"
        shown.add_row(f"{report.what}, {report.unit}", *_cells(ours), "", mark)
        for plain in report.plain:
            shown.add_row("", *_cells(plain), f"{ours.rate / plain.rate:,.1f} ×")
        shown.add_section()
    return shown


def _cells(figure: Figure) -> tuple[str, str, str]:
    return figure.way, f"{figure.rate:,.0f}", f"{figure.cpu_each:,.1f}"


def machine() -> str:
    """Say on what, and how busy it was."""
    cores, load = os.cpu_count() or 1, os.getloadavg()[0]
    # The benchmark itself keeps the cores busy; what is above them waited for somebody else.
    busy = " (others were at work: compare ratios and CPU, not rates)" if load > cores + 1 else ""
    return (
        f"{cores} cores ({_processor()}), Python {platform.python_version()},"
        f" load {load:.1f}{busy}, a write to disk {_sync() * 1000:.1f} ms"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if platform.system() == "Linux" else []
    names = (line.partition(": ")[2] for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def _sync(times: int = 50) -> float:
    """Seconds until one page is on the disk: the floor of every commit."""
    with tempfile.NamedTemporaryFile(prefix="sms-bench-") as file:
        begun = time.perf_counter()
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            os.fsync(file.fileno())
        return (time.perf_counter() - begun) / times
