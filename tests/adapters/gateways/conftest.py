"""Fixtures of the gateway tests."""

from collections.abc import AsyncIterator

import pytest

from adapters.gateways import KINDS
from tests.adapters.gateways.example import HTTP_KINDS, Example
from tests.adapters.gateways.wire import Wire


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with Wire() as server:
        yield server


@pytest.fixture(params=sorted(KINDS))
def any_kind(request: pytest.FixtureRequest) -> str:
    """Each gateway kind in turn."""
    name: str = request.param
    return name


@pytest.fixture(params=HTTP_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind that sends by HTTP in turn."""
    name: str = request.param
    return name


@pytest.fixture
def example(kind: str) -> Example:
    # Imported here: the examples need the gateways' SDKs, and other tests do not.
    from tests.adapters.gateways.contract import EXAMPLES

    return EXAMPLES[kind]
