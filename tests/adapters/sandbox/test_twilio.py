"""The wire format: what a submission gets back."""

import re
from email.utils import parsedate_to_datetime

import httpx
import pytest

from adapters.sandbox.segments import count_segments
from adapters.sandbox.twilio import signature
from tests.sandboxes import TOKEN

SERVICE = "MG" + "0" * 32


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"To": ""}, 21604),
        ({"To": "12025550100"}, 21211),
        ({"To": "+1 202 555 0100"}, 21211),
        ({"To": "+0"}, 21211),
        ({"From": ""}, 21603),
        ({"From": "+15005550006 "}, 21212),
        ({"From": "A-name-too-long"}, 21212),
        ({"From": "+12025550100"}, 21266),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1601}, 21617),
        ({"StatusCallback": "reports?ref=1"}, 21609),
        ({"StatusCallback": "http://"}, 21609),
        ({"StatusCallback": "http://host/a b"}, 21609),
        ({"StatusCallback": "http://host/\r\nX: y"}, 21609),
        ({"ValidityPeriod": "0"}, 21624),
        ({"ValidityPeriod": "36001"}, 21624),
        ({"ValidityPeriod": "60.0"}, 21624),
        ({"status_callback": "http://host/"}, 20001),
        ({"SendAt": "2027-01-01T00:00:00Z"}, 20001),
        ({"To": "+15005550001"}, 21211),
        ({"To": "+15005550002"}, 21612),
        ({"To": "+15005550003"}, 21408),
        ({"To": "+15005550004"}, 21610),
        ({"To": "+15005550009"}, 21614),
        ({"To": "+12025551610"}, 21610),
        ({"To": "+12025551614"}, 21614),
        ({"From": "+15005550001"}, 21212),
        ({"From": "+15005550007"}, 21606),
        ({"From": "+15005550008"}, 21611),
    ],
)
def test_a_wrong_submission_is_refused_with_twilios_code(sandbox, form, code):
    response = sandbox.send(**{"to": "+12025550100", **form})

    error = response.json()
    assert (response.status_code, error["code"], error["status"]) == (400, code, 400)
    assert set(error) == {"code", "message", "more_info", "status"}
    assert error["more_info"] == f"https://www.twilio.com/docs/errors/{code}"


@pytest.mark.parametrize(("missing", "code"), [("To", 21604), ("From", 21603), ("Body", 21602)])
def test_a_missing_parameter_is_refused_like_an_empty_one(sandbox, missing, code):
    form = {"To": "+12025550100", "From": "+15005550006", "Body": "Hello"}
    del form[missing]

    assert sandbox.client.post(sandbox.messages, data=form).json()["code"] == code


@pytest.mark.parametrize(
    ("auth", "path"),
    [
        (None, None),
        (("AC" + "0123456789abcdef" * 2, "wrong"), None),
        (("SK" + "0" * 32, TOKEN), None),
        (("AC" + "0123456789abcdef" * 2, TOKEN), f"AC{'9' * 32}/Messages.json"),
    ],
    ids=["none", "wrong token", "wrong account", "another account's path"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_without_the_credentials_every_request_is_401(sandbox, auth, path, method):
    path = f"/2010-04-01/Accounts/{path}" if path else sandbox.messages
    url = f"{sandbox.client.base_url}{path}"

    response = httpx.request(method, url, auth=auth)

    assert (response.status_code, response.json()["code"]) == (401, 20003)


def test_an_accepted_message_is_answered_with_the_whole_resource(sandbox):
    to = sandbox.number()

    response = sandbox.send(to, Body="Hello", ValidityPeriod="36000")

    assert response.status_code == 201
    message = response.json()
    sid, created = message.pop("sid"), message.pop("date_created")
    assert re.fullmatch(r"SM[0-9a-f]{32}", sid)
    assert parsedate_to_datetime(created).utcoffset().total_seconds() == 0
    account = sandbox.messages.removesuffix("/Messages.json")
    assert message == {
        "account_sid": account.rpartition("/")[2],
        "api_version": "2010-04-01",
        "body": "Hello",
        "date_sent": None,
        "date_updated": created,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": "+15005550006",
        "messaging_service_sid": None,
        "num_media": "0",
        "num_segments": "1",
        "price": None,
        "price_unit": "USD",
        "status": "queued",
        "subresource_uris": {"media": f"{account}/Messages/{sid}/Media.json"},
        "to": to,
        "uri": f"{account}/Messages/{sid}.json",
    }


@pytest.mark.parametrize("sender", ["+15005550006", "12345", "ACME Shop"])
def test_numbers_short_codes_and_names_may_send(sandbox, sender):
    assert sandbox.send(From=sender).json()["from"] == sender


def test_a_messaging_service_answers_accepted_with_no_segments_yet(sandbox):
    message = sandbox.send(From="", MessagingServiceSid=SERVICE).json()

    assert (message["status"], message["num_segments"], message["from"]) == ("accepted", "0", None)
    assert message["messaging_service_sid"] == SERVICE


@pytest.mark.parametrize("char", ["a", "é", "щ", "你", "😀", "&", "+", "%", "=", "\n"])
def test_a_body_of_1600_characters_arrives_intact(sandbox, char):
    response = sandbox.send(Body=char * 1600)

    assert response.status_code == 201
    found = sandbox.client.get(response.json()["uri"]).json()
    assert found["body"] == char * 1600


@pytest.mark.parametrize(
    ("text", "segments"),
    [
        ("a" * 160, 1),
        ("a" * 161, 2),
        ("a" * 306, 2),
        ("a" * 307, 3),
        ("€" * 80, 1),
        ("€" * 81, 2),
        ("a" * 152 + "€" + "a" * 152, 3),
        ("`" * 70, 1),
        ("`" * 71, 2),
        ("😀" * 35, 1),
        ("😀" * 36, 2),
        ("😀" * 66, 2),
        ("😀" * 67, 3),
    ],
)
def test_segments_are_counted_without_splitting_a_character(text, segments):
    assert count_segments(text) == segments


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        ("+12349013030", "0/KCTR6DLpKmkAf8muzZqo1nDgQ="),
        ("+14158675309", "RSOYDt4T1cUTdK1PDd93/VVr8B8="),
    ],
)
def test_the_signature_is_that_of_twilios_published_examples(caller, expected):
    # The examples of Twilio's page on webhook security and of its helper libraries' tests.
    form = {
        "To": "+18005551212",
        "From": caller,
        "Digits": "1234",
        "Caller": caller,
        "CallSid": "CA1234567890ABCDE",
    }

    assert signature("12345", "https://mycompany.com/myapp.php?foo=1&bar=2", form) == expected
