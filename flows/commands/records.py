"""Commands on what is stored: runs, results, rejects. None of them needs Prefect."""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from data.migrate import migrate
from flows.commands.console import output

RunId = Annotated[str, typer.Argument(help="A run's id or key; `sms runs` lists them.")]


class Format(StrEnum):
    """Formats of an export."""

    csv = "csv"
    json = "json"
    parquet = "parquet"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("runs")(list_runs)
    app.command("results")(export_results)
    app.command("rejects")(export_rejects)
    app.command("pause")(pause)
    app.command("cancel")(cancel)


def list_runs(
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 20,
) -> None:
    """List the runs, newest first, and what those wait for that are not over."""
    from data import runs, switches
    from tasks.waiting import waiting

    migrate()
    found = runs.list_runs(limit=limit)
    table = Table(box=None, pad_edge=False)
    for name in ("run", "key", "purpose", "state", "rows", "started (UTC)", "note"):
        table.add_column(name, overflow="fold")
    for run in found:
        read = "" if run.records_read is None else f"{run.records_read:,}"
        started = f"{run.created_at:%Y-%m-%d %H:%M}"
        table.add_row(run.id, run.key, run.purpose, run.state, read, started, run.note)
    output().print(table, markup=False)
    for run in found:
        for wait in waiting(run):
            print(f"{run.id}{' STUCK' if wait.stuck else ''}: {wait.says}")
        for switch in switches.of_run(run.id) if run.state not in runs.ENDED else ():
            print(
                f"{run.id}: gateway {switch.gateway} was taken out at"
                f" {switch.happened_at:%Y-%m-%d %H:%M} UTC: it {switch.reason};"
                f" {switch.moved:,} messages moved"
            )


def export_results(
    run: RunId,
    format: Annotated[Format, typer.Option(help="csv, json or parquet.")] = Format.csv,
) -> None:
    """Export the results of a run.

    To standard output: one row for each audience record.
    """
    from data import results, runs

    migrate()
    results.export(runs.find_run(run).id, format.value, sys.stdout.buffer)


def export_rejects(run: RunId) -> None:
    """Export the invalid rows of a run.

    To standard output as CSV: row, column, reason.
    """
    from data import results, runs

    migrate()
    results.rejects(runs.find_run(run).id, sys.stdout.buffer)


def pause(run: RunId) -> None:
    """Pause a run.

    The window that is on its way still leaves; `sms resume` goes on.
    """
    from data import runs

    migrate()
    found = runs.find_run(run)
    runs.move(found.id, runs.PAUSED, note=runs.PAUSED_BY_HAND)
    print(f"run {found.id} is paused")


def cancel(
    run: RunId, note: Annotated[str, typer.Option(help="Why, for the record.")] = ""
) -> None:
    """End a run for good. What was handed to the gateway before is still reported on."""
    from data import runs
    from tasks import control

    migrate()
    found = runs.find_run(run)
    control.cancel(found.id, note or "cancelled by hand")
    print(f"run {found.id} is cancelled")
