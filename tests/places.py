"""Installations of their own, empty: for what moves from one to another."""

import uuid
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from data.database import engine
from data.settings import settings


@dataclass
class Places:
    """Makes empty installations and takes the test from one to the other."""

    request: pytest.FixtureRequest
    folder: Path
    patch: pytest.MonkeyPatch
    _made: list[str] = field(default_factory=list)

    def go(self, kind: str) -> Path:
        """Be in a new place from now on: an SMS_HOME and a database without tables."""
        engine().dispose()
        home = self.folder / f"place-{uuid.uuid4().hex[:8]}"
        self.patch.setenv("SMS_HOME", str(home))
        self.patch.setenv("SMS_DATABASE_URL", self._new() if kind == "postgresql" else "")
        settings.cache_clear()
        return settings().home

    def _new(self) -> str:
        server: Engine = self.request.getfixturevalue("postgres")
        name = f"t{uuid.uuid4().hex}"
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
        self._made.append(name)
        return server.url.set(database=name).render_as_string(hide_password=False)

    def leave(self) -> None:
        """Remove the databases."""
        engine().dispose()
        if self._made:
            server: Engine = self.request.getfixturevalue("postgres")
            with server.connect() as connection:
                for name in self._made:
                    connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
