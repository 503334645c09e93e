"""The receiver knows its gateways from memory, and learns of a new one by its first callback."""

import itertools
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


def test_a_gateway_that_was_added_a_moment_ago_is_found(
    home: object, blocks: list[tuple[str, SimpleNamespace]]
) -> None:
    gateways = receiver.Gateways()
    blocks.append(("new", SimpleNamespace(settings=NEW)))
    assert gateways.known("new") is None
    gateways.refresh()
    assert gateways.known("new") is not None


def test_prefect_is_asked_once_a_second_at_most(
    home: object, blocks: list[tuple[str, SimpleNamespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    gateways = receiver.Gateways()
    looks: list[float] = []
    monkeypatch.setattr(
        receiver.blocks, "documents", lambda _: looks.append(time.monotonic()) or []
    )
    callers = [threading.Thread(target=gateways.refresh) for _ in range(3)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert len(looks) == 3
    assert min(after - before for before, after in itertools.pairwise(looks)) >= 1


def test_the_known_gateways_stay_known_while_prefect_is_away(
    home: object, blocks: list[tuple[str, SimpleNamespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.append(("main", SimpleNamespace(settings=NEW)))
    gateways = receiver.Gateways()

    def away(_: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(receiver.blocks, "documents", away)
    with pytest.raises(receiver.PrefectAwayError):
        gateways.refresh()
    assert gateways.known("main") is not None


def test_a_gateway_that_cannot_be_made_takes_no_other_along(
    home: object, blocks: list[tuple[str, SimpleNamespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks.append(("main", SimpleNamespace(settings=NEW)))
    gateways = receiver.Gateways()
    blocks += [
        ("bad", SimpleNamespace(settings=SimpleNamespace(kind="pigeon"))),
        ("new", SimpleNamespace(settings=NEW)),
    ]
    blocks[0] = ("main", SimpleNamespace(settings=SimpleNamespace(kind="pigeon")))
    gateways.refresh()
    assert gateways.known("bad") is None
    assert gateways.known("new") is not None
    assert gateways.known("main") is not None, "as it was known before"
    blocks[:] = []
    gateways.refresh()
    assert gateways.known("main") is None, "it has been deleted"


def test_a_gateway_stays_the_same_object_until_its_settings_change(
    home: object, blocks: list[tuple[str, SimpleNamespace]]
) -> None:
    """One that holds a bind would have to bind again."""
    blocks.append(("main", SimpleNamespace(settings=NEW)))
    gateways = receiver.Gateways()
    before = gateways.everyone()["main"]
    blocks[0] = ("main", SimpleNamespace(settings=NEW.model_copy()))
    gateways.refresh()
    assert gateways.everyone()["main"] is before
    changed = NEW.model_copy(update={"auth_token": SecretStr("another")})
    blocks[0] = ("main", SimpleNamespace(settings=changed))
    gateways.refresh()
    assert gateways.everyone()["main"] is not before
