"""Commands that run campaigns: demo, send, resume, reconcile. They find or start a server."""

import getpass
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from data.migrate import migrate
from data.settings import PROJECT, settings
from flows import server
from flows.commands import services
from flows.commands.console import output
from flows.commands.progress import shown_progress

if TYPE_CHECKING:
    from data.tables import CampaignRun
    from flows.campaign import Campaign

WAITING_FOR_APPROVAL = 3
SAMPLES = PROJECT / "data" / "samples"
_SAMPLES_SHOWN = 3


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("demo")(demo)
    app.command("send")(send)
    app.command("resume")(resume)
    app.command("reconcile")(reconcile)


def demo(
    gateway: Annotated[
        str, typer.Option(metavar="KIND", help="The gateway that the sandbox is to be.")
    ] = "twilio",
) -> None:
    """Run a whole campaign on sample contacts.

    Everything is real but the gateway, which is the local sandbox: nothing leaves this machine.
    """
    if gateway not in (kinds := services.sandbox_kinds()):
        raise typer.BadParameter(f"--gateway {gateway} is none of {', '.join(kinds)}")
    say = Console(soft_wrap=True, highlight=False)
    say.print("Starting Prefect, the sandbox gateway and the receiver …")
    with _everything(), ExitStack() as stack:
        if not services.sandbox_answers():
            stack.callback(services.start_sandbox().stop)
        services.add_sandbox_gateway(gateway)
        from flows.campaign import read_file

        campaign = read_file(SAMPLES / "campaign.yaml")
        fields = {"key": f"demo-{time.strftime('%Y%m%d-%H%M%S')}", "approval": False}
        campaign = campaign.model_copy(update=fields)
        if "SMS_REPORT_WAIT" not in os.environ:
            settings().report_wait = 30
        run_id = _run(campaign)
    say.print(f"\nRead its report: uv run sms up, then {server.ui_url()}/runs", markup=False)
    say.print(f"Every row:       uv run sms results {run_id}")


def send(
    file: Annotated[Path, typer.Argument(help="Campaign file (YAML); see data/samples.")],
    approve: Annotated[
        bool, typer.Option("--approve", help="Send at once, without waiting for approval.")
    ] = False,
) -> None:
    """Send one campaign. Exit code 3: it waits for `sms resume RUN --approve`."""
    _allow_folder_of(file)
    with _everything():
        from flows.campaign import read_file

        campaign = read_file(file)
        if approve:
            campaign = campaign.model_copy(update={"approval": False})
        _run(campaign)


def resume(
    run: Annotated[str, typer.Argument(help="A run's id or key; `sms runs` lists them.")],
    approve: Annotated[bool, typer.Option("--approve", help="Approve what was previewed.")] = False,
    reject: Annotated[bool, typer.Option("--reject", help="End it; nothing is sent.")] = False,
    note: Annotated[str, typer.Option(help="What the record should say.")] = "",
) -> None:
    """Go on with a run, or approve it.

    After an interruption, a pause, a mended fault, or for the approval that it waits for.
    """
    if approve and reject:
        raise typer.BadParameter("--approve and --reject exclude each other")
    from data import runs
    from tasks import control

    migrate()
    found = runs.find_run(run)
    if reject:
        control.reject(found.id, note, getpass.getuser())
        _conclude(found.id)
    if approve:
        runs.approve(found.id, by=getpass.getuser(), note=note)
    elif found.state == runs.WAITING:
        _conclude(found.id)
    if found.state in (runs.REJECTED, runs.CANCELLED):
        raise runs.RunError(f"run {found.id} is {found.state}: it is over")
    with _everything():
        from flows.resume_campaign import resume_campaign

        with shown_progress(lambda: found.id), _stopped_by_ctrl_c(lambda: found.id):
            resume_campaign(found.id)
    _conclude(found.id)


def reconcile() -> None:
    """Match delivery reports, once.

    Polls for missing ones too, and rebuilds the results that changed.
    """
    with server.running():
        migrate()
        from flows.reconcile_deliveries import reconcile_deliveries

        done = reconcile_deliveries()
    for name in ("matched", "waiting", "polled", "expired", "rebuilt"):
        print(f"{name} {done[name]:,}")
    for problem in done["problems"]:
        print(f"problem: {problem}")


