"""Delivery reports: signed, in order, tried again, and misbehaving when ordered."""

import base64
import hashlib
import hmac

import pytest

from tests.sandboxes import TOKEN


def _signature(token, url, form):
    """Twilio's rule, written out a second time."""
    text = url
    for name in sorted(form):
        text += name + form[name]
    digest = hmac.new(token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()


def test_sent_comes_before_the_final_status_and_both_are_signed(sandbox, receiver, wait_until):
    to = sandbox.number()
    sid = sandbox.send(to, StatusCallback=receiver.url("r1")).json()["sid"]

    wait_until(lambda: len(receiver.got["r1"]) == 2)

    assert receiver.statuses("r1") == ["sent", "delivered"]
    for callback in receiver.got["r1"]:
        assert callback.form["MessageSid"] == callback.form["SmsSid"] == sid
        assert (callback.form["To"], callback.form["From"]) == (to, "+15005550006")
        assert callback.headers["X-Twilio-Signature"] == _signature(
            TOKEN, receiver.url("r1"), callback.form
        )
    assert "RawDlrDoneDate" in receiver.got["r1"][1].form


def test_the_address_arrives_letter_by_letter_as_it_was_signed(sandbox, receiver, wait_until):
    odd = receiver.url("r2").replace("?", "/%7Ea%2Fb/c;d?x=a%20b+c&empty=&y=%C3%A9&")
    sandbox.send(StatusCallback=odd)

    wait_until(lambda: receiver.got["r2"])

    callback = receiver.got["r2"][0]
    assert odd.endswith(callback.target)
    assert callback.headers["X-Twilio-Signature"] == _signature(TOKEN, odd, callback.form)


def test_a_failure_carries_its_code(sandbox, receiver, wait_until):
    sandbox.send("+12025553003", StatusCallback=receiver.url("r3"))

    wait_until(lambda: len(receiver.got["r3"]) == 2)

    final = receiver.got["r3"][1].form
    assert (final["MessageStatus"], final["ErrorCode"]) == ("undelivered", "30003")


@pytest.mark.parametrize(
    ("answers", "statuses"),
    [
        ([503, 500], ["sent", "sent", "sent", "delivered"]),
        ([404], ["sent", "delivered"]),
        ([302], ["sent", "delivered"]),
    ],
    ids=["5xx is tried again", "4xx is not", "nor is a redirect"],
)
def test_reports_are_tried_again_after_server_errors(
    sandbox, receiver, wait_until, answers, statuses
):
    ref = f"again{answers[0]}"
    receiver.answers[ref] = list(answers)
    sandbox.send(StatusCallback=receiver.url(ref))

    wait_until(lambda: len(receiver.got[ref]) == len(statuses))

    assert receiver.statuses(ref) == statuses


def test_a_receiver_that_cannot_be_reached_costs_only_its_reports(sandbox, receiver, wait_until):
    sandbox.send(StatusCallback="http://127.0.0.1:9/nobody")
    sandbox.send(StatusCallback=f"http://{'a' * 64}.invalid/")
    sandbox.send(StatusCallback=receiver.url("r5"))

    wait_until(lambda: len(receiver.got["r5"]) == 2)


def test_connections_are_kept(sandbox, receiver, wait_until):
    before = receiver.connections
    for number in range(40):
        sandbox.send(StatusCallback=receiver.url(f"kept{number}"))

    wait_until(lambda: all(len(receiver.got[f"kept{number}"]) == 2 for number in range(40)))

    assert receiver.connections - before <= 32


@pytest.mark.parametrize(
    ("fault", "statuses"),
    [
        ({"reports": "double"}, ["sent", "sent", "delivered", "delivered"]),
        ({"reports": "shuffled"}, ["delivered", "sent"]),
        ({"reports": "contradict"}, ["sent", "delivered", "failed"]),
        ({"reports": "late", "seconds": 0.3}, ["sent", "delivered"]),
    ],
    ids=lambda value: value.get("reports") if isinstance(value, dict) else "",
)
def test_reports_misbehave_as_ordered(sandbox, receiver, wait_until, fault, statuses):
    ref = f"order-{fault['reports']}"
    sandbox.order({"kind": "reports", **fault})
    sandbox.send(StatusCallback=receiver.url(ref))

    wait_until(lambda: len(receiver.got[ref]) >= len(statuses))

    assert receiver.statuses(ref) == statuses


def test_late_reports_leave_look_ups_on_time(sandbox, receiver, wait_until):
    sandbox.order({"kind": "reports", "reports": "late", "seconds": 600})
    uri = sandbox.send(StatusCallback=receiver.url("late")).json()["uri"]

    wait_until(lambda: sandbox.client.get(uri).json()["status"] == "delivered")

    assert receiver.got["late"] == []


def test_reports_never_come_when_so_ordered(sandbox, receiver, wait_until):
    sandbox.order({"kind": "reports", "reports": "never", "times": 1})
    sandbox.send("+12024440001", StatusCallback=receiver.url("never"))
    sandbox.send("+12024440001", StatusCallback=receiver.url("after-never"))

    wait_until(lambda: len(receiver.got["after-never"]) == 2)

    assert receiver.got["never"] == []


def test_reports_come_before_the_answer_when_so_ordered(sandbox, receiver):
    sandbox.order({"kind": "reports", "reports": "before_answer"})

    answer = sandbox.send(StatusCallback=receiver.url("early")).json()

    assert receiver.statuses("early") == ["sent", "delivered"]
    assert answer["status"] == "queued"
    assert sandbox.client.get(answer["uri"]).json()["status"] == "delivered"


def test_an_inbound_message_is_sent_signed(sandbox, receiver):
    inbound = {
        "from": "+12025550100",
        "to": "+15005550006",
        "body": "STOP é😀",
        "url": receiver.url("mo"),
    }

    answer = sandbox.client.post("/_send_inbound", json=inbound).json()

    callback = receiver.got["mo"][0]
    assert answer == {"status": 204}
    assert {name: callback.form[name] for name in ("From", "To", "Body")} == {
        "From": "+12025550100",
        "To": "+15005550006",
        "Body": "STOP é😀",
    }
    assert callback.headers["X-Twilio-Signature"] == _signature(
        TOKEN, receiver.url("mo"), callback.form
    )


@pytest.mark.parametrize(
    ("inbound", "status"),
    [
        ({"from": "+12025550100", "body": "STOP"}, 422),
        ({"from": "+12025550100", "body": "STOP", "url": "nowhere"}, 422),
        ({"from": "+12025550100", "body": "STOP", "url": "http://127.0.0.1:9/"}, 502),
    ],
)
def test_an_inbound_message_that_cannot_be_sent_says_so(sandbox, inbound, status):
    assert sandbox.client.post("/_send_inbound", json=inbound).status_code == status
