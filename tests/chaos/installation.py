"""A whole installation on PostgreSQL, each service a process that can be killed and started again.

What `sms up` starts, started the same way. Not here: what a trial does with it (`stack.py`).
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any
from urllib.parse import quote

import httpx
import psutil

from flows import server
from flows.children import Child, answers
from flows.commands import services
from tests.chaos.faults import POSTGRESQL
from tests.chaos.processes import Postgres, Sandbox, free_port
from tests.chaos.world import World
from tests.sandboxes import ROOT, SID, TOKEN

REQUEST_TIMEOUT = 2.0
LEASE = 15.0
LIMIT = "sms sandbox +15005550006"
_DEPLOY = """
from flows import server
server.prepare()
from flows.commands import services
services.add_sandbox_gateway()
services.deploy()
"""


class Installation(World):
    """Server, worker, receiver, sandbox and PostgreSQL. Starts on `with`, and ends all of it."""

    postgres: Postgres

    def __init__(self, **variables: str) -> None:
        super().__init__(databases=(POSTGRESQL,))
        self._variables = variables
        self.services: dict[str, Child] = {}
        self._housekeeping: dict[str, bool] = {}

    def _start(self) -> None:
        self.folder = self._make_folder()
        inherited = {name: "" for name in os.environ if name.startswith(("SMS_", "PREFECT_"))}
        self._set(**inherited)
        for name in inherited:
            del os.environ[name]
        self.sandbox = Sandbox(self.folder)
        self.postgres = Postgres()
        self._ends.callback(self.postgres.stop)
        ports = [free_port(), free_port()]
        self._set(
            SMS_HOME=str(self.folder / "home"),
            SMS_DATABASE_URL=self.postgres.url,
            SMS_PREFECT_PORT=str(ports[0]),
            SMS_RECEIVER_PORT=str(ports[1]),
            SMS_SANDBOX_PORT=self.sandbox.url.rpartition(":")[2],
            SMS_SANDBOX_ACCOUNT_SID=SID,
            SMS_SANDBOX_AUTH_TOKEN=TOKEN,
            **{
                "SMS_LEASE_SECONDS": str(LEASE),
                "SMS_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT),
                **self._variables,
            },
        )
        self.audiences = self.folder / "home" / "audiences"
        self.audiences.mkdir(parents=True)
        self._lives(self.sandbox.start, self.sandbox.kill)
        self._start_services()

    def _start_services(self) -> None:
        before = dict(os.environ)
        self._ends.callback(os.environ.update, before)
        self._ends.callback(os.environ.clear)
        server.prepare()
        self._ends.callback(self._end_everything)
        self.api = httpx.Client(base_url=server.api_url(), timeout=10)
        self.start("server")
        done = subprocess.run(
            [sys.executable, "-c", _DEPLOY], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        self.start("receiver")
        self.start("worker")
        blocks = self.call("/block_documents/filter", {})
        self.gateway_block = next(block["id"] for block in blocks if block["name"] == "sandbox")
        self._scheduled = {
            self.call(f"/deployments/name/{name}/{name}")["id"]
            for name in ("reconcile-deliveries", "release-deferred")
        }
        self.call("/v2/concurrency_limits/", {"name": LIMIT, "limit": 100})

    def _end_everything(self) -> None:
        for name in self.services:
            self.kill(name)
        # Also what a service has started, and what a killed worker has left.
        kill_all(self.processes())

    # --- services -----------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a service again, as `sms up` starts it, and wait until it answers."""
        starts: dict[str, Callable[[], Child]] = {
            "server": server.start,
            "receiver": services.start_receiver,
            "worker": lambda: services._launch_worker(1, 1),
        }
        self.services[name] = starts[name]()

    def ensure(self) -> None:
        """Start what a trial that broke off has left dead."""
        for name, child in list(self.services.items()):
            if not child.alive:
                self.start(name)

    def kill(self, name: str, *, with_children: bool = True) -> None:
        """kill -9; of the worker also every flow that runs under it, where that is asked for."""
        guard = psutil.Process(self.services[name]._process.pid)
        kill_all(guard.children(recursive=with_children))
        self.services[name]._process.wait(10)

    def answers(self) -> bool:
        """Whether server and receiver answer."""
        return answers(f"{server.api_url()}/health") and services.receiver_answers()

    def processes(self) -> dict[psutil.Process, dict[str, str]]:
        """Every process of the installation but this one, with its environment."""
        home, found = str(self.folder / "home"), {}
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                environment = process.environ()
                ours = environment.get("SMS_HOME") == home and process.pid != os.getpid()
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found[process] = environment
        return found

    def flow_processes(self) -> dict[psutil.Process, str]:
        """The processes in which flows live, each with the id of its run."""
        return {
            process: environment["PREFECT__FLOW_RUN_ID"]
            for process, environment in self.processes().items()
            if "PREFECT__FLOW_RUN_ID" in environment
        }

    def is_housekeeping(self, flow_run_id: str) -> bool:
        """Whether a flow run only reconciles or releases: schedules start those."""
        if flow_run_id not in self._housekeeping:
            deployment = self.call(f"/flow_runs/{flow_run_id}")["deployment_id"]
            self._housekeeping[flow_run_id] = deployment in self._scheduled
        return self._housekeeping[flow_run_id]

    # --- what the UI does ---------------------------------------------------------------------

    def call(self, path: str, body: object = None, method: str = "") -> Any:
        """Call Prefect's API, again while its server is away or its own database busy."""
        ends = time.monotonic() + 60
        while True:
            try:
                answer = self.api.request(
                    method or ("GET" if body is None else "POST"), path, json=body
                )
                answer.raise_for_status()
                return answer.json() if answer.content else None
            except httpx.HTTPError as error:
                status = getattr(getattr(error, "response", None), "status_code", 503)
                if status != 503 or time.monotonic() > ends:
                    raise
                time.sleep(0.2)

    def set_rate(self, rate: int) -> None:
        """Set the lane's rate as the page of concurrency limits does."""
        self.call(f"/v2/concurrency_limits/{quote(LIMIT)}", {"limit": rate}, "PATCH")

    def start_campaign(self, name: str, people: Iterable[str]) -> str:
        """Start a campaign as the form does; return the id of its flow run."""
        path = self.audiences / f"{name}.csv"
        path.write_text("\n".join(["phone", *people]) + "\n")
        campaign = {
            "name": name,
            "key": name,
            "purpose": "transactional",
            "audience": {"kind": "csv", "path": str(path), "default_country": "US"},
            "message": "Your order is ready",
            "gateway": {"$ref": {"block_document_id": self.gateway_block}},
            "approval": False,
        }
        deployment = self.call("/deployments/name/send-campaign/send-campaign")["id"]
        body = {"parameters": {"campaign": campaign}}
        return str(self.call(f"/deployments/{deployment}/create_flow_run", body)["id"])


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """kill -9, and wait until they are gone."""
    killed = []
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
        killed.append(process)
    psutil.wait_procs(killed, 5)


def child_pids(child: Child) -> set[int]:
    """Every process of a service, by number."""
    guard = psutil.Process(child._process.pid)
    return {process.pid for process in guard.children(recursive=True)}
