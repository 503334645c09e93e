"""What lives across trials: the sandbox, a database of each kind with its receiver, the settings.

Not here: what a trial does with it (`bare.py`).
"""

import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from data import database
from data.migrate import migrate
from data.settings import settings
from tests.chaos.faults import LEASE, POSTGRESQL, REQUEST_TIMEOUT, SQLITE
from tests.chaos.processes import Postgres, Receiver, Sandbox


@dataclass(slots=True)
class Place:
    """A database and the receiver that stores in it."""

    name: str
    url: str
    receiver: Receiver


class World:
    """Everything that trials share. Starts on `with`, and leaves nothing running."""

    def __init__(self, databases: Sequence[str] = (SQLITE, POSTGRESQL)) -> None:
        self._databases = databases
        self._ends = ExitStack()
        self.places: dict[str, Place] = {}
        self.postgres: Postgres | None = None

    def __enter__(self) -> Self:
        with ExitStack() as unless_started:
            unless_started.callback(self._ends.close)
            self._start()
            unless_started.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.close()

    def _start(self) -> None:
        self.folder = self._make_folder()
        self._set(
            SMS_HOME=str(self.folder / "home"),
            SMS_DATABASE_URL="",
            SMS_SECRET_KEY="a key for trials",
            SMS_LEASE_SECONDS=str(LEASE),
            SMS_REQUEST_TIMEOUT=str(REQUEST_TIMEOUT),
        )
        self.sandbox = Sandbox(self.folder)
        self._lives(self.sandbox.start, self.sandbox.kill)
        for name in self._databases:
            self._add(name)

    def _make_folder(self) -> Path:
        folder = tempfile.TemporaryDirectory(prefix="sms-chaos-", ignore_cleanup_errors=True)
        return Path(self._ends.enter_context(folder))

    def _add(self, name: str) -> None:
        url = ""
        if name == POSTGRESQL:
            self.postgres = Postgres()
            self._ends.callback(self.postgres.stop)
            url = self.postgres.url
        place = Place(name, url, Receiver(self.folder, self.sandbox.url))
        self.places[name] = place
        self.use(name)
        migrate()
        self._ends.callback(database.engine().dispose)
        self._lives(place.receiver.start, place.receiver.kill)

    def _lives(self, start: Callable[[], None], kill: Callable[[], None]) -> None:
        self._ends.callback(kill)
        start()

    def _set(self, **variables: str) -> None:
        before = {name: os.environ.get(name) for name in variables}

        def restore() -> None:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            settings.cache_clear()

        self._ends.callback(restore)
        os.environ.update(variables)
        settings.cache_clear()

    def use(self, name: str) -> Place:
        """Work on this database from now on, and so will every process that is started."""
        database.engine().dispose()
        place = self.places[name]
        os.environ["SMS_DATABASE_URL"] = place.url
        settings.cache_clear()
        return place
