"""Commands that serve until they are stopped: the receiver, the sandbox, and all of it at once."""

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data.migrate import migrate
from data.settings import PROJECT, settings
from flows import server
from flows.children import Child, ChildError, answers

if TYPE_CHECKING:
    from adapters.sandbox.dialect import Dialect

WORK_POOL = "sms"
SHARD_POOL = "sms-shards"
# Prefect's 10 seconds are long for somebody who has just pressed Submit.
_WORKER_ENV = {"PREFECT_WORKER_QUERY_SECONDS": "2"}
# A process that was stopped a moment ago may still be letting go of its port.
_PORT_SECONDS = 3.0


def register(app: typer.Typer) -> None:
    """Add these commands to the application."""
    app.command("web")(web)
    app.command("sandbox")(sandbox)
    app.command("up")(up)


def web(
    port: Annotated[int, typer.Option(help="Default: SMS_RECEIVER_PORT.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Receive delivery reports and replies, and answer STOP, HELP and START.

    Each is verified, stored, and only then acknowledged.
    """
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
    """Run the local sandbox gateway.

    It speaks the wire formats of many gateways at once and sends their delivery reports.
    """
    from adapters.sandbox.app import describe, serve

    number = port or settings().sandbox_port
    sid = settings().sandbox_account_sid
    token = settings().sandbox_auth_token.get_secret_value()
    print(describe(number, sid, token), flush=True)
    path = journal or settings().home / "sandbox.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    serve(number, journal=path, account_sid=sid, auth_token=token)


def up(
    workers: Annotated[
        int, typer.Option(min=1, help="Workers that send; more than 1 needs PostgreSQL.")
    ] = 1,
) -> None:
    """Start everything, with the UI.

    Prefect's server and UI, workers, the receiver and the sandbox. Ctrl-C stops all of it.
    """
    if workers > 1 and settings().database.startswith("sqlite"):
        raise ChildError(
            "several workers cannot share SQLite: set SMS_DATABASE_URL to a PostgreSQL database"
        )
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        server.prepare()
        found = server.is_running()
        _refuse_taken_ports(found)
        migrate()
        with ExitStack() as stack:
            try:
                children = _start_all(stack, found, workers)
                print(_directions(), flush=True)
                while True:
                    time.sleep(1)
                    for child in children:
                        if not child.alive:
                            raise ChildError(f"the {child.name} has ended; see {child.log}")
            finally:
                print("stopping …", flush=True)


def _start_all(stack: ExitStack, server_runs: bool, workers: int) -> list[Child]:
    """Start what `up` runs, side by side where it can be. Closing the stack stops it all."""
    children: list[Child] = []

    def keep(child: Child) -> Child:
        stack.callback(child.stop)
        children.append(child)
        return child

    # Seconds of import, while the server takes more than that to start.
    threading.Thread(target=import_module, args=("adapters.blocks",), daemon=True).start()
    sandbox = keep(_launch_sandbox())
    if server_runs:
        print(f"using the Prefect server at {server.ui_url()}", flush=True)
    else:
        print("starting the Prefect server …", flush=True)
        keep(server.start())
    print("registering the deployments …", flush=True)
    add_sandbox_gateway()
    receiver = keep(_launch_receiver())
    deploy()
    for number in range(1, workers + 1):
        keep(_launch_worker(number, workers))
    _await_sandbox(sandbox)
    _await_receiver(receiver)
    return children


def _launch_worker(number: int, workers: int) -> Child:
    """Start a worker: the first one for the campaigns' flows, the others for their shards."""
    name = "worker" if number == 1 else f"worker {number}"
    pool = ["--pool", WORK_POOL] if number == 1 else ["--pool", SHARD_POOL, "--limit", "1"]
    command = [sys.executable, "-m", "prefect", "worker", "start", *pool, "--name", f"sms {name}"]
    shards = {"SMS_SHARDS": str(workers - 1)} if workers > 1 else {}
    return Child(name, command, env=_WORKER_ENV | shards, log=_log(name.replace(" ", "-")))


def _refuse_taken_ports(server_runs: bool) -> None:
    """Raise `ChildError` where something else listens where a service is to."""
    ports = {"SMS_SANDBOX_PORT": settings().sandbox_port}
    ports["SMS_RECEIVER_PORT"] = settings().receiver_port
    if not server_runs:
        ports["SMS_PREFECT_PORT"] = settings().prefect_port
    ends = time.monotonic() + _PORT_SECONDS
    while taken := [name for name, port in ports.items() if _is_taken(port)]:
        if time.monotonic() > ends:
            listed = " and ".join(f"{ports[name]} ({name})" for name in taken)
            raise ChildError(
                f"port {listed} is taken: stop what uses it (another `sms up`?),"
                f" or set {' and '.join(taken)} to something else"
            )
        time.sleep(0.2)


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: connections that were closed a moment ago keep nobody from listening.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def start_receiver() -> Child:
    """Start the receiver as a child of this process and wait until it answers."""
    return _await_receiver(_launch_receiver())


def _launch_receiver() -> Child:
    command = [sys.executable, "-m", "flows", "web"]
    return Child("receiver", command, env={}, log=_log("receiver"))


def _await_receiver(child: Child) -> Child:
    child.wait_for(f"http://127.0.0.1:{settings().receiver_port}/health", 60)
    return child


def start_sandbox() -> Child:
    """Start the sandbox gateway as a child of this process and wait until it answers."""
    return _await_sandbox(_launch_sandbox())


def _launch_sandbox() -> Child:
    command = [sys.executable, "-m", "flows", "sandbox"]
    return Child("sandbox", command, env={}, log=_log("sandbox"))


def _await_sandbox(child: Child) -> Child:
    child.wait_for(f"{sandbox_url()}/_stats", 60)
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


def sandbox_kinds() -> list[str]:
    """Return the kinds of gateway that the sandbox can be, the default first."""
    return [dialect.kind for dialect in _dialects()]


def add_sandbox_gateway(kind: str = "twilio") -> None:
    """Save the gateway block `sandbox`, which leads to the local sandbox as this kind."""
    from adapters.blocks import SmsGateway
    from adapters.gateways import KINDS

    dialect = next(dialect for dialect in _dialects() if dialect.kind == kind)
    here = KINDS[kind].model_validate({**dialect.settings(sandbox_url()), "rate": 300})
    SmsGateway(settings=here).save("sandbox", overwrite=True)


def _dialects() -> "list[Dialect]":
    from adapters.sandbox.dialects import all_dialects

    token = settings().sandbox_auth_token.get_secret_value()
    return all_dialects(token, settings().sandbox_account_sid)


def deploy() -> None:
    """Create the work pool and register every deployment of prefect.yaml.

    Their runs work in the current directory, so that `.env` and relative paths mean to them what
    they mean to the command line here.
    """
    for pool in (WORK_POOL, SHARD_POOL):
        _create_work_pool(pool)
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
    done = subprocess.run(  # noqa: S603 - our own command
        [*command, "--prefect-file", str(PROJECT / "prefect.yaml")],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise ChildError(f"`prefect deploy --all` failed: {' '.join(last)}")


def _create_work_pool(name: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    pool = WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
    # One that is there may have been given limits in the UI: it stays as it is.
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(pool)


def _log(name: str) -> Path:
    return settings().home / "logs" / f"{name}.log"


def _directions() -> str:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("send-campaign/send-campaign").id
    ui = f"{server.ui_url()}/v2"
    width = min(shutil.get_terminal_size().columns, 78)
    return "\n".join(
        (
            "─" * width,
            "Start a campaign:",
            f"  {ui}/deployments/deployment/{deployment}/run",
            f"Watch and read it:  {ui}/runs (a run's Artifacts tab has its report)",
            f"Gateways:           {ui}/blocks",
            f"Receiver {settings().receiver_url}   Sandbox {sandbox_url()}   Ctrl-C stops all",
            "─" * width,
        )
    )
