"""Fixtures of the gateway tests."""

from collections.abc import AsyncIterator

import pytest

from tests.adapters.gateways.wire import Wire


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire() as server:
        yield server
