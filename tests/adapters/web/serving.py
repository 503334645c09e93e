"""The receiver served on loopback by a thread, a gateway that signs, and what was stored."""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import uvicorn
from sqlalchemy import select

from adapters.gateways.base import Callback, CallbackError, Capabilities, Inbound, Report, Status
from adapters.web.app import configured, create_app
from adapters.web.inbox import OnInbound
from data.database import reading
from data.tables import DeliveryEvent, InboundMessage

KEY = b"gateway-secret"
PUBLIC = "https://sms.example.com/hooks"
NUMBER = "+14155550123"


class SignedGateway:
    """A gateway that signs method, address and body, and speaks JSON."""

    capabilities = Capabilities(inbound_reply="<Response/>")

    def verify(self, callback: Callback) -> bool:
        signed = hmac.new(KEY, callback.url.encode() + callback.body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(signed, callback.headers.get("x-signature", ""))

    def parse(self, callback: Callback) -> tuple[list[Report], list[Inbound]]:
        told = json.loads(callback.body or b"{}")
        if "text" in told:
            return [], [Inbound("MO1", NUMBER, "+15005550006", told["text"])]
        if "status" not in told:
            raise CallbackError("no status: is this the address of another gateway?")
        reference = told.get("ref")
        return [Report(Status(told["status"]), reference, "SM1", NUMBER)], []


class Server:
    """The application, served on loopback by a thread."""

    def __init__(
        self,
        on_inbound: OnInbound | None = None,
        *,
        refresh: Callable[[], None] | None = None,
        gateways: dict[str, SignedGateway] | None = None,
    ) -> None:
        known = {"main": SignedGateway()} if gateways is None else gateways
        app = create_app(
            known.get,  # type: ignore[arg-type]
            public_url=PUBLIC + "/",
            on_inbound=on_inbound,
            refresh=refresh,
            everyone=lambda: known,  # type: ignore[arg-type,return-value]
        )
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.address = self.socket.getsockname()
        self._server = uvicorn.Server(configured(app))
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self.socket]}, daemon=True
        )
        self._thread.start()
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.address[1]}", timeout=20)
        while not self._server.started:
            time.sleep(0.01)

    def post(
        self, body: Any, path: str = "/gateways/main/reports", **headers: str
    ) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        signature = hmac.new(KEY, (PUBLIC + path).encode() + content, hashlib.sha256).hexdigest()
        return self.client.post(path, content=content, headers={"x-signature": signature} | headers)

    def stop(self) -> None:
        self.client.close()
        self._server.should_exit = True
        self._thread.join()


def events() -> list[Any]:
    with reading() as connection:
        table = DeliveryEvent.__table__  # type: ignore[attr-defined]
        return list(connection.execute(select(table).order_by(table.c.id)))


def replies() -> list[Any]:
    with reading() as connection:
        return list(connection.execute(select(InboundMessage.__table__)))  # type: ignore[attr-defined]
