"""A gateway kind at work: the sandbox, the ledger and the receiver, each for real, on loopback.

One sandbox process, one receiver and one SQLite file for a module; each test has a gateway of its
own name, and numbers of its own. Not here: what must come of it (test_conformance.py).
"""

import itertools
import socket
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn

from adapters.gateways import KINDS, make_gateway
from adapters.gateways.base import (
    Callback,
    Capabilities,
    Gateway,
    Inbound,
    Report,
    Timeouts,
)
from adapters.sandbox.dialect import Message as Taken
from adapters.sandbox.dialect import Post
from adapters.sandbox.dialects import all_dialects
from adapters.sandbox.journal import read_journal
from adapters.web.app import configured, create_app
from data.tables import CampaignRun, Message
from tasks import reconciliation
from tests import plans
from tests.sandboxes import SID, TOKEN, Sandbox, wait_until

_names = itertools.count(1)
_lines = itertools.count(202_300)


@dataclass
class Heard:
    """An adapter at the receiver that keeps the callbacks which proved genuine."""

    adapter: Gateway
    got: list[Callback] = field(default_factory=list)

    @property
    def capabilities(self) -> Capabilities:
        return self.adapter.capabilities

    def verify(self, callback: Callback) -> bool:
        genuine = self.adapter.verify(callback)
        if genuine:
            self.got.append(callback)
        return genuine

    def parse(self, callback: Callback) -> tuple[list[Report], list[Inbound]]:
        return self.adapter.parse(callback)


class Receiver:
    """The receiver, served by a thread; its gateways are known by name."""

    def __init__(self) -> None:
        self.gateways: dict[str, Heard] = {}
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        app = create_app(self.gateways.get, public_url=self.url)  # type: ignore[arg-type]
        self._server = uvicorn.Server(configured(app))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join()


class Stage:
    """One gateway of a kind, and what a test does with it."""

    def __init__(self, kind: str, sandbox: Sandbox, receiver: Receiver) -> None:
        self.name = f"{kind}-{next(_names)}"
        self.kind = kind
        self.sandbox = sandbox
        self.receiver = receiver
        self.settings = KINDS[kind].model_validate(sandbox.settings(kind))
        self.heard = Heard(self.gateway())
        receiver.gateways[self.name] = self.heard
        self.can = self.heard.capabilities

    def gateway(self) -> Gateway:
        """Make the adapter, as a sender does for each batch."""
        return make_gateway(
            self.name,
            self.settings,
            receiver_url=self.receiver.url,
            timeouts=Timeouts(request=10, connect=5),
        )

    # Sending

    def number(self, ending: str = "0000") -> str:
        """A number of this test alone; its last four digits decide what becomes of it."""
        return f"+1{next(_lines)}{ending}"

    def plan(self, recipients: Sequence[str], **columns: Any) -> CampaignRun:
        """Plan a run with one message to each of them."""
        run = plans.open_run(
            f"{self.name}-{next(_names)}", gateway=self.name, sender=self.settings.sender
        )
        plans.add_messages(run, list(recipients), **columns)
        return run

    def send(self, run: CampaignRun) -> None:
        """Send what is queued of a run, as a worker does."""
        plans.send(run, self.gateway)

    def sent(self, recipients: Sequence[str], **columns: Any) -> CampaignRun:
        """Plan a run, and send it."""
        run = self.plan(recipients, **columns)
        self.send(run)
        return run

    def settle(self, run: CampaignRun) -> dict[str, Message]:
        """Return a run's messages when every report has come and was reconciled."""
        wait_until(lambda: self.stats()["callbacks_waiting"] == 0)
        reconciliation.reconcile(lambda _: None, run_ids={run.id})
        return plans.messages(run)

    def reply(self, sender: str, text: str) -> int:
        """Have the sandbox hand over a reply (MO); return the receiver's answer."""
        adapter = self.heard.adapter
        reply = {
            "kind": self.kind,
            "from": sender,
            "to": self.settings.sender,
            "body": text,
            # What an operator enters at the gateway.
            "url": getattr(adapter, "inbound_url", adapter.addresses.inbound),
        }
        answer = self.sandbox.client.post("/_send_inbound", json=reply).raise_for_status()
        return int(answer.json()["status"])

    # Looking

    def stats(self) -> dict[str, int]:
        return dict(self.sandbox.client.get("/_stats").json())

    def times_taken(self, recipients: Sequence[str]) -> list[int]:
        """How often the sandbox has taken a message for each number."""
        return [len(self.sandbox.accepted(number)) for number in recipients]

    # Callbacks

    def post(self, callback: Callback) -> int:
        """Send a callback to the receiver, and return its answer's status."""
        own = {"host", "content-length", "connection", "transfer-encoding"}
        headers = {name: value for name, value in callback.headers.items() if name not in own}
        request = httpx.Request(
            callback.method, callback.url, headers=headers, content=callback.body
        )
        with httpx.Client() as client:
            return client.send(request).status_code

    def report(self, to: str, secret: str = TOKEN) -> Callback:
        """The report that a taken message was delivered, written by an account with a secret."""
        line = next(line for line in read_journal(self.sandbox.journal) if line["to"] == to)
        message = Taken(
            line["sid"],
            line["to"],
            line["from"],
            line["body"],
            line["reference"],
            line["time"],
            self.kind,
            line.get("callback", line["reference"]),
            line.get("batch", ""),
            line.get("extra", {}),
        )
        dialects = {dialect.kind: dialect for dialect in all_dialects(secret, SID)}
        [post] = dialects[self.kind].reports(message, "delivered", None, 0)
        return _as_callback(post)


def _as_callback(post: Post) -> Callback:
    headers = {name.lower(): value for name, value in post.headers.items()}
    return Callback(post.method, post.url, headers, post.body)
