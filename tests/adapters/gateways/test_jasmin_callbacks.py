"""Jasmin's delivery reports and replies: how they are known, and how they are read."""

from typing import Literal
from urllib.parse import urlencode

import pytest

from adapters.gateways.base import Callback, CallbackError, Inbound, Report, Status
from adapters.gateways.callbacks import with_token
from adapters.gateways.jasmin import Jasmin
from tests.adapters.gateways.test_jasmin import REPORTS, TOKEN, jasmin

INBOUND = "http://127.0.0.1:8780/gateways/main/inbound"


def posted(address: str, form: dict[str, str] | bytes, token: str = TOKEN) -> Callback:
    body = form if isinstance(form, bytes) else urlencode(form).encode()
    kind: Literal["report", "reply"] = "reply" if address == INBOUND else "report"
    return Callback("POST", with_token(address, token), {}, body, kind)


def report(**fields: str) -> Report:
    got = posted(REPORTS, {"id": "16fd2706", "connector": "c", **fields})
    gateway = jasmin("http://127.0.0.1:1")
    assert gateway.verify(got)
    [found], inbound = gateway.parse(got)
    assert (found.reference, found.gateway_message_id, inbound) == ("m1", "16fd2706", [])
    return found


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [
        ("ESME_ROK", Status.SENT, None),
        ("ESME_RINVDSTADR", Status.REJECTED, "ESME_RINVDSTADR"),
        # Jasmin tries these again, without another report.
        ("ESME_RTHROTTLED", Status.QUEUED, "ESME_RTHROTTLED"),
        ("ESME_RSYSERR", Status.QUEUED, "ESME_RSYSERR"),
    ],
)
def test_a_report_of_level_1_is_the_smscs_answer(
    word: str, status: Status, code: str | None
) -> None:
    found = report(level="1", message_status=word)
    assert (found.status, found.error_code) == (status, code)


@pytest.mark.parametrize(
    ("word", "err", "status", "code"),
    [
        ("DELIVRD", "000", Status.DELIVERED, None),
        ("DELIVRD", "ND", Status.DELIVERED, None),
        ("UNDELIV", "011", Status.UNDELIVERED, "011"),
        ("EXPIRED", "0", Status.EXPIRED, None),
        ("DELETED", "000", Status.FAILED, None),
        ("REJECTD", "088", Status.REJECTED, "088"),
        ("ACCEPTD", "000", Status.SENT, None),
        ("ENROUTE", "000", Status.SENT, None),
        ("UNKNOWN", "000", Status.UNKNOWN, None),
        ("SKIPPED", "000", Status.UNKNOWN, None),
    ],
)
def test_a_report_of_level_2_is_the_receipt(
    word: str, err: str, status: Status, code: str | None
) -> None:
    details = {"id_smsc": "2567", "sub": "001", "dlvrd": "001", "err": err, "text": "Hi"}
    found = report(level="2", message_status=word, **details)
    assert (found.status, found.error_code) == (status, code)


def reply(form: dict[str, str] | bytes) -> Inbound:
    gateway, got = jasmin("http://127.0.0.1:1"), posted(INBOUND, form)
    assert gateway.verify(got)
    reports, [found] = gateway.parse(got)
    assert reports == []
    return found


@pytest.mark.parametrize(
    ("coding", "octets", "text"),
    [
        ("0", b"STOP", "STOP"),
        ("0", b"\x00 \x1b\x65 \x05", "@ € é"),
        ("3", b"caf\xe9", "café"),
        ("8", "ש 🎉".encode("utf-16-be"), "ש 🎉"),
        ("0", b"", ""),
    ],
)
def test_a_reply_is_read_in_its_coding(coding: str, octets: bytes, text: str) -> None:
    form = urlencode(
        {"id": "7", "from": "447700900001", "to": "13013", "coding": coding, "content": octets}
    )
    found = reply(f"{form}&binary={octets.hex()}&origin-connector=c".encode())
    assert found == Inbound("7", "+447700900001", "13013", text)


@pytest.mark.parametrize("binary", ["", "&binary=xyz"])
def test_without_readable_octets_the_content_is_the_text(binary: str) -> None:
    found = reply(b"id=7&from=%2B447700900001&to=13013&content=STOP+%C3%A9" + binary.encode())
    assert found.text == ("STOP é")


@pytest.mark.parametrize(
    ("octets", "coding", "text"),
    [
        ("53544f50", "x", "STOP"),
        ("53544f50", "9" * 5000, "STOP"),
        ("0053005400", "8", "ST\ufffd"),
        ("5G", "0", "\ufffd"),
        ("", "", ""),
    ],
)
def test_of_a_reply_in_octets_alone_what_cannot_be_read_is_replaced(
    octets: str, coding: str, text: str
) -> None:
    found = reply(f"id=7&from=447700900001&to=1&binary={octets}&coding={coding}".encode())
    assert found == Inbound("7", "+447700900001", "1", text)


def test_a_connector_may_use_get() -> None:
    url = with_token(INBOUND, TOKEN) + "&id=7&from=447700900001&to=1&content=STOP&binary=53544f50"
    gateway, got = jasmin("http://127.0.0.1:1"), Callback("GET", url, {}, b"", "reply")
    assert gateway.verify(got)
    assert gateway.parse(got) == ([], [Inbound("7", "+447700900001", "1", "STOP")])


def test_the_address_for_jasmins_connector_verifies() -> None:
    gateway = jasmin("http://127.0.0.1:1")
    assert gateway.verify(Callback("POST", gateway.inbound_url, {}, b"id=1"))


@pytest.mark.parametrize(
    "got",
    [
        Callback("POST", REPORTS, {}, b"id=1&message_status=DELIVRD"),
        posted(REPORTS, b"id=1&message_status=DELIVRD", token="another-callback-token"),
        Callback("POST", with_token(REPORTS, TOKEN).replace("m1", "m2"), {}, b"id=1"),
        Callback("POST", with_token(REPORTS, TOKEN)[:-1], {}, b"id=1"),
        Callback("POST", REPORTS, {}, f"token={TOKEN}".encode()),
    ],
    ids=["none", "another secret", "another message", "short", "in the body"],
)
def test_a_callback_without_its_token_is_refused(got: Callback) -> None:
    assert not jasmin("http://127.0.0.1:1").verify(got)


@pytest.mark.parametrize(
    "form", [b"", b"id=1", b"message_status=DELIVRD", b"id=1&from=1", b"content=STOP&from=1"]
)
def test_a_callback_that_says_nothing_is_an_error(form: bytes) -> None:
    with pytest.raises(CallbackError, match="Jasmin callback"):
        jasmin("http://127.0.0.1:1").parse(posted(INBOUND, form))


def test_jasmin_is_answered_as_it_wants() -> None:
    assert Jasmin.capabilities.report_reply == "ACK/Jasmin"
    assert Jasmin.capabilities.inbound_reply == "ACK/Jasmin"
