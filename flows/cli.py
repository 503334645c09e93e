"""The `sms` command: its commands put together, and errors as one line for people.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 waiting for approval.
"""

import os
import sys

import typer
from rich.console import Console

from data.errors import SmsError
from flows.commands import backups, campaigns, consent, gateways, inbound, records, services

app = typer.Typer(
    name="sms",
    help="SMS campaigns: every audience row ends with exactly one outcome.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
campaigns.register(app)
services.register(app)
records.register(app)
consent.register(app)
gateways.register(app)
inbound.register(app)
backups.register(app)

WAITING = 3


def main() -> None:
    """Run a command; an error for people becomes one line on stderr and exit code 1."""
    # For whatever this and its children write: logs, databases, backups. All of it is private.
    before = os.umask(0o077)
    try:
        app()
    except SmsError as error:
        Console(stderr=True, soft_wrap=True, highlight=False).print(
            f"sms: {error}", style="red", markup=False
        )
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader (`head`) has what it wanted. Python would complain at exit without this.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    finally:
        os.umask(before)
