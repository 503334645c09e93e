"""Fixtures of the receiver's tests: a server that ends with its test."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.adapters.web.serving import Server


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(*args: Any, **more: Any) -> Server:
        servers.append(Server(*args, **more))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def server(sqlite: str, serve: Callable[..., Server]) -> Server:
    return serve()
