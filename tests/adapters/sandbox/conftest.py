"""A real sandbox process, a real receiver of its callbacks, and a client with its credentials."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl

import httpx
import pytest

ROOT = Path(__file__).parents[3]
SID = "AC" + "0123456789abcdef" * 2
TOKEN = "the-auth-token"
SERVE = """
import sys
from pathlib import Path
from adapters.sandbox.app import serve
serve(int(sys.argv[1]), journal=Path(sys.argv[2]), account_sid=sys.argv[3], auth_token=sys.argv[4],
      outcomes="delivered", report_delay=(0.1, 0.2))
"""


@dataclass
class Sandbox:
    """A sandbox process and how to talk to it."""

    journal: Path
    port: int
    process: subprocess.Popen[bytes]
    client: httpx.Client
    _numbers: Iterator[int] = field(default_factory=lambda: count(2_000_000))

    messages = f"/2010-04-01/Accounts/{SID}/Messages.json"

    def number(self) -> str:
        """Return a number that nobody used and that nothing is special about."""
        return f"+1202{next(self._numbers):07d}"

    def send(self, to: str | None = None, **form: str) -> httpx.Response:
        form = {"From": "+15005550006", "Body": "Hello", **form}
        return self.client.post(self.messages, data={"To": to or self.number(), **form})

    def order(self, *rules: dict[str, object]) -> None:
        self.client.post("/_faults", json=list(rules)).raise_for_status()

    def accepted(self, to: str) -> list[dict[str, object]]:
        return self.client.get("/_messages", params={"to": to}).json()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@dataclass
class Callback:
    target: str
    headers: dict[str, str]
    form: dict[str, str]


class Receiver:
    """Takes callbacks at `url(ref)` and keeps them by ref; answers what `answers` says."""

    def __init__(self) -> None:
        self.got: dict[str, list[Callback]] = defaultdict(list)
        self.answers: dict[str, list[int]] = {}
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                form = dict(parse_qsl(body, keep_blank_values=True, strict_parsing=True))
                ref = self.path.rpartition("ref=")[2]
                receiver.got[ref].append(Callback(self.path, dict(self.headers), form))
                answers = receiver.answers.get(ref)
                self.send_response(answers.pop(0) if answers else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, ref: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/gateways/main/reports?ref={ref}"

    def statuses(self, ref: str) -> list[str]:
        return [callback.form["MessageStatus"] for callback in self.got[ref]]


def start(journal: Path) -> Sandbox:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(port), str(journal), SID, TOKEN], cwd=ROOT
    )
    client = httpx.Client(base_url=f"http://127.0.0.1:{port}", auth=(SID, TOKEN), timeout=10)
    sandbox = Sandbox(journal, port, process, client)
    wait_until(lambda: _answers(client))
    return sandbox


def wait_until(holds: Callable[[], object], seconds: float = 15) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not come to hold in time"
        time.sleep(0.01)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/_stats").is_success
    except httpx.TransportError:
        return False


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(name="start")
def _start() -> Iterator[Callable[[Path], Sandbox]]:
    started: list[Sandbox] = []

    def starting(journal: Path) -> Sandbox:
        started.append(start(journal))
        return started[-1]

    yield starting
    for sandbox in started:
        sandbox.kill()
        sandbox.client.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.client.delete("/_faults")
    return running


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
