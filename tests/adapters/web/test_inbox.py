"""What the receiver says while its database, or its own inbox, does not do what it should."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from adapters.web import inbox
from adapters.web.inbox import Inbox
from data import database as database_module
from data.database import DatabaseError, engine, writing
from tests.adapters.web.serving import Server, events
from tests.sandboxes import wait_until

SENT = {"status": "sent"}


@contextmanager
def locked() -> Iterator[None]:
    """Another program that holds SQLite's write lock."""
    holder = sqlite3.connect(str(engine().url.database), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def test_a_locked_database_is_answered_503_and_then_works_again(
    home: Path, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server], request: Any
) -> None:
    monkeypatch.setattr(database_module, "_BUSY_SECONDS", 0.2)
    request.getfixturevalue("sqlite")
    server = serve()
    with locked():
        reply = server.post({"status": "sent"})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        assert server.client.get("/health").status_code == 200
    assert events() == []
    assert server.post({"status": "sent"}).status_code == 204
    assert len(events()) == 1


def test_a_full_queue_is_answered_503(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server]
) -> None:
    monkeypatch.setattr(inbox, "_HELD", inbox._ROW + 100)  # room for two of them at most
    monkeypatch.setattr(inbox, "_GROUP", 1)
    server = serve()
    with ThreadPoolExecutor(6) as pool:
        with writing():
            sent = [pool.submit(server.post, {"status": "sent"}) for _ in range(6)]
            while sum(reply.done() for reply in sent) < 4:
                time.sleep(0.01)
            assert {reply.result().status_code for reply in sent if reply.done()} == {503}
        codes = [reply.result().status_code for reply in sent]
    assert 1 <= codes.count(204) == len(events()) <= 2
    assert server.post({"status": "sent"}).status_code == 204, "room was not given back"


def test_nobody_waits_for_a_locked_database_longer_than_gateways_do(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server]
) -> None:
    monkeypatch.setattr(inbox, "PATIENCE", 0.3)
    server = serve()
    with locked():
        reply = server.post({"status": "sent", "ref": "late"})
        assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")
        wait_until(lambda: server.client.get("/health").status_code == 503)
        assert "does not take" in server.client.get("/health").json()["status"]
    # What was refused because it took too long is stored all the same.
    wait_until(lambda: [event.reference for event in events()] == ["late"])
    assert server.post(SENT).status_code == 204
    assert server.client.get("/health").status_code == 200


def test_an_inbox_that_fails_is_answered_503_and_goes_on(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = Inbox._commit

    def fail(self: Inbox, group: Any) -> None:
        monkeypatch.setattr(Inbox, "_commit", commit)
        raise SystemExit

    monkeypatch.setattr(Inbox, "_commit", fail)
    assert [server.post(SENT).status_code for _ in range(2)] == [503, 204]
    assert len(events()) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_without_the_inbox_everybody_is_answered_503_and_nobody_hangs(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, serve: Callable[..., Server]
) -> None:
    def die(*_: object) -> None:
        raise SystemExit

    monkeypatch.setattr(inbox, "PATIENCE", 0.3)
    monkeypatch.setattr(Inbox, "_tell", die)
    server = serve()
    assert [server.post(SENT).status_code for _ in range(3)] == [503] * 3
    health = server.client.get("/health")
    assert (health.status_code, "restart the receiver" in health.json()["status"]) == (503, True)
    assert len(events()) == 1  # stored, and not acknowledged: never the other way round


def row(reference: str = "m1") -> dict[str, Any]:
    at = database_module.now()
    return {"gateway": "main", "source": "callback", "status": "sent", "received_at": at} | {
        "reference": reference
    }


def test_the_end_waits_for_what_has_arrived(sqlite: str) -> None:
    async def serve_and_stop() -> list[bool]:
        box = Inbox()
        box.start()
        stores = [asyncio.create_task(box.store([row()])) for _ in range(20)]
        await asyncio.sleep(0)
        await box.stop()
        assert not await box.store([row("too late")])
        return await asyncio.gather(*stores)

    assert asyncio.run(serve_and_stop()) == [True] * 20
    assert [event.reference for event in events()] == ["m1"] * 20


def test_the_end_does_not_wait_for_a_database_that_does_not_answer(
    sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "PATIENCE", 0.3)

    async def serve_and_stop() -> bool:
        box = Inbox()
        box.start()
        store = asyncio.create_task(box.store([row()]))
        await asyncio.sleep(0)
        await box.stop()
        return await store

    with locked():
        assert asyncio.run(serve_and_stop()) is False
        assert events() == []


@pytest.mark.parametrize(
    ("bad", "error", "commits"),
    [
        pytest.param("all", DatabaseError("away"), 1, id="the database is away: once for all"),
        pytest.param("m63", RuntimeError(), 13, id="one of 64 is bad: halves of halves"),
    ],
)
def test_a_group_is_not_tried_one_by_one(
    sqlite: str, monkeypatch: pytest.MonkeyPatch, bad: str, error: Exception, commits: int
) -> None:
    commit, tried = Inbox._commit, []

    def attempt(self: Inbox, group: Any) -> None:
        tried.append(len(group))
        if bad == "all" or any(entry.reports[0]["reference"] == bad for entry in group):
            raise error
        commit(self, group)

    monkeypatch.setattr(Inbox, "_commit", attempt)

    async def store() -> list[bool]:
        box = Inbox()
        box._loop = asyncio.get_running_loop()
        stores = [asyncio.create_task(box.store([row(f"m{place}")])) for place in range(64)]
        monkeypatch.setattr(box._thread, "is_alive", lambda: True)
        await asyncio.sleep(0)
        monkeypatch.undo()
        monkeypatch.setattr(Inbox, "_commit", attempt)
        box.start()
        stored = await asyncio.gather(*stores)
        await box.stop()
        return stored

    stored = asyncio.run(store())
    assert len(tried) == commits
    assert stored == [False] * 64 if bad == "all" else [*[True] * 63, False]
    assert len(events()) == sum(stored)
