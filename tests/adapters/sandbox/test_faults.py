"""Faults to order, and what numbers decide."""

import socket

import httpx
import pytest

from adapters.sandbox.faults import REPORT_ENDINGS, Outcomes, Rule

WHOLE = {"To": "+12025550100", "From": "+15005550006", "Body": "Hello"}
BROKEN = (httpx.ReadError, httpx.RemoteProtocolError)


@pytest.mark.parametrize(
    ("code", "twilio"), [(429, 20429), (500, 20500), (503, 20500), (401, 20003)]
)
def test_a_status_is_answered_with_twilios_json_and_nothing_is_accepted(sandbox, code, twilio):
    to = sandbox.number()
    sandbox.order({"kind": "status", "code": code, "retry_after": 1.5})

    response = sandbox.send(to)

    assert (response.status_code, response.json()["code"]) == (code, twilio)
    assert response.headers["Retry-After"] == "1.5"
    assert sandbox.accepted(to) == []


@pytest.mark.parametrize("body", ["<html>", "", {"code": 20003}])
def test_a_status_may_have_any_body(sandbox, body):
    sandbox.order({"kind": "status", "code": 201, "body": body})

    response = sandbox.send()

    assert (response.json() if isinstance(body, dict) else response.text) == body


def test_a_server_error_may_hide_an_accepted_message(sandbox):
    to = sandbox.number()
    sandbox.order({"kind": "status", "code": 500, "accepted": True})

    assert sandbox.send(to).status_code == 500
    assert len(sandbox.accepted(to)) == 1


def test_a_server_error_hides_no_refusal(sandbox):
    sandbox.order({"kind": "status", "code": 500, "accepted": True})

    assert sandbox.send("+12025551610").json()["code"] == 21610


@pytest.mark.parametrize("kind", ["reset", "close"])
@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("kept", [True, False], ids=["kept-alive", "fresh"])
def test_a_connection_breaks_after_the_request_was_read(sandbox, kind, accepted, kept):
    to = sandbox.number()
    sandbox.order({"kind": kind, "accepted": accepted, "to": to})
    with httpx.Client(base_url=sandbox.client.base_url, auth=sandbox.client.auth) as client:
        if kept:
            client.get(sandbox.messages).raise_for_status()
        with pytest.raises(BROKEN):
            client.post(sandbox.messages, data={"To": to, "From": "+15005550006", "Body": "Hello"})

    assert len(sandbox.accepted(to)) == accepted


@pytest.mark.parametrize("kind", ["reset", "close"])
def test_a_reset_is_a_real_rst_and_a_close_is_not(sandbox, kind):
    sandbox.order({"kind": kind})
    request = sandbox.client.build_request("POST", sandbox.messages, data=WHOLE)
    authorized = next(sandbox.client.auth.auth_flow(request))
    head = "".join(f"{name}: {value}\r\n" for name, value in authorized.headers.items())
    with socket.create_connection(("127.0.0.1", sandbox.port)) as raw:
        raw.sendall(f"POST {sandbox.messages} HTTP/1.1\r\n{head}\r\n".encode() + request.content)
        if kind == "reset":
            with pytest.raises(ConnectionResetError):
                raw.recv(1)
        else:
            assert raw.recv(1) == b""


def test_a_slow_answer_hides_a_message_that_is_accepted_already(sandbox):
    to = sandbox.number()
    sandbox.order({"kind": "slow", "seconds": 600})

    with pytest.raises(httpx.ReadTimeout):
        httpx.post(
            f"{sandbox.client.base_url}{sandbox.messages}",
            auth=sandbox.client.auth,
            data={"To": to, "From": "+15005550006", "Body": "Hello"},
            timeout=0.1,
        )

    assert len(sandbox.accepted(to)) == 1


def test_a_slow_answer_comes_in_the_end(sandbox):
    sandbox.order({"kind": "slow", "seconds": 0.05})

    assert sandbox.send().status_code == 201


def test_look_ups_may_fail_while_messages_are_accepted(sandbox):
    to = sandbox.number()
    sandbox.order({"kind": "lookups", "code": 503, "times": 1})

    assert sandbox.send(to).status_code == 201
    assert sandbox.client.get(sandbox.messages, params={"To": to}).status_code == 503
    assert sandbox.client.get(sandbox.messages, params={"To": to}).status_code == 200


def test_a_fault_strikes_only_the_numbers_it_names(sandbox):
    sandbox.order({"kind": "status", "to": "+1303"})

    assert sandbox.send("+12025550100").status_code == 201
    assert sandbox.send("+13035550100").status_code == 503


def test_a_fault_strikes_only_as_often_as_ordered(sandbox):
    sandbox.order({"kind": "status", "times": 2})

    assert [sandbox.send().status_code for _ in range(4)] == [503, 503, 201, 201]


def test_rules_are_replaced_together_and_show_their_counts(sandbox):
    sandbox.order({"kind": "status"}, {"kind": "slow"})
    sandbox.order({"kind": "status", "code": 429})
    sandbox.send()

    (rule,) = sandbox.client.get("/_faults").json()
    assert (rule["code"], rule["seen"], rule["fired"]) == (429, 1, 1)

    sandbox.client.delete("/_faults")
    assert sandbox.client.get("/_faults").json() == []


@pytest.mark.parametrize(
    "rule",
    [
        {"kind": "explode"},
        {"kind": "status", "share": 2},
        {"kind": "status", "sharre": 1},
        {"kind": "reports"},
        {"kind": "status", "reports": "late"},
    ],
)
def test_a_rule_that_cannot_be_read_changes_nothing(sandbox, rule):
    sandbox.order({"kind": "status", "code": 502})

    assert sandbox.client.post("/_faults", json=[rule]).status_code == 422
    assert [kept["code"] for kept in sandbox.client.get("/_faults").json()] == [502]


@pytest.mark.parametrize("share", [0, 0.1, 0.25, 1 / 3, 0.7, 1])
def test_a_share_is_exact_and_spread(share):
    rule = Rule(kind="status", share=share)

    struck = [rule.fires("+12025550100") for _ in range(300)]

    assert sum(struck) == round(300 * share)
    assert abs(sum(struck[:150]) - 150 * share) <= 1


def test_about_four_in_a_hundred_numbers_are_undelivered_and_always_the_same():
    numbers = [f"+1202{number:07d}" for number in range(2_000_000, 2_020_000)]
    numbers = [number for number in numbers if not number.endswith(tuple(REPORT_ENDINGS))]

    fates = [Outcomes("realistic").fate(number) for number in numbers]

    undelivered = [fate for fate in fates if fate.status == "undelivered"]
    assert 0.035 < len(undelivered) / len(numbers) < 0.045
    assert {str(fate.why) for fate in undelivered} == {
        "unreachable",
        "unknown_number",
        "landline",
        "other",
    }
    assert fates == [Outcomes("realistic").fate(number) for number in numbers]


def test_every_number_without_a_special_ending_is_delivered_when_so_set():
    numbers = [f"+1202555{number:04d}" for number in range(2000)]

    assert {Outcomes("delivered").fate(number).status for number in numbers} == {"delivered"}


def test_delays_are_spread_over_the_whole_span():
    delays = [Outcomes().fate(f"+1202{number:07d}").final_after for number in range(2000)]

    assert min(delays) == pytest.approx(0.2, abs=0.05)
    assert max(delays) == pytest.approx(2.0, abs=0.05)
