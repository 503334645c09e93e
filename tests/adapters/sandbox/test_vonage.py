"""Vonage's two wire formats as the sandbox speaks them: what is refused, and the records."""

import json
import time
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qsl, urlencode

import pytest

from adapters.sandbox.dialect import Post, Reply, Request, Submission
from adapters.sandbox.faults import Outcomes, Why
from adapters.sandbox.journal import Journal, Message
from adapters.sandbox.vonage import Vonage, signature
from adapters.sandbox.vonage_account import is_gsm7
from adapters.sandbox.vonage_messages import VonageMessages
from tests.sandboxes import TOKEN

SMS, MESSAGES = Vonage(TOKEN), VonageMessages(TOKEN)
FORM = {"from": "Acme", "to": "12125550101", "text": "Hello", "client-ref": "m1"}
FIELDS = {
    "channel": "sms",
    "message_type": "text",
    "from": "Acme",
    "to": "12125550101",
    "text": "Hello",
    "client_ref": "m1",
}


def post(path, body):
    return Request("POST", path, {}, {}, body)


def form(**changes):
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    fields = {name: value for name, value in (FORM | named).items() if value is not None}
    return post("/sms/json", urlencode(fields).encode())


def fields(**changes):
    made = {name: value for name, value in (FIELDS | changes).items() if value is not None}
    return post("/v1/messages", json.dumps(made).encode())


def status_of(reply):
    assert isinstance(reply, Reply)
    assert reply.status == 200
    return reply.content["messages"][0]["status"]


def code_of(reply):
    assert isinstance(reply, Reply)
    return reply.status, reply.content["type"].rpartition("#")[2]


# The SMS API


def test_a_form_is_read_as_one_message():
    callback = "https://sms.example.com/gateways/main/reports"
    [read] = SMS.read(form(callback=callback, ttl="20000", type="text"))

    assert read == Submission("+12125550101", "Acme", "Hello", callback, "m1")


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"from": None}, "2"),
        ({"to": None}, "2"),
        ({"text": ""}, "2"),
        ({"to": "+12125550101"}, "3"),
        ({"to": "12"}, "3"),
        ({"from": "+15005550006"}, "15"),
        ({"from": "A name that is long"}, "15"),
        ({"text": "שלום"}, "3"),
        ({"type": "binary"}, "3"),
        ({"ttl": "19999"}, "3"),
        ({"ttl": "604800001"}, "3"),
        ({"ttl": "60s"}, "3"),
        ({"client_ref": "m" * 101}, "3"),
        ({"callback": "https://h/" + "r" * 100}, "23"),
        ({"callback": "h/r"}, "23"),
        ({"validity": "60"}, "3"),
    ],
)
def test_a_form_that_is_wrong_is_refused(changes, status):
    assert status_of(SMS.read(form(**changes))) == status


def test_no_reports_are_made_for_who_wants_none():
    [read] = SMS.read(form(callback="https://h/r", status_report_req="false"))

    assert read.callback == ""


@pytest.mark.parametrize(("why", "status"), [(Why.THROTTLED, "1"), (Why.ACCOUNT, "9")])
def test_a_request_fails_as_a_whole_inside_a_200(why, status):
    assert status_of(SMS.failure(0, why)) == status


def test_wrong_credentials_are_refused_in_each_ones_way():
    assert status_of(SMS.login(form())) == "4"
    assert SMS.login(Request("GET", "/account/get-balance", {}, {}, b"")).status == 401
    assert code_of(SMS.login(Request("GET", "/v2/reports/records", {}, {}, b""))) == (
        401,
        "unauthorized",
    )


def message(body="Hello", *, sid="0a00", to="+12125550101", age=60, kind="vonage"):
    at = time.time() - age
    return Message(sid, to, "+15005550006", body, "m1", at, kind, callback="https://h/r")


def sent(post):
    assert isinstance(post, Post)
    return dict(parse_qsl(post.body.decode(), keep_blank_values=True))


@pytest.mark.parametrize(
    ("status", "why", "word", "code"),
    [
        ("sent", None, "accepted", "0"),
        ("delivered", None, "delivered", "0"),
        ("undelivered", Why.OPTED_OUT, "failed", "9"),
        ("undelivered", Why.UNREACHABLE, "failed", "2"),
        ("failed", Why.OTHER, "failed", "99"),
        ("expired", None, "expired", "1"),
        ("rejected", Why.CONTENT, "rejected", "6"),
    ],
)
def test_a_receipt_has_vonages_words(status, why, word, code):
    [made] = SMS.reports(message(), status, why, 0)
    receipt = sent(made)

    assert (receipt["status"], receipt["err-code"]) == (word, code)
    assert (receipt["msisdn"], receipt["to"]) == ("12125550101", "15005550006")
    assert receipt["client-ref"] == "m1"


def test_each_part_has_the_id_that_the_answer_gave_it():
    long = message("x" * 400)
    answer = SMS.answer(form(), [long]).content["messages"]
    receipts = [sent(SMS.reports(long, "sent", None, part)[0]) for part in range(3)]

    assert [part["message-id"] for part in answer] == ["0a00", "0a01", "0a02"]
    assert [receipt["messageId"] for receipt in receipts] == ["0a00", "0a01", "0a02"]


def test_ids_leave_room_for_their_parts():
    assert all(SMS.new_id().endswith("00") for _ in range(20))


