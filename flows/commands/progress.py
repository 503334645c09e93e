"""Progress of a run on the terminal: a bar with rate and time left, or plain lines elsewhere."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flows.commands.console import output

_PLAIN_SECONDS = 5.0


@contextmanager
def shown_progress(run_id: Callable[[], str | None]) -> Iterator[None]:
    """Show a run's progress from the ledger for as long as the context lasts."""
    over = threading.Event()
    watcher = threading.Thread(target=_watch, args=(run_id, over), daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(2)


def _watch(run_id: Callable[[], str | None], over: threading.Event) -> None:
    console = Console(stderr=True, highlight=False)
    known = None
    while known is None and not over.wait(0.2):
        known = run_id()
    if known is None:
        return
    if console.is_terminal and sys.stdin.isatty():
        _bar(console, known, over)
    else:
        # Scripts take what stands on stderr for the one line that says what went wrong.
        _lines(output(), known, over)


def _counts(run_id: str) -> tuple[str, int, int]:
    """The state of a run, its messages that no longer wait, and all of them."""
    from data import ledger, runs

    counts = ledger.state_counts(run_id)
    deferred = counts.get(ledger.DEFERRED, 0)
    waiting = counts.get(ledger.QUEUED, 0) + counts.get(ledger.SENDING, 0)
    total = sum(counts.values()) - deferred
    return runs.get_run(run_id).state, total - waiting, total


def _bar(console: Console, run_id: str, over: threading.Event) -> None:
    columns = (
        TextColumn("{task.description:>12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        shown = progress.add_task("preparing", total=None, rate="")
        while not over.wait(0.25):
            state, done, total = _counts(run_id)
            progress.update(
                shown,
                description=state.replace("_", " "),
                completed=done if state != "preparing" else 0,
                total=total if state != "preparing" else None,
            )
            speed = progress.tasks[0].speed
            progress.update(shown, rate=f"{speed:,.0f}/s" if speed else "")


def _lines(console: Console, run_id: str, over: threading.Event) -> None:
    before, before_at, state_shown = 0, time.monotonic(), ""
    while not over.wait(0.25):
        state, done, total = _counts(run_id)
        passed = time.monotonic() - before_at
        if state != state_shown:
            console.print(f"{state.replace('_', ' ')} …")
            state_shown, before, before_at = state, done, time.monotonic()
        elif state == "sending" and passed >= _PLAIN_SECONDS and done > before:
            rate = (done - before) / passed
            left = (total - done) / rate
            console.print(f"sent {done:,} of {total:,}, {rate:,.0f}/s, {left:,.0f} s left")
            before, before_at = done, time.monotonic()
