"""What the core does for every dialect: many gateways in one process, requests with many messages.

Reports are in test_dialect_reports.py.
"""

import pytest

from adapters.gateways import KINDS
from adapters.sandbox.app import describe
from adapters.sandbox.dialects import all_dialects
from adapters.sandbox.journal import read_journal
from tests.adapters.sandbox import invented
from tests.adapters.sandbox.invented import look_up, send
from tests.sandboxes import SID, TOKEN

DIALECTS = {dialect.kind: dialect for dialect in all_dialects(TOKEN, SID)}


@pytest.mark.parametrize("kind", DIALECTS)
def test_the_settings_of_a_dialect_are_those_of_its_adapter(kind):
    made = KINDS[kind].model_validate(DIALECTS[kind].settings("http://127.0.0.1:8790"))

    assert made.sender


def test_a_line_is_printed_for_every_kind_and_twilio_is_first():
    lines = describe(8790, SID, TOKEN).split("\n  sms gateway add sandbox ")[1:]

    assert [line.split()[0] for line in lines] == list(DIALECTS)
    assert next(iter(DIALECTS)) == "twilio"


def test_several_gateways_are_served_at_once(many):
    to = many.number()
    assert many.send(to).status_code == 201
    assert send(many, {"to": to}).status_code == 200

    assert [line["kind"] for line in many.accepted(to)] == ["invented", "twilio"]


def test_what_no_gateway_has_is_404(many):
    assert many.client.post("/nobody/has/this").status_code == 404


def test_each_gateway_has_credentials_and_answers_of_its_own(many):
    to = many.number()

    denied = send(many, {"to": to}, key="wrong")

    assert (denied.status_code, denied.text) == (403, "who are you?")
    assert denied.headers["Content-Type"].startswith("text/plain")
    assert many.accepted(to) == []


def test_one_request_is_answered_in_its_order(many):
    people = [many.number() for _ in range(3)]
    people[1:1] = ["+12025551610"]

    answer = send(many, *({"to": to} for to in people))

    results = answer.json()["messages"]
    assert results[1] == {"refused": "opted_out"}
    assert [many.accepted(to)[0]["sid"] for to in (people[0], *people[2:])] == [
        results[place]["id"] for place in (0, 2, 3)
    ]
    assert answer.headers["X-Request"] == "7"


@pytest.mark.parametrize(
    ("to", "why"),
    [
        ("+12025551610", "opted_out"),
        ("+12025551611", "content"),
        ("+12025551614", "landline"),
        ("+15005550001", "invalid"),
        ("+15005550002", "unreachable"),
        ("+15005550003", "other"),
        ("+15005550004", "opted_out"),
        ("+15005550009", "landline"),
    ],
)
def test_numbers_are_refused_by_every_gateway(many, to, why):
    assert send(many, {"to": to}).json()["messages"] == [{"refused": why}]
    assert many.accepted(to) == []


def test_an_id_of_the_senders_is_taken_once(many):
    first, second, third = (many.number() for _ in range(3))
    sent = send(many, {"to": first, "id": "mine-1"}, {"to": second, "id": "mine-1"})
    again = send(many, {"to": third, "id": "mine-1"})

    assert sent.json()["messages"] == [{"id": "mine-1"}, {"refused": "duplicate"}]
    assert again.json()["messages"] == [{"refused": "duplicate"}]
    assert [len(many.accepted(to)) for to in (first, second, third)] == [1, 0, 0]


def test_an_id_of_the_senders_is_known_after_a_kill(start, tmp_path):
    first = start(tmp_path / "journal.jsonl", invented.SERVE)
    send(first, {"to": "+12025550100", "id": "mine"})
    first.kill()

    second = start(tmp_path / "journal.jsonl", invented.SERVE)

    again = send(second, {"to": "+12025550100", "id": "mine"})
    assert again.json()["messages"] == [{"refused": "duplicate"}]


def test_a_refused_id_may_be_sent_again(many):
    to = many.number()
    many.order({"kind": "refuse", "why": "content", "to": to, "times": 1})

    assert send(many, {"to": to, "id": "r-1"}).json()["messages"] == [{"refused": "content"}]
    assert send(many, {"to": to, "id": "r-1"}).json()["messages"] == [{"id": "r-1"}]


def test_messages_are_found_by_id_batch_reference_and_number(many):
    to, other = many.number(), many.number()
    many.send(to)
    answer = send(many, {"to": to, "ref": "of-both"}, {"to": other, "ref": "of-both"}).json()
    newer = send(many, {"to": to, "ref": "newer"}).json()

    first, second = (message["id"] for message in answer["messages"])
    (third,) = (message["id"] for message in newer["messages"])
    assert look_up(many, f"messages/{first}") == [first]
    assert look_up(many, f"batches/{answer['batch']}") == [first, second]
    assert look_up(many, "references/of-both") == [first, second]
    assert look_up(many, f"numbers/?to=%2B{to[1:]}") == [third, first]


