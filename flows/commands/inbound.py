"""Commands on replies (MO): what texts ask for, and the queue of those that a person decides.

None of them needs Prefect, and `classify` no database either.
"""

import sys
from enum import StrEnum
from typing import Annotated

import typer
from rich.table import Table

from flows.commands.console import output

ReplyId = Annotated[int, typer.Argument(help="A reply's id; `sms inbound review` lists them.")]


class Decision(StrEnum):
    """What a person can make of a reply."""

    opt_out = "opt_out"
    opt_in = "opt_in"
    none = "none"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    inbound = typer.Typer(help="Replies of recipients.", no_args_is_help=True)
    inbound.command("classify")(classify)
    inbound.command("review")(review)
    inbound.command("decide")(decide)
    app.add_typer(inbound, name="inbound")


def classify() -> None:
    """Say what each text on standard input asks for.

    One text a line in, one of opt_out, opt_in, help, review and none a line out.
    """
    from tasks import replies

    # Not by str.splitlines: a text may hold what Unicode takes for the end of a line.
    for line in sys.stdin.buffer:
        text = line.rstrip(b"\r\n").decode(errors="replace")
        print(replies.classify(text).kind)


def review(
    show: Annotated[
        int | None, typer.Option(help="Print this reply in full; it is personal.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="The oldest so many.")] = 200,
) -> None:
    """List the replies that wait for a person, oldest first, with numbers masked."""
    from data import inbound
    from data.migrate import migrate
    from tasks import reviewing

    migrate()
    if show is not None:
        _print_whole(show)
        return
    waiting = inbound.queue(limit)
    if not waiting:
        print("no reply waits for a person")
        return
    rows = [reviewing.row(reply) for reply in waiting]
    table = Table(box=None, pad_edge=False)
    for name in rows[0]:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(_plain, row.values()))
    output().print(table, markup=False)
    if (more := inbound.count_open() - len(rows)) > 0:
        print(f"{more:,} more wait; --limit shows more")


def decide(
    reply: ReplyId,
    decision: Annotated[Decision, typer.Argument(help="What the person wanted.")],
    by: Annotated[str, typer.Option(help="Who decides, for the record.")],
) -> None:
    """Decide a reply, once: the sender is opted out, opted in, or as before it."""
    from data import inbound
    from data.migrate import migrate

    migrate()
    inbound.decide(reply, decision.value, by)
    print(f"reply {reply} is decided: {decision.value}")


def _print_whole(id: int) -> None:
    from data import inbound

    reply = inbound.find(id)
    decided = f"{reply.review} by {reply.reviewed_by}" if reply.reviewed_by else reply.review
    for name, value in (
        ("received (UTC)", f"{reply.received_at:%Y-%m-%d %H:%M:%S}"),
        ("number", reply.sender),
        ("to", reply.recipient),
        ("gateway", reply.gateway),
        ("understood as", f"{reply.kind} ({reply.why})"),
        ("review", decided or "not needed"),
    ):
        print(f"{name}: {_plain(value)}")
    print()
    print("\n".join(map(_plain, reply.text.splitlines())))


def _plain(text: str) -> str:
    """Without what would steer the terminal: a stranger wrote it."""
    return "".join(character if character.isprintable() else "�" for character in text)
