"""Commands on what is stored: runs, results, rejects, consent. None of them needs Prefect."""

import sys
from enum import StrEnum
from pathlib import Path
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
    consent = typer.Typer(help="The consent ledger.", no_args_is_help=True)
    consent.command("import")(import_consent)
    consent.command("explain")(explain_consent)
    app.add_typer(consent, name="consent")


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
    runs.move(found.id, runs.PAUSED, note="paused by hand")
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


def import_consent(
    file: Annotated[Path, typer.Argument(help="CSV or Parquet: phone, type, occurred_at, …")],
    default_country: Annotated[
        str, typer.Option(help="For numbers without a country code, such as US.")
    ] = "",
) -> None:
    """Append opt-ins and opt-outs to the consent ledger."""
    import pandas as pd

    from adapters.sources import CsvAudience, ParquetAudience, open_source
    from tasks import consent

    migrate()
    kind = ParquetAudience if file.suffix.lower() == ".parquet" else CsvAudience
    source = open_source(kind(path=str(file)), folders=[file.resolve().parent])
    partitions = list(source.partitions())
    unread = pd.concat([partition.rejects for partition in partitions])
    imported = consent.import_consent(
        (partition.frame for partition in partitions),
        default_country=default_country,
        name=file.name,
    )
    rejects = pd.concat([unread, imported.rejects]).fillna("")
    print(
        f"{imported.read + len(unread):,} records read, {imported.recorded:,} recorded,"
        f" {len(rejects):,} rejected"
    )
    for row, column, reason in rejects.itertuples(index=False):
        print(f"row {row}: {column or 'the whole record'}: {reason}")


def explain_consent(
    file: Annotated[Path, typer.Option(help="Cases, one JSON object a line; - for stdin.")],
) -> None:
    """Print the verdict on each case as a JSON line: send, defer or block, with the rules."""
    import orjson

    from data.errors import SmsError
    from tasks import consent_cases

    try:
        lines = sys.stdin.buffer if str(file) == "-" else file.open("rb")
    except OSError as error:
        raise SmsError(f"{file}: cannot be read: {error.strerror}; name a file of cases") from None
    failed = False
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            case = orjson.loads(line)
            if not isinstance(case, dict):
                raise SmsError("not a JSON object")
            print(orjson.dumps(consent_cases.explain(case)).decode())
        except (orjson.JSONDecodeError, SmsError) as error:
            # The other cases still want their verdicts; each output line answers one input line.
            print(orjson.dumps({"error": f"line {number}: {error}"}).decode())
            failed = True
    if failed:
        raise SmsError(f"{file}: some cases could not be judged; their lines say why")
