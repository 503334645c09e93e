"""A sandbox gateway in a process of its own, for every test that sends."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import httpx

from adapters.sandbox.dialects import all_dialects

ROOT = Path(__file__).parents[1]
SID = "AC" + "0123456789abcdef" * 2
TOKEN = "the-auth-token-of-tests"
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

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def settings(self, kind: str) -> dict[str, str]:
        """Return the settings with which an adapter of this kind sends to it."""
        dialects = {dialect.kind: dialect for dialect in all_dialects(TOKEN, SID)}
        return dialects[kind].settings(self.url)

    def number(self) -> str:
        """Return a number that nobody used and that nothing is special about."""
        return f"+1202{next(self._numbers):07d}"

    def send(self, to: str | None = None, **form: str) -> httpx.Response:
        form = {"From": "+15005550006", "Body": "Hello", **form}
        return self.client.post(self.messages, data={"To": to or self.number(), **form})

    def order(self, *rules: dict[str, object]) -> None:
        self.client.post("/_faults", json=list(rules)).raise_for_status()

    def accepted(self, to: str) -> list[dict[str, object]]:
        """Return what it has taken for a number, by any gateway, the newest first."""
        return self.client.get("/_messages", params={"to": to}).json()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


def start(journal: Path, serve: str = SERVE) -> Sandbox:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-c", serve, str(port), str(journal), SID, TOKEN], cwd=ROOT
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
