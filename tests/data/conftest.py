"""Fixtures of the tests of what is stored."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.places import Places


@pytest.fixture
def places(
    request: pytest.FixtureRequest, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Places]:
    """Takes the test to empty installations."""
    made = Places(request, tmp_path, monkeypatch)
    yield made
    made.leave()
