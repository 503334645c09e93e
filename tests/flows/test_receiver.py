"""The receiver knows its gateways from memory, and learns of a new one by its first callback."""

import threading
import time
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from adapters.gateways.twilio import TwilioSettings
from flows import receiver

NEW = TwilioSettings(account_sid="AC" + "1" * 32, auth_token=SecretStr("token"))


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, SimpleNamespace]]:
    """The saved gateways; asking for them takes a while, as it does over HTTP."""
    saved: list[tuple[str, SimpleNamespace]] = []

    def documents(_: object) -> list[tuple[str, SimpleNamespace]]:
        time.sleep(0.2)
        return list(saved)

    monkeypatch.setattr(receiver.blocks, "documents", documents)
    return saved


def test_every_one_of_a_new_gateways_first_callbacks_finds_it(
    home: object, blocks: list[tuple[str, SimpleNamespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateways = receiver.Gateways()
    blocks.append(("new", SimpleNamespace(settings=NEW)))
    gateways._looked_at = -10.0
    found: list[object] = []
    callers = [
        threading.Thread(target=lambda: found.append(gateways.look_up("new"))) for _ in range(8)
    ]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(found) == 8
    assert None not in found


def test_the_known_gateways_stay_known_while_prefect_is_away(
    home: object, blocks: list[tuple[str, SimpleNamespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.append(("main", SimpleNamespace(settings=NEW)))
    gateways = receiver.Gateways()

    def away(_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(receiver.blocks, "documents", away)
    gateways._looked_at = -10.0
    assert gateways.look_up("other") is None
    assert gateways.known("main") is not None
