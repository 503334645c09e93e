"""Standing binds beside the receiver: which are kept, what they store, and how they end."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx
import pytest

from adapters.gateways.base import Callback, Capabilities, Inbound, Report, Status
from adapters.web import listeners
from tests.adapters.web.serving import Server, SignedGateway, events, replies
from tests.sandboxes import wait_until

Store = Callable[[Sequence[Report], Sequence[Inbound], str], Awaitable[bool]]


class BoundGateway(SignedGateway):
    """A gateway with a bind; `say` is what comes over it."""

    capabilities = Capabilities(callbacks="bind")

    def __init__(self, *said: tuple[list[Report], list[Inbound]], fails: bool = False) -> None:
        self.said, self.fails = list(said), fails
        self.bind_problem = "not bound yet"
        self.binds = self.ends = 0
        self.acknowledged: list[bool] = []

    def verify(self, callback: Callback) -> bool:
        return False

    async def listen(self, store: Store) -> None:
        self.binds += 1
        if self.fails:
            raise RuntimeError("+12125550101")
        self.bind_problem = ""
        try:
            while self.said:
                self.acknowledged.append(await store(*self.said.pop(0), "raw"))
            await asyncio.Event().wait()
        finally:
            self.ends += 1


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(listeners, "AGAIN_AFTER", 0.02)


REPORT = Report(Status.DELIVERED, gateway_message_id="7", part="7", recipient="+12125550101")
STOP = Inbound("MO1", "+12125550101", "+15005550006", "STOP")


def test_what_comes_over_a_bind_is_stored(database: str, serve: Callable[..., Server]) -> None:
    gateway = BoundGateway(([REPORT], []), ([], [STOP]))
    serve(gateways={"smsc": gateway})
    wait_until(lambda: gateway.acknowledged == [True, True])
    [event], [reply] = events(), replies()
    assert (event.gateway, event.gateway_message_id, event.part, event.status, event.raw) == (
        "smsc",
        "7",
        "7",
        "delivered",
        "raw",
    )
    assert (reply.gateway, reply.sender, reply.text, reply.raw) == (
        "smsc",
        "+12125550101",
        "STOP",
        "raw",
    )


def test_one_that_fails_is_begun_again_and_takes_no_other_along(
    sqlite: str, serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = BoundGateway(fails=True), BoundGateway()
    serve(gateways={"bad": bad, "good": good})
    wait_until(lambda: bad.binds > 2)
    assert (good.binds, good.ends) == (1, 0)
    assert "the bind of gateway bad: RuntimeError" in caplog.text
    assert "5550101" not in caplog.text


def test_binds_follow_the_gateways_that_there_are(
    sqlite: str, serve: Callable[..., Server]
) -> None:
    first, second, third = BoundGateway(), BoundGateway(), BoundGateway()
    known: dict[str, Any] = {"a": first, "other": SignedGateway()}
    serve(gateways=known)
    wait_until(lambda: first.binds == 1)
    known["b"] = second
    wait_until(lambda: second.binds == 1)
    known["a"] = third  # other settings
    wait_until(lambda: (first.ends, third.binds) == (1, 1))
    del known["b"]
    wait_until(lambda: second.ends == 1)
    assert (first.binds, second.binds, third.binds, third.ends) == (1, 1, 1, 0)


def test_health_names_a_bind_that_is_down_and_stays_healthy(
    sqlite: str, serve: Callable[..., Server]
) -> None:
    bad, good = BoundGateway(fails=True), BoundGateway()
    server = serve(gateways={"bad": bad, "good": good})
    wait_until(lambda: bad.binds and good.binds)
    answer: httpx.Response = server.client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok", "binds_down": ["bad"]})


def test_binds_end_with_the_server(sqlite: str, serve: Callable[..., Server]) -> None:
    gateway = BoundGateway()
    server = serve(gateways={"smsc": gateway})
    wait_until(lambda: gateway.binds)
    server.stop()
    assert gateway.ends == 1