def test_look_ups_show_no_other_gateways_messages(many):
    to = many.number()
    sid = many.send(to).json()["sid"]
    mine = send(many, {"to": to}).json()["messages"][0]["id"]

    assert look_up(many, f"messages/{sid}") == []
    assert sid not in look_up(many, "numbers/")
    listed = many.client.get(many.messages, params={"To": to}).json()["messages"]
    assert [message["sid"] for message in listed] == [sid]
    assert many.client.get(many.messages.replace(".json", f"/{mine}.json")).status_code == 404


def test_the_journal_says_what_is_not_twilios(start, tmp_path):
    path = tmp_path / "journal.jsonl"
    sandbox = start(path, invented.SERVE)
    message = {"to": "+12025550100", "id": "mine", "ref": "r", "callback": "http://127.0.0.1:9/x"}
    batch = send(sandbox, message).json()["batch"]

    line = read_journal(path)[0]

    del line["time"]
    assert line == {
        "sid": "mine",
        "to": "+12025550100",
        "from": "+15005550006",
        "body": "Hello",
        "reference": "r",
        "kind": "invented",
        "callback": "http://127.0.0.1:9/x",
        "batch": batch,
        "extra": {"sent": "1"},
    }


def test_one_text_to_one_number_by_two_gateways_is_a_duplicate(many):
    before = many.client.get("/_stats").json()
    to = many.number()
    many.send(to, Body="Twice")
    send(many, {"to": to, "text": "Twice"}, {"to": many.number(), "text": "Twice"})

    after = many.client.get("/_stats").json()

    grown = {name: after[name] - before[name] for name in ("accepted", "requests", "duplicates")}
    assert grown == {"accepted": 3, "requests": 2, "duplicates": 1}


@pytest.mark.parametrize(
    ("rule", "answer"),
    [
        ({"kind": "refuse", "why": "throttled"}, (200, "failed: throttled")),
        ({"kind": "refuse", "why": "account"}, (200, "failed: account")),
        ({"kind": "status", "code": 503}, (503, "failed: 503")),
        ({"kind": "status", "code": 502, "body": "<html>"}, (502, "<html>")),
    ],
)
def test_a_request_fails_as_a_whole_in_the_gateways_own_words(many, rule, answer):
    people = [many.number(), many.number()]
    many.order({**rule, "to": people[1], "retry_after": 3})

    response = send(many, *({"to": to} for to in people))

    assert (response.status_code, response.text) == answer
    assert response.headers["Retry-After"] == "3"
    assert [many.accepted(to) for to in people] == [[], []]


@pytest.mark.parametrize(
    ("why", "status", "code"),
    [("throttled", 429, 20429), ("account", 403, 20005), ("content", 400, 21606)],
)
def test_twilio_refuses_as_ordered_with_codes_of_its_own(many, why, status, code):
    many.order({"kind": "refuse", "why": why})

    response = many.send()

    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize(("ordered", "why"), [("content", "content"), ("recipient", "invalid")])
def test_single_messages_of_a_request_are_refused_as_ordered(many, ordered, why):
    people = [many.number() for _ in range(4)]
    many.order({"kind": "refuse", "why": ordered, "share": 0.5})

    results = send(many, *({"to": to} for to in people)).json()["messages"]

    assert [result.get("refused") for result in results] == [None, why, None, why]
    assert [len(many.accepted(to)) for to in people] == [1, 0, 1, 0]


def test_an_ordered_share_counts_requests_where_it_strikes_requests(many):
    many.order({"kind": "status", "code": 500, "share": 0.5})

    statuses = [
        send(many, *({"to": many.number()} for _ in range(5))).status_code for _ in range(4)
    ]

    assert statuses == [200, 500, 200, 500]


def test_an_accepted_request_may_be_answered_with_an_error(many):
    people = [many.number(), "+12025551610"]
    many.order({"kind": "status", "code": 500, "accepted": True})

    assert send(many, *({"to": to} for to in people)).status_code == 500
    assert [len(many.accepted(to)) for to in people] == [1, 0]


@pytest.mark.parametrize("rule", [{"kind": "refuse"}, {"kind": "status", "why": "content"}])
def test_a_refusal_needs_its_reason_and_nothing_else_has_one(many, rule):
    assert many.client.post("/_faults", json=[rule]).status_code == 422


def test_a_batch_may_be_large_and_not_endless(many):
    text = "x" * 1600
    people = [many.number() for _ in range(1000)]

    assert send(many, *({"to": to, "text": text} for to in people)).status_code == 200
    assert send(many, {"to": people[0], "text": "x" * 2**22}).text == "failed: 413"


@pytest.mark.parametrize(("kind", "status"), [("twilio", 200), ("invented", 200), ("nobody", 422)])
def test_a_reply_is_sent_as_the_gateway_that_was_asked_for(many, receiver, kind, status):
    ref = f"mo-{kind}"
    inbound = {"from": "+12025550100", "body": "STOP", "url": receiver.url(ref), "kind": kind}

    assert many.client.post("/_send_inbound", json=inbound).status_code == status

    assert [("X-Kind" in got.headers) for got in receiver.got[ref]] == [
        kind == "invented" for _ in range(status == 200)
    ]
