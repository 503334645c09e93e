"""Commands that serve until they are stopped: the receiver, the sandbox, and all of it at once."""

import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from data.migrate import migrate
from data.settings import PROJECT, settings
from flows import server
from flows.children import Child, ChildError, answers

WORK_POOL = "sms"


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("web")(web)
    app.command("sandbox")(sandbox)
    app.command("up")(up)


def web(
    port: Annotated[int, typer.Option(help="Default: SMS_RECEIVER_PORT.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Receive delivery reports: checked, stored, and only then acknowledged."""
    migrate()
    with server.running():
        from flows.receiver import serve

        serve(host=host, port=port or settings().receiver_port)


def sandbox(
    port: Annotated[int, typer.Option(help="Default: SMS_SANDBOX_PORT.")] = 0,
    journal: Annotated[
        Path | None, typer.Option(help="File of accepted messages. Default: in SMS_HOME.")
    ] = None,
) -> None:
    """Run a local gateway that speaks Twilio's wire format and sends signed reports."""
    from adapters.sandbox.app import describe, serve

    number = port or settings().sandbox_port
    sid = settings().sandbox_account_sid
    token = settings().sandbox_auth_token.get_secret_value()
    print(describe(number, sid, token), flush=True)
    path = journal or settings().home / "sandbox.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    serve(number, journal=path, account_sid=sid, auth_token=token)


def up() -> None:
    """Start everything: Prefect server and UI, worker, receiver, sandbox. Ctrl-C stops it all."""
    migrate()
    server.prepare()
    stopping = threading.Event()
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda *_: stopping.set())
    children: list[Child] = []
    try:
        if server.is_running():
            print(f"using the Prefect server at {server.ui_url()}", flush=True)
        else:
            print("starting the Prefect server …", flush=True)
            children.append(server.start())
        children += [start_sandbox(), start_receiver()]
        add_sandbox_gateway()
        print("registering the deployments …", flush=True)
        deploy()
        children.append(_start_worker())
        print(_directions(), flush=True)
        while not stopping.wait(1):
            for child in children:
                if not child.alive:
                    raise ChildError(f"the {child.name} has ended; see {child.log}")
    finally:
        if children:
            print("stopping …", flush=True)
        for child in reversed(children):
            child.stop()


def start_receiver() -> Child:
    """Start the receiver as a child of this process and wait until it answers."""
    command = [sys.executable, "-m", "flows", "web"]
    child = Child("receiver", command, env={}, log=_log("receiver"))
    child.wait_for(f"http://127.0.0.1:{settings().receiver_port}/health", 60)
    return child


def start_sandbox() -> Child:
    """Start the sandbox gateway as a child of this process and wait until it answers."""
    command = [sys.executable, "-m", "flows", "sandbox"]
    child = Child("sandbox", command, env={}, log=_log("sandbox"))
    child.wait_for(f"{sandbox_url()}/_stats", 30)
    return child


def sandbox_url() -> str:
    """The address of the local sandbox."""
    return f"http://127.0.0.1:{settings().sandbox_port}"


def receiver_answers() -> bool:
    """Whether a receiver is listening where gateways would call."""
    return answers(f"{settings().receiver_url}/health")


def sandbox_answers() -> bool:
    """Whether a sandbox is running."""
    return answers(f"{sandbox_url()}/_stats")


def add_sandbox_gateway() -> None:
    """Save the gateway block `sandbox`, which leads to the local sandbox."""
    from adapters.blocks import SmsGateway
    from adapters.gateways.twilio import TwilioSettings

    here = TwilioSettings(
        base_url=sandbox_url(),
        account_sid=settings().sandbox_account_sid,
        auth_token=settings().sandbox_auth_token,
        sender="+15005550006",
        rate=300,
    )
    SmsGateway(settings=here).save("sandbox", overwrite=True)


def deploy() -> None:
    """Create the work pool and register every deployment of prefect.yaml."""
    prefect = [sys.executable, "-m", "prefect", "--no-prompt"]
    _run([*prefect, "work-pool", "create", WORK_POOL, "--type", "process", "--overwrite"])
    _run([*prefect, "deploy", "--all", "--prefect-file", str(PROJECT / "prefect.yaml")])


def _run(command: list[str]) -> None:
    done = subprocess.run(  # noqa: S603 - our own commands
        command, cwd=PROJECT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ChildError(f"`prefect {' '.join(command[4:6])}` failed: {' '.join(last)}")


def _start_worker() -> Child:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", WORK_POOL]
    env = {"SMS_HOME": str(settings().home.resolve()), "SMS_DATABASE_URL": settings().database}
    return Child("worker", command, env=env, log=_log("worker"))


def _log(name: str) -> Path:
    return settings().home / "logs" / f"{name}.log"


def _directions() -> str:
    width = min(shutil.get_terminal_size().columns, 78)
    return "\n".join(
        (
            "─" * width,
            f"Start a campaign:  {server.ui_url()}/deployments → send-campaign → Run → Custom run",
            f"Watch and read it: {server.ui_url()}/runs (a run's Artifacts tab has its report)",
            f"Gateways:          {server.ui_url()}/blocks",
            f"Receiver {settings().receiver_url}   Sandbox {sandbox_url()}   Ctrl-C stops all",
            "─" * width,
        )
    )
