"""Look-ups: one message, lists in pages, the account and its numbers."""

from datetime import UTC, datetime, timedelta

import pytest


def _list(sandbox, **query):
    response = sandbox.client.get(sandbox.messages, params=query)
    assert response.status_code == 200, response.text
    return [message["sid"] for message in response.json()["messages"]]


def _sent(sandbox, wait_until, *senders, to=None):
    """Send from each sender to one number, and wait until all have been sent."""
    to = to or sandbox.number()
    sids = [sandbox.send(to, From=sender).json()["sid"] for sender in senders]
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    wait_until(lambda: len(_list(sandbox, To=to, **{"DateSent>": today})) == len(sids))
    return to, sids


def test_a_message_moves_from_queued_to_delivered_and_gets_its_price(sandbox, wait_until):
    uri = sandbox.send(Body="a" * 161).json()["uri"]

    wait_until(lambda: sandbox.client.get(uri).json()["status"] == "delivered")

    message = sandbox.client.get(uri).json()
    assert (message["price"], message["price_unit"]) == ("-0.01580", "USD")
    assert message["date_sent"] is not None


@pytest.mark.parametrize(
    ("ending", "status", "code"),
    [
        ("3003", "undelivered", 30003),
        ("3005", "undelivered", 30005),
        ("3006", "undelivered", 30006),
        ("3008", "failed", 30008),
        ("3000", "sent", None),
    ],
)
def test_the_last_four_digits_decide_the_final_status(sandbox, wait_until, ending, status, code):
    uri = sandbox.send(f"+1202555{ending}").json()["uri"]

    wait_until(lambda: sandbox.client.get(uri).json()["status"] == status)

    assert sandbox.client.get(uri).json()["error_code"] == code


def test_an_unknown_message_is_404(sandbox):
    uri = sandbox.messages.replace(".json", f"/SM{'0' * 32}.json")

    response = sandbox.client.get(uri)

    assert (response.status_code, response.json()["code"]) == (404, 20404)


def test_a_list_by_number_is_newest_first(sandbox):
    to = sandbox.number()
    sids = [sandbox.send(to).json()["sid"] for _ in range(3)]
    sandbox.send()

    assert _list(sandbox, To=to) == sids[::-1]


def test_a_list_by_sender_leaves_the_others_out(sandbox):
    to = sandbox.number()
    sandbox.send(to, From="+15005550006")
    sid = sandbox.send(to, From="12345").json()["sid"]

    assert _list(sandbox, To=to, From="12345") == [sid]


@pytest.mark.parametrize("page_size", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize("filtered", [True, False])
def test_pages_hold_every_message_once(sandbox, page_size, filtered):
    to = sandbox.number()
    sids = [sandbox.send(to).json()["sid"] for _ in range(5)]
    uri = f"{sandbox.messages}?PageSize={page_size}" + (f"&To=%2B{to[1:]}" if filtered else "")

    seen = []
    while uri and len(seen) < 5:
        page = sandbox.client.get(uri).json()
        seen += [message["sid"] for message in page["messages"]]
        uri = page["next_page_uri"]
        # A message that comes between two pages shifts none of them.
        sandbox.send(to)

    assert seen[:5] == sids[::-1]
    assert uri is None or not filtered


def test_a_page_says_where_it_stands(sandbox):
    to = sandbox.number()
    sandbox.send(to)
    sandbox.send(to)

    page = sandbox.client.get(sandbox.messages, params={"To": to, "PageSize": 1}).json()

    assert {key: page[key] for key in ("page", "page_size", "start", "end")} == {
        "page": 0,
        "page_size": 1,
        "start": 0,
        "end": 0,
    }
    assert page["uri"] == page["first_page_uri"]
    assert page["previous_page_uri"] is None


@pytest.mark.parametrize(
    ("name", "days", "found"),
    [
        ("DateSent", 0, True),
        ("DateSent", -1, False),
        ("DateSent>", -1, True),
        ("DateSent>", 0, True),
        ("DateSent>", 1, False),
        ("DateSent<", 0, True),
        ("DateSent<", -1, False),
    ],
)
def test_a_list_by_day_includes_the_day_itself(sandbox, wait_until, name, days, found):
    to, sids = _sent(sandbox, wait_until, "12345")
    day = datetime.now(UTC) + timedelta(days=days)

    assert _list(sandbox, To=to, **{name: f"{day:%Y-%m-%d}"}) == (sids if found else [])


@pytest.mark.parametrize(
    ("name", "seconds", "found"),
    [
        ("DateSent>", -60, True),
        ("DateSent>", 60, False),
        ("DateSent<", 60, True),
        ("DateSent<", -60, False),
    ],
)
def test_a_list_by_instant_compares_seconds(sandbox, wait_until, name, seconds, found):
    to, sids = _sent(sandbox, wait_until, "12345")
    instant = datetime.now(UTC) + timedelta(seconds=seconds)

    assert _list(sandbox, To=to, **{name: f"{instant:%Y-%m-%dT%H:%M:%SZ}"}) == (
        sids if found else []
    )


@pytest.mark.parametrize(
    "query",
    [
        {"DateSent>": "yesterday"},
        {"DateSent>=": "2026-11-24"},
        {"to": "+12025550100"},
        {"PageSize": "0"},
        {"Page": "x"},
    ],
)
def test_a_list_query_that_cannot_be_meant_is_refused(sandbox, query):
    assert sandbox.client.get(sandbox.messages, params=query).status_code == 400


def test_the_account_is_active(sandbox):
    account = sandbox.client.get(sandbox.messages.replace("/Messages", "")).json()

    assert account["status"] == "active"


@pytest.mark.parametrize(("number", "owned"), [("+12025550100", 1), ("+15005550007", 0)])
def test_numbers_are_owned_except_the_one_that_twilio_disowns(sandbox, number, owned):
    path = sandbox.messages.replace("/Messages", "/IncomingPhoneNumbers")

    page = sandbox.client.get(path, params={"PhoneNumber": number}).json()

    assert [n["phone_number"] for n in page["incoming_phone_numbers"]] == [number] * owned
