"""One installation for all flow tests: a Prefect server, a sandbox gateway and a receiver.

Each is a real process. The tests share them and the database; every test has campaigns, keys and
numbers of its own. Tests may import Prefect modules at their top.
"""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import pytest
from pydantic import SecretStr

from data.migrate import migrate
from data.settings import settings
from flows import server
from flows.commands import services
from tests import sandboxes
from tests.flows.campaigns import Desk
from tests.sandboxes import SID, TOKEN, Sandbox


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """The sandbox of the whole folder."""
    started = sandboxes.start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield started
    started.kill()
    started.client.close()


@pytest.fixture(scope="session")
def installation(
    tmp_path_factory: pytest.TempPathFactory, free_port: Callable[[], int], running: Sandbox
) -> Iterator[dict[str, str]]:
    """The environment of every process of the installation."""
    home = tmp_path_factory.mktemp("installation")
    prefect_port = free_port()
    environment = {
        "SMS_HOME": str(home),
        "SMS_DATABASE_URL": "",
        "SMS_PREFECT_PORT": str(prefect_port),
        "SMS_RECEIVER_PORT": str(free_port()),
        "SMS_SANDBOX_PORT": str(running.port),
        "SMS_REPORT_WAIT": "20",
        "PREFECT_API_URL": f"http://127.0.0.1:{prefect_port}/api",
        "PREFECT_HOME": str(home / "prefect"),
        "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    }
    with ThreadPoolExecutor(1) as beside, inside(environment), ExitStack() as stack:
        starting = beside.submit(stack.enter_context, server.running())
        import great_expectations  # noqa: F401 - five seconds, while the server starts

        stack.enter_context(prefect_settings(environment))
        starting.result()
        save_gateway("sandbox")
        stack.callback(services.start_receiver().stop)
        yield environment


@contextmanager
def prefect_settings(environment: dict[str, str]) -> Iterator[None]:
    """Prefect's settings for this process, which may have read others when it was imported."""
    from prefect import context, settings

    own = {
        settings.PREFECT_API_URL: environment["PREFECT_API_URL"],
        settings.PREFECT_HOME: environment["PREFECT_HOME"],
        # Every flow run waits a second for its heart to stop.
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
    }
    with settings.temporary_settings(own):
        # Threads see the settings of the process alone.
        mine = context.SettingsContext.get()
        with mock.patch.object(context, "GLOBAL_SETTINGS_CONTEXT", mine):
            yield


@pytest.fixture(autouse=True)
def here(installation: dict[str, str], running: Sandbox) -> Iterator[None]:
    """Every test runs inside the installation, and no fault is left at the sandbox."""
    running.client.delete("/_faults")
    with inside(installation):
        migrate()
        yield


@pytest.fixture
def desk(here: None, running: Sandbox, tmp_path: Path) -> Desk:
    """Writes audiences and campaigns of this test, and gives commands."""
    return Desk(tmp_path, running)


class inside:  # noqa: N801 - reads as what it is: a context
    """The environment of the installation, and settings read from it."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._patch = mock.patch.dict(os.environ, environment)

    def __enter__(self) -> None:
        self._patch.start()
        server.prepare()
        settings.cache_clear()

    def __exit__(self, *_: object) -> None:
        self._patch.stop()
        settings.cache_clear()


def save_gateway(name: str, *, token: str = TOKEN, rate: float = 1000, address: str = "") -> None:
    """Save a gateway block that leads to the sandbox, or to another address."""
    from adapters.blocks import SmsGateway
    from adapters.gateways.twilio import TwilioSettings

    here = TwilioSettings(
        base_url=address or services.sandbox_url(),
        account_sid=SID,
        auth_token=SecretStr(token),
        sender="+15005550006",
        rate=rate,
    )
    SmsGateway(settings=here).save(name, overwrite=True)
