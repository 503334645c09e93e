"""The project's own receiver and sender around a gateway that nobody here wrote."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import uvicorn
from pydantic import SecretStr

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.kannel import Kannel as KannelAdapter
from adapters.gateways.kannel import KannelSettings
from adapters.web.app import configured, create_app
from tests.gateways_real.kannel import PASSWORD, USER, Kannel
from tests.gateways_real.network import own_network
from tests.sandboxes import wait_until


@contextmanager
def receiving(listening: socket.socket, known: dict[str, Gateway], url: str) -> Iterator[None]:
    """Serve the receiver by a thread, as `sms web` does."""
    app = create_app(known.get, public_url=url, everyone=lambda: known)
    server = uvicorn.Server(configured(app))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    wait_until(lambda: server.started)
    yield
    server.should_exit = True
    thread.join()


@dataclass
class Chain:
    """A running Kannel, and how the project reaches it."""

    kannel: Kannel
    gateway: Callable[[], KannelAdapter]
    receiver_url: str
    known: dict[str, Gateway]
    """The gateways that the receiver knows; a test may add some."""


@pytest.fixture
def chain(sqlite: str, tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Chain]:
    """Kannel and our receiver, each with the address of the other."""
    with own_network(), socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        kannel = Kannel(tmp_path, free_port)
        receiver_url = f"http://127.0.0.1:{listening.getsockname()[1]}"

        def gateway() -> KannelAdapter:
            made = make_gateway(
                "kannel",
                KannelSettings(
                    base_url=kannel.base_url,
                    username=USER,
                    password=SecretStr(PASSWORD),
                    callback_token=SecretStr("the-callback-token"),
                    max_parts=10,
                    sender="Acme",
                ),
                receiver_url=receiver_url,
                timeouts=Timeouts(request=5, connect=2),
            )
            assert isinstance(made, KannelAdapter)
            return made

        kannel.configure(gateway().inbound_url)
        known: dict[str, Gateway] = {"kannel": gateway()}
        try:
            with receiving(listening, known, receiver_url):
                kannel.start()
                yield Chain(kannel, gateway, receiver_url, known)
        finally:
            kannel.stop()
