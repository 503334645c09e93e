"""Infobip: tokens in callback addresses, delivery reports, inbound messages."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal

import pytest
from pydantic import SecretStr

from adapters.gateways.base import (
    Addresses,
    Callback,
    CallbackError,
    ErrorClass,
    Inbound,
    Report,
    Status,
    Timeouts,
)
from adapters.gateways.callbacks import with_token
from adapters.gateways.infobip import Infobip, InfobipSettings

TOKEN = "a-token-of-our-own-making"
ADDRESSES = Addresses("main", "https://sms.example.com")
REPORT: dict[str, Any] = {
    "bulkId": "B1",
    "messageId": "m1",
    "to": "12125550101",
    "sender": "Acme",
    "sentAt": "2026-11-24T15:59:00.000+0000",
    "doneAt": "2026-11-24T16:00:00.000+0000",
    "messageCount": 3,
    "mccMnc": "31012",
    "price": {"pricePerMessage": 0.0079, "currency": "USD"},
    "status": {"groupId": 3, "groupName": "DELIVERED", "id": 5, "name": "DELIVERED_TO_HANDSET"},
    "error": {"groupId": 0, "groupName": "OK", "id": 0, "name": "NO_ERROR", "permanent": False},
}
MO = {
    "messageId": "817790313235066447",
    "from": "12125550101",
    "to": "15005550006",
    "text": "STOP now",
    "cleanText": "now",
    "keyword": "STOP",
    "receivedAt": "2026-11-24T16:00:00.000+0000",
    "smsCount": 1,
}


@pytest.fixture
def infobip() -> Infobip:
    settings = InfobipSettings(api_key=SecretStr("k"), callback_token=SecretStr(TOKEN))
    return Infobip(settings, ADDRESSES, Timeouts(), 8)


def called(url: str, *results: dict[str, Any]) -> Callback:
    kind: Literal["report", "reply"] = "report" if "/reports" in url else "reply"
    return Callback("POST", url, {}, json.dumps({"results": results}).encode(), kind)


def reported(infobip: Infobip, **changes: Any) -> Report:
    [report], inbound = infobip.parse(called(ADDRESSES.reports("m1"), REPORT | changes))
    assert inbound == []
    return report


# Tokens


@pytest.mark.parametrize("url", [ADDRESSES.reports("m1"), ADDRESSES.inbound])
def test_a_token_is_good_for_its_own_address(infobip: Infobip, url: str) -> None:
    assert infobip.verify(called(with_token(url, TOKEN)))
    assert not infobip.verify(called(url))
    assert not infobip.verify(called(with_token(url, "another-token-altogether")))


def test_the_address_for_replies_has_a_token_of_its_own(infobip: Infobip) -> None:
    assert infobip.inbound_url.startswith(f"{ADDRESSES.inbound}?token=")
    assert infobip.verify(called(infobip.inbound_url, MO))


def test_the_token_of_one_message_is_not_good_for_another(infobip: Infobip) -> None:
    url = with_token(ADDRESSES.reports("m1"), TOKEN)
    assert not infobip.verify(called(url.replace("ref=m1", "ref=m2")))


# Delivery reports


def test_a_report_says_whose_it_is_when_it_was_and_what_it_cost(infobip: Infobip) -> None:
    assert reported(infobip) == Report(
        status=Status.DELIVERED,
        reference="m1",
        gateway_message_id="m1",
        recipient="+12125550101",
        occurred_at=datetime(2026, 11, 24, 16, tzinfo=UTC),
        price=Decimal("0.0237"),
        currency="USD",
    )


def test_one_callback_may_bring_several_reports(infobip: Infobip) -> None:
    pending = REPORT | {"status": {"groupName": "PENDING", "name": "PENDING_ENROUTE"}}
    reports, _ = infobip.parse(called(ADDRESSES.reports("m1"), pending, REPORT))
    assert [report.status for report in reports] == ["sent", "delivered"]


def test_the_address_of_one_message_is_not_good_for_a_report_of_another(infobip: Infobip) -> None:
    other = REPORT | {"messageId": "m2"}
    with pytest.raises(CallbackError, match="another message"):
        infobip.parse(called(ADDRESSES.reports("m1"), REPORT, other))


@pytest.mark.parametrize(
    ("group", "name", "expected"),
    [
        ("PENDING", "PENDING_ACCEPTED", "queued"),
        ("PENDING", "PENDING_ENROUTE", "sent"),
        ("PENDING", "PENDING_WAITING_DELIVERY", "sent"),
        ("PENDING", "PENDING_SOMETHING_NEW", "queued"),
        ("DELIVERED", "DELIVERED_TO_OPERATOR", "sent"),
        ("DELIVERED", "DELIVERED_TO_HANDSET", "delivered"),
        ("UNDELIVERABLE", "UNDELIVERABLE_NOT_DELIVERED", "undelivered"),
        ("EXPIRED", "EXPIRED_EXPIRED", "expired"),
        ("EXPIRED", "EXPIRED_DLR_UNKNOWN", "unknown"),
        ("REJECTED", "REJECTED_NETWORK", "rejected"),
        ("SOMETHING_NEW", "SOMETHING_NEW", "unknown"),
    ],
)
def test_statuses(infobip: Infobip, group: str, name: str, expected: str) -> None:
    assert reported(infobip, status={"groupName": group, "name": name}).status == expected


@pytest.mark.parametrize(
    ("error", "error_class"),
    [
        ("EC_UNKNOWN_SUBSCRIBER", "recipient"),
        ("EC_ABSENT_SUBSCRIBER", None),
        ("EC_CONTENT_BLOCKED", "optout"),
        ("EC_SC_BLOCKED_BY_END_USER", "optout"),
        ("EC_REJECTED_SPAM_BY_OPERATOR", "content"),
        ("EC_MONTHLY_LIMIT_REACHED", "account"),
        ("EC_TEMPORARY_HANDSET_FAILURE", None),
    ],
)
def test_errors(infobip: Infobip, error: str, error_class: str | None) -> None:
    status = {"groupName": "UNDELIVERABLE", "name": "UNDELIVERABLE_NOT_DELIVERED"}
    report = reported(infobip, status=status, error={"name": error, "permanent": True})
    assert report.error_code == error
    assert report.error_class == (ErrorClass(error_class) if error_class else None)


@pytest.mark.parametrize(
    ("name", "error_class"),
    [("REJECTED_NOT_ENOUGH_CREDITS", ErrorClass.ACCOUNT), ("REJECTED_SYSTEM_ERROR", None)],
)
def test_a_rejection_without_an_error_has_its_status_for_one_and_is_never_tried_again(
    infobip: Infobip, name: str, error_class: ErrorClass | None
) -> None:
    report = reported(infobip, status={"groupName": "REJECTED", "name": name})
    assert (report.error_code, report.error_class) == (name, error_class)


def test_a_rejected_duplicate_does_not_end_the_message_that_has_the_id(infobip: Infobip) -> None:
    status = {"groupName": "REJECTED", "name": "REJECTED_DUPLICATE_MESSAGE_ID"}
    report = reported(infobip, status=status)
    assert (report.status, report.error_code, report.error_class) == ("accepted", None, None)


@pytest.mark.parametrize("done", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "x"])
def test_an_instant_that_no_calendar_has_costs_no_report(infobip: Infobip, done: str) -> None:
    report = reported(infobip, doneAt=done)
    assert (report.status, report.occurred_at) == ("delivered", None)


@pytest.mark.parametrize(
    ("price", "expected"),
    [
        ({"pricePerMessage": 0, "currency": "USD"}, (Decimal(0), "USD")),
        ({"pricePerMessage": None, "currency": "USD"}, (None, None)),
        (None, (None, None)),
    ],
)
def test_no_price_is_not_a_price_of_nothing(
    infobip: Infobip, price: object, expected: tuple[Decimal | None, str | None]
) -> None:
    report = reported(infobip, price=price)
    assert (report.price, report.currency) == expected


@pytest.mark.parametrize("url", [ADDRESSES.reports("m1"), ADDRESSES.inbound])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"results":[]}',
        b'{"results":[{"status":{"name":"X"}}]}',
        b'{"results":[{"messageId":"m1"}]}',
    ],
)
def test_what_is_no_callback_is_said_to_be_none(infobip: Infobip, url: str, body: bytes) -> None:
    with pytest.raises(CallbackError, match="Infobip"):
        infobip.parse(replace(called(url), body=body))


def test_the_address_of_a_message_is_not_good_for_a_reply(infobip: Infobip) -> None:
    with pytest.raises(CallbackError):
        infobip.parse(called(ADDRESSES.reports("m1"), MO | {"messageId": "m1"}))


# Inbound messages


def test_inbound_messages_are_read_whole_with_their_keyword(infobip: Infobip) -> None:
    short = MO | {"messageId": "2", "to": "12345"}
    assert infobip.parse(called(ADDRESSES.inbound, MO, short)) == (
        [],
        [
            Inbound("817790313235066447", "+12125550101", "+15005550006", "STOP now"),
            Inbound("2", "+12125550101", "12345", "STOP now"),
        ],
    )