@contextmanager
def _everything() -> Iterator[None]:
    """The Prefect server, and the receiver where it is to be on this machine."""
    migrate()
    # A command says what went wrong in one line; Prefect's own log goes to its server.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    with ExitStack() as stack:
        stack.enter_context(server.running())
        if not services.receiver_answers():
            if settings().public_url:
                Console(stderr=True).print(
                    f"no receiver answers at {settings().public_url}: delivery reports will be"
                    " polled, later than they could be; start `sms web` there",
                    markup=False,
                    soft_wrap=True,
                )
            else:
                stack.callback(services.start_receiver().stop)
        yield


def _allow_folder_of(file: Path) -> None:
    """Let a campaign file read audiences beside it and from here: who runs this has a shell."""
    settings().audience_folders = [*settings().folders, file.resolve().parent, Path.cwd()]


def _run(campaign: "Campaign") -> str:
    from data import runs
    from flows.send_campaign import send_campaign

    key = campaign.key_in_force(None)
    runs.refuse_taken(key)
    with shown_progress(lambda: runs.id_of(key)), _stopped_by_ctrl_c(lambda: runs.id_of(key)):
        summary: dict[str, Any] = send_campaign(campaign)
    _conclude(summary["run"])
    return str(summary["run"])


@contextmanager
def _stopped_by_ctrl_c(run_id: Callable[[], str | None]) -> Iterator[None]:
    """Stop a run when its command is interrupted: somebody meant to stop it.

    Otherwise `revive-campaign` would take it for one whose process died, and go on with it.
    """
    from data import runs

    try:
        yield
    except KeyboardInterrupt:
        found = run_id()
        state = runs.get_run(found).state if found else ""
        if found and state == runs.SENDING:
            note = f"interrupted by Ctrl-C: `sms resume {found}` goes on"
            runs.move(found, runs.PAUSED, note=note)
            print(f"run {found} is paused; sms resume {found}", flush=True)
        elif found and state == runs.PREPARING:
            runs.move(found, runs.FAILED, note="interrupted by Ctrl-C while it was prepared")
            print(f"run {found} has ended before anything was sent", flush=True)
        raise


def _conclude(run_id: str) -> None:
    """Print where a run stands; exit 3 where it waits for a person."""
    from data import results, runs
    from data.database import reading
    from tasks import reporting

    run = runs.get_run(run_id)
    out = output()
    for note in run.counts.get("notes", ()):
        print(f"note: {note}")
    if run.state == runs.WAITING:
        _print_plan(out, run)
        out.print(f"\nsms resume {run.id} --approve   or   sms resume {run.id} --reject")
        print(f"run {run.id}")
        raise typer.Exit(WAITING_FOR_APPROVAL)
    _print_rows(out, reporting.outcome_table(run.id))
    with reading() as connection:
        account = results.check(connection, run.id)
    print(f"Accounted for {account.accounted:,} of {account.read:,} rows")
    print(f"run {run.id}")


def _print_plan(out: Console, run: "CampaignRun") -> None:
    """Print what a plan comes to and how its messages read; nothing in it is personal."""
    from data import figures
    from data.database import reading
    from data.privacy import mask_column
    from tasks import wording

    with reading() as connection:
        plan = figures.planned(connection, run.id)
        samples = figures.sample_messages(connection, run.id, _SAMPLES_SHOWN)
    told = plan.assign(
        outcome=plan["outcome"].replace("queued", "to send"),
        reason=plan["reason"].map(wording.reason),
    )
    # By reason, as the result will be; by rule and source it is in the preview.
    rows = told.groupby(["outcome", "reason"], sort=False, as_index=False)["rows"].sum()
    _print_rows(out, zip(rows["outcome"], rows["reason"], rows["rows"], strict=True))
    texts = samples["text"].map(wording.SampleText(run.parameters["message"]).mask)
    for row, to, text in zip(samples["row"], mask_column(samples["recipient"]), texts, strict=True):
        out.print(f"row {row} to {to}: {text}", markup=False)


def _print_rows(out: Console, rows: Iterable[tuple[str, str, int]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("outcome")
    table.add_column("reason")
    table.add_column("rows", justify="right")
    for outcome, reason, count in rows:
        table.add_row(outcome, reason, f"{count:,}")
    out.print(table, markup=False)
