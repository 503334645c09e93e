"""The commands `backup` and `restore`. Neither needs a Prefect server, running or not.

What an archive holds is in `data.backup`; added here are the gateways, which are Prefect's.
"""

import os
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer

from data.settings import settings
from flows import server

_PREFECT = "prefect/prefect.db"
# Gateways, sources, the key of their secrets, and limits. Not its runs and schedules: a server
# that finds runs it has missed starts them, and would send what has been sent.
_KEPT = (
    *("alembic_version", "configuration", "block_type", "block_schema", "block_schema_reference"),
    *("block_document", "block_document_reference", "concurrency_limit_v2"),
)
_NAMES = """
    SELECT d.name FROM block_document AS d JOIN block_type AS t ON t.id = d.block_type_id
    WHERE t.slug IN ('sms-gateway', 'sms-source') AND d.is_anonymous = 0 ORDER BY d.name
"""


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("backup")(backup)
    app.command("restore")(restore)


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write; it must not exist yet.")],
) -> None:
    """Write the whole installation into one archive, while everything runs.

    It holds numbers, texts and keys: keep it as secret as the database.
    """
    from data.backup import backup as write

    # Inside SMS_HOME, which nobody else may read.
    with tempfile.TemporaryDirectory(dir=settings().home) as folder:
        more, names = {}, []
        if (path := _prefect_database()) is not None:
            more[_PREFECT] = Path(folder) / "prefect.db"
            names = _copy_gateways(path, more[_PREFECT])
        made = write(file, more)
    print(f"{file}: {sum(made.rows.values()):,} rows, as of {made.taken:%Y-%m-%d %H:%M:%S} UTC")
    if more:
        print(f"gateways and sources in it: {', '.join(names) or 'none'}")
    else:
        print("gateways are not in it: Prefect keeps them in a database outside of SMS_HOME")
    if settings().secret_key:
        print("the secret key is not in it: keep SMS_SECRET_KEY")


def restore(
    file: Annotated[Path, typer.Argument(help="An archive that `sms backup` wrote.")],
    nothing_sent_since: Annotated[
        bool,
        typer.Option(
            "--nothing-sent-since",
            help="All senders were stopped before the backup and have stayed so.",
        ),
    ] = False,
) -> None:
    """Restore an archive into an empty SMS_HOME and an empty database.

    What waited in it may have been sent since, so it is put in doubt: nobody gets it twice.
    """
    from data.backup import restore as read

    done = read(file, nothing_sent_since=nothing_sent_since)
    taken = f"{done.manifest.taken:%Y-%m-%d %H:%M:%S} UTC"
    print(f"restored {sum(done.manifest.rows.values()):,} rows, as of {taken}")
    for run, count in done.stopped.items():
        print(
            f"run {run}: {count:,} messages may have been sent since and are in doubt;"
            f" `sms resume {run}` asks the gateway about them and goes on"
        )
    for run in done.ended:
        print(f"run {run}: cancelled, it may have been planned and sent since")
    if not nothing_sent_since:
        print(
            "opt-outs since then are not in it: `sms consent import` them before you resume a run"
        )


def _prefect_database() -> Path | None:
    """The database of the Prefect server, where it is the one that this installation starts."""
    path = settings().home / _PREFECT
    elsewhere = ("PREFECT_SERVER_DATABASE_CONNECTION_URL", "PREFECT_API_DATABASE_CONNECTION_URL")
    remote = urlsplit(server.api_url()).port != settings().prefect_port
    if remote or any(os.environ.get(name) for name in elsewhere):
        return None
    return path if path.exists() else None


def _copy_gateways(source: Path, target: Path) -> list[str]:
    """Copy what a new Prefect server needs to know the gateways; return the names of them."""
    with closing(sqlite3.connect(target, timeout=30, isolation_level=None, uri=True)) as copy:
        copy.execute("ATTACH DATABASE ? AS live", [f"{source.resolve().as_uri()}?mode=ro"])
        copy.execute("BEGIN")
        made = "SELECT sql FROM live.sqlite_master WHERE sql IS NOT NULL AND type = ?"
        for kind in ("table", "index"):
            for (statement,) in copy.execute(made, [kind]).fetchall():
                if not statement.startswith("CREATE TABLE sqlite_"):
                    copy.execute(statement)
        for table in _KEPT:
            copy.execute(f"INSERT INTO main.{table} SELECT * FROM live.{table}")  # noqa: S608
        copy.execute("COMMIT")
        return [name for (name,) in copy.execute(_NAMES)]
