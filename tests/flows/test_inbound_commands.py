"""The commands and the artifact with which people work through replies."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete, insert
from sqlmodel import col

from data.database import now, writing
from data.identity import number_keys
from data.tables import ConsentEvent, InboundMessage
from flows import server
from tasks import reviewing
from tests.flows.campaigns import Desk
from tests.sandboxes import ROOT

NUMBER = "+12015550123"
TEXT = "call me on +1 201 555 0199,\nwho is this?"
CLASSIFY = """
import sys
from flows import cli

sys.argv = ["sms", "inbound", "classify"]
cli.main()
if {"prefect", "sqlalchemy", "pandas"} & set(sys.modules):
    sys.exit("imports more than it needs")
"""


def classified(lines: bytes) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY], cwd=ROOT, input=lines, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().splitlines()


def store(*replies: dict[str, Any]) -> None:
    usual = {
        "gateway": "sandbox",
        "sender": NUMBER,
        "recipient": "+15005550006",
        "text": TEXT,
        "number_key": number_keys([NUMBER])[0],
        "kind": "review",
        "why": "unclear",
        "review": "open",
        "received_at": now(),
        "raw": "",
    }
    rows = [usual | {"gateway_message_id": f"in-{reply['id']}"} | reply for reply in replies]
    with writing() as connection:
        connection.execute(delete(InboundMessage))
        if rows:
            connection.execute(insert(InboundMessage), rows)


@pytest.fixture
def clean(here: None) -> Iterator[None]:
    """Leaves nobody held or opted out in the installation that other tests share."""
    yield
    store()
    with writing() as connection:
        key = number_keys([NUMBER])[0]
        connection.execute(delete(ConsentEvent).where(col(ConsentEvent.number_key) == key))


def artifact() -> dict[str, Any]:
    wanted = {"artifacts": {"key": {"any_": [reviewing.ARTIFACT]}}}
    found = httpx.post(f"{server.api_url()}/artifacts/latest/filter", json=wanted).json()
    return dict(found[0])


def test_each_line_of_texts_has_one_answer_whatever_it_holds() -> None:
    lines = b"STOP\n\nYES\r\nhi \xff there\nstop\x0bplease\n\xe2\x80\xa8\nhelp"
    assert classified(lines) == ["opt_out", "none", "review", "none", "opt_out", "none", "help"]


def test_no_texts_have_no_answers() -> None:
    assert classified(b"") == []


@pytest.mark.usefixtures("clean")
def test_the_list_is_masked_and_one_reply_is_shown_in_full(desk: Desk) -> None:
    store({"id": 7}, {"id": 8, "kind": "opt_out"}, {"id": 9, "review": "none"})
    listed = desk.sms("inbound", "review").out
    assert all(word in listed for word in ("unclear (held)", "opt_out (acted on)", "who is this?"))
    assert "\n9" not in listed
    assert not any(part in listed for part in ("5550123", "555 0199", "5550199"))
    whole = desk.sms("inbound", "review", "--show", 7).out
    assert NUMBER in whole
    assert "\n\ncall me on +1 201 555 0199,\nwho is this?" in whole


@pytest.mark.usefixtures("clean")
def test_what_a_stranger_wrote_cannot_steer_the_terminal(desk: Desk) -> None:
    store({"id": 7, "text": "\x1b[2Jhello\x07"})
    for arguments in (("review",), ("review", "--show", 7)):
        out = desk.sms("inbound", *arguments).out
        assert "hello" in out
        assert "\x1b" not in out
        assert "\x07" not in out


@pytest.mark.usefixtures("clean")
def test_a_reply_is_decided_once(desk: Desk) -> None:
    store({"id": 7})
    assert "reply 7 is decided" in desk.sms("inbound", "decide", 7, "opt_out", "--by", "ann").out
    again = desk.sms("inbound", "decide", 7, "none", "--by", "bob")
    assert again.code == 1
    assert "decided already: opt_out, by ann" in again.err
    assert "no reply waits" in desk.sms("inbound", "review").out


@pytest.mark.usefixtures("clean")
def test_the_artifact_is_masked_capped_and_made_only_where_something_changed() -> None:
    store()
    reviewing.show_replies()
    store(*({"id": id, "text": f"{TEXT} <b>|{id}|"} for id in range(1, 203)))
    reviewing.show_replies()
    first = artifact()
    rows = json.loads(first["data"])
    assert len(rows) == reviewing.SHOWN
    assert "202 replies wait" in first["description"]
    assert "`sms inbound review`" in first["description"]
    assert rows[0]["text"].endswith(r"\<b\>\|1\|")
    assert not any(part in first["data"] for part in ("5550123", "555 0199"))
    reviewing.show_replies()
    assert artifact()["id"] == first["id"]
    store()
    reviewing.show_replies()
    assert (artifact()["data"], artifact()["description"]) == ("[]", "No reply waits for a person.")
