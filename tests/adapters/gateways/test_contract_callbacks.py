"""What every gateway adapter must make of callbacks, whatever its wire format."""

import json
import re
import sys
import time
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from urllib.parse import urlsplit

import pytest

from adapters.gateways.base import Callback, CallbackError, Gateway, Inbound, Report, Status
from tests.adapters.gateways.contract import gateway
from tests.adapters.gateways.example import SUBMISSION, Example


def altered(callback: Callback) -> list[Callback]:
    """A callback with each byte changed of what it says: the body, or the query if it has none."""
    if callback.body:
        bodies = (change(callback.body, place) for place in range(len(callback.body)))
        return [replace(callback, body=body) for body in bodies]
    start = callback.url.index("?") + 1
    urls = (change(callback.url.encode(), place) for place in range(start, len(callback.url)))
    return [replace(callback, url=url.decode()) for url in urls]


def change(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def test_a_genuine_callback_verifies(kind: str, example: Example) -> None:
    assert gateway(kind, "http://127.0.0.1:1").verify(example.sign(example.report))


def test_a_callback_without_its_signature_or_token_does_not_verify(
    kind: str, example: Example
) -> None:
    assert not gateway(kind, "http://127.0.0.1:1").verify(example.report)


def test_a_callback_that_was_changed_does_not_verify(kind: str, example: Example) -> None:
    made, genuine = gateway(kind, "http://127.0.0.1:1"), example.sign(example.report)
    if made.capabilities.callbacks == "signed":
        forged = altered(genuine)
    else:
        # The token is all that shows where it comes from, and is good for one address.
        start = genuine.url.index("token=") + len("token=")
        places = range(start, start + 32)
        changed = [change(genuine.url.encode(), place).decode() for place in places]
        others = [("ref=m1", "ref=m2"), ("sub=s1", "sub=s2"), ("/main/", "/other/")]
        elsewhere = [genuine.url.replace(*words) for words in others if words[0] in genuine.url]
        assert len(elsewhere) == 2
        forged = [replace(genuine, url=url) for url in changed + elsewhere]
    assert [callback for callback in forged if made.verify(callback)] == []


def test_a_callback_that_holds_its_time_is_refused_when_it_is_old(
    kind: str, example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, genuine = gateway(kind, "http://127.0.0.1:1"), example.sign(example.report)
    minutes_later(10, monkeypatch)
    assert made.verify(genuine) is not example.ages, "Example.ages says otherwise"


def minutes_later(minutes: int, patch: pytest.MonkeyPatch) -> None:
    """Put the clocks forward by which adapters, and PyJWT for them, read the time."""
    gap, real = timedelta(minutes=minutes), time.time

    class Later(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:
            return datetime.now(tz) + gap

    patch.setattr(time, "time", lambda: real() + gap.total_seconds())
    for name, module in list(sys.modules.items()):
        if (
            name.startswith(("adapters.gateways.", "jwt."))
            and vars(module).get("datetime") is datetime
        ):
            patch.setattr(module, "datetime", Later)


def test_a_report_carries_our_reference(kind: str, example: Example) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    [report], inbound = made.parse(example.sign(example.report))
    assert (report.status, inbound) == (Status.DELIVERED, [])
    match made.capabilities.reference:
        case "field" | "callback_url":
            assert report.reference == "m1"
        case "submission":
            assert (report.submission, report.recipient) == (SUBMISSION, "+12125550101")
        case "none":
            assert report.gateway_message_id or (report.batch_id and report.recipient)


def test_a_token_is_good_for_what_its_address_is_for(kind: str, example: Example) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    if made.capabilities.callbacks != "token":
        return
    assert example.reply is not None, "Example.reply is missing"
    report, reply = example.sign(example.report), example.sign(example.reply)
    reports, replies = made.parse(report)[0], made.parse(reply)[1]
    assert (len(reports), len(replies)) == (1, 1)
    for forged in (with_words(report, example.reply), of_words(report, example.reply)):
        assert made.verify(forged)
        assert parsed(made, forged) in (([], []), (reports, []))
    for forged in (with_words(reply, example.report), of_words(reply, example.report)):
        assert made.verify(forged)
        assert parsed(made, forged) in (([], []), ([], replies))


def with_words(genuine: Callback, other: Callback) -> Callback:
    """A genuine callback that says, after its own, what another one says."""
    if genuine.body[:1] != b"{":
        body = b"&".join(filter(None, (genuine.body, other.body)))
        return replace(of_words(genuine, other), url=added(genuine.url, other), body=body)
    [own], [others] = (json.loads(callback.body)["results"] for callback in (genuine, other))
    return replace(genuine, body=json.dumps({"results": [others | own]}).encode())


def of_words(genuine: Callback, other: Callback) -> Callback:
    """The address of a genuine callback, and what another one says."""
    bare = re.sub("(?<=token=.{32}).*", "", genuine.url)
    return replace(genuine, url=added(bare, other), body=other.body)


def added(url: str, other: Callback) -> str:
    query = urlsplit(other.url).query
    return f"{url}&{query}" if query else url


def parsed(made: Gateway, callback: Callback) -> tuple[list[Report], list[Inbound]]:
    try:
        return made.parse(callback)
    except CallbackError:
        return [], []


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"[1]", b"\xff\xfe\x00", b"&=&=", b"x" * 9999]
)
def test_rubbish_is_no_callback(kind: str, body: bytes) -> None:
    made = gateway(kind, "http://127.0.0.1:1")
    callback = Callback("POST", "http://127.0.0.1:8780/gateways/main/reports", {}, body)
    assert made.verify(callback) is False
    with pytest.raises(CallbackError):
        made.parse(callback)