def test_the_signature_covers_sorted_parameters_with_their_delimiters_replaced():
    assert signature("secret", {"b": "1&2=3", "a": "x"}) == signature(
        "secret", {"a": "x", "b": "1_2_3"}
    )
    assert signature("secret", {"a": "x"}) != signature("other", {"a": "x"})


@pytest.mark.parametrize(
    ("text", "fits"),
    [("Hello", 1), ("", 1), ("€[]~", 1), ("x" * 500, 1), ("שלום", 0), ("a🎉", 0), ("–", 0)],
)
def test_what_fits_into_gsm7_is_known(text, fits):
    assert is_gsm7(text) == bool(fits)


# The Messages API


def test_an_object_is_read_as_one_message():
    url = "https://sms.example.com/gateways/main/reports"
    [read] = MESSAGES.read(fields(webhook_url=url, ttl=20, sms={"encoding_type": "text"}))

    assert read == Submission("+12125550101", "Acme", "Hello", url, "m1")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"channel": None}, "1010"),
        ({"text": ""}, "1010"),
        ({"to": 12125550101}, "1020"),
        ({"to": "+12125550101"}, "1170"),
        ({"from": "+15005550006"}, "1120"),
        ({"channel": "mms"}, "1020"),
        ({"text": "x" * 1001}, "1020"),
        ({"text": "שלום", "sms": {"encoding_type": "text"}}, "1020"),
        ({"sms": {"encoding_type": "gsm"}}, "1020"),
        ({"sms": "text"}, "1020"),
        ({"ttl": 19}, "1130"),
        ({"ttl": "60"}, "1020"),
        ({"client_ref": "m" * 101}, "1450"),
        ({"webhook_url": "h/r"}, "1020"),
        ({"webhook_version": "v0.1"}, "1020"),
        ({"client-ref": "m1"}, "1020"),
    ],
)
def test_an_object_that_is_wrong_is_refused(changes, code):
    assert code_of(MESSAGES.read(fields(**changes))) == (422, code)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff"])
def test_what_is_no_object_is_refused(body):
    assert code_of(MESSAGES.read(post("/v1/messages", body))) == (400, "invalid-json")


@pytest.mark.parametrize(
    ("status", "why", "word", "code"),
    [
        ("sent", None, "submitted", None),
        ("delivered", None, "delivered", None),
        ("undelivered", Why.OPTED_OUT, "rejected", "1240"),
        ("failed", Why.OTHER, "undeliverable", "1330"),
        ("expired", None, "rejected", "1360"),
    ],
)
def test_a_status_has_vonages_words(status, why, word, code):
    [made] = MESSAGES.reports(message(), status, why, 0)
    webhook = json.loads(made.body)

    assert (webhook["status"], webhook.get("error", {}).get("title")) == (word, code)
    assert (webhook["to"], webhook["from"]) == ("12125550101", "15005550006")


# Records


@pytest.fixture
def journal(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    journal.accept(
        [
            message(sid="0c00", age=90_000),
            message("x" * 300, sid="0a00"),
            message(sid="0b00", to="+12125550102"),
            message(sid="uuid-0d", kind="vonage-messages"),
        ]
    )
    yield journal
    journal.close()


def asked(dialect, journal, product, **query):
    query = {"account_id": "abcd1234", "product": product, "direction": "outbound", **query}
    request = Request("GET", "/v2/reports/records", query, {}, b"")
    assert dialect.place(request) == "look_up"
    outcomes = Outcomes("delivered", (0.1, 0.2))
    return dialect.look_up(request, journal.of(dialect.kind), outcomes, time.time())


def window(hours=1):
    now = datetime.now(UTC)
    return {
        "date_start": (now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "date_end": (now + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def ids_of(reply):
    assert reply.status == 200
    return [record["message_id"] for record in reply.content["records"]]


def test_records_of_a_day_are_found_by_number(journal):
    found = asked(SMS, journal, "SMS", to="12125550101", **window())

    assert ids_of(found) == ["0a00", "0a01"]
    assert {record["client_ref"] for record in found.content["records"]} == {"m1"}
    assert {record["status"] for record in found.content["records"]} == {"delivered"}


def test_records_of_the_other_product_are_its_own(journal):
    assert ids_of(asked(MESSAGES, journal, "MESSAGES", **window())) == ["uuid-0d"]
    assert (
        MESSAGES.place(Request("GET", "/v2/reports/records", {"product": "SMS"}, {}, b"")) is None
    )


def test_records_are_found_by_the_ids_of_parts(journal):
    found = asked(SMS, journal, "SMS", id="0a01,0b00,0b01,nothing,0c00")

    assert sorted(ids_of(found)) == ["0a01", "0b00", "0c00"]
    assert found.content["ids_not_found"] == "0b01,nothing"


@pytest.mark.parametrize(
    "query",
    [
        {"id": ",".join(map(str, range(21)))},
        {"id": "0a00", "date_start": "2026-11-24T12:00:00Z"},
        {"client_ref": "m1", **window()},
        {"to": "12125550101"},
        {"date_start": "2026-11-24", "date_end": "2026-11-25"},
        window(25),
    ],
    ids=["many", "both", "reference", "no_dates", "days", "long"],
)
def test_a_query_that_vonage_would_not_answer_is_refused(journal, query):
    assert code_of(asked(SMS, journal, "SMS", **query)) == (422, "invalid-filter")


def test_another_accounts_records_are_refused(journal):
    assert code_of(asked(SMS, journal, "SMS", account_id="other", id="0a00")) == (403, "forbidden")
