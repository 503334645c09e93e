"""Reports for every dialect: parts, callbacks by GET, several or none for one step, and faults."""

import pytest

from tests.adapters.sandbox import invented
from tests.adapters.sandbox.invented import send

LONG = "x" * 161


def _send(many, receiver, ref, **message):
    send(many, {"to": many.number(), "callback": receiver.url(ref), **message})


def test_a_callback_may_be_a_get_without_a_body(many, receiver, wait_until):
    _send(many, receiver, "get")

    wait_until(lambda: len(receiver.got["get"]) == 2)

    assert receiver.ends("get") == ["0~sent", "0~delivered"]
    for callback in receiver.got["get"]:
        assert (callback.method, callback.body) == ("GET", "")
        assert not {"Content-Type", "Content-Length"} & set(callback.headers)


def test_the_address_of_a_get_arrives_letter_by_letter(many, receiver, wait_until):
    odd = receiver.url("odd").replace("?", "?x=%7Ea%2Fb+c%20d;e&empty=&y=%C3%A9&")
    send(many, {"to": many.number(), "callback": odd})

    wait_until(lambda: receiver.got["odd"])

    assert f"{odd}~0~sent".endswith(receiver.got["odd"][0].target)


def test_a_callback_keeps_its_content_type(many, receiver):
    inbound = {"from": "+1202", "body": "é", "url": receiver.url("json"), "kind": "invented"}
    many.client.post("/_send_inbound", json=inbound)

    (callback,) = receiver.got["json"]
    assert callback.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("x" * 160, ["0~sent", "0~delivered"]),
        ("x" * 161, ["0~sent", "1~sent", "0~delivered", "1~delivered"]),
    ],
)
def test_each_part_has_reports_of_its_own(many, receiver, wait_until, text, ends):
    ref = f"parts{len(text)}"
    _send(many, receiver, ref, text=text)

    wait_until(lambda: len(receiver.got[ref]) == len(ends))

    assert receiver.ends(ref) == ends


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        (
            {"reports": "part_fails"},
            ["0~sent", "1~sent", "0~delivered", "1~undelivered~unreachable"],
        ),
        ({"reports": "shuffled"}, ["1~delivered", "0~delivered", "1~sent", "0~sent"]),
        (
            {"reports": "double"},
            [
                *("0~sent", "0~sent", "1~sent", "1~sent"),
                *("0~delivered", "0~delivered", "1~delivered", "1~delivered"),
            ],
        ),
        (
            {"reports": "contradict"},
            [
                *("0~sent", "1~sent", "0~delivered", "1~delivered"),
                *("0~failed~other", "1~failed~other"),
            ],
        ),
        (
            {"reports": "late", "seconds": 0.3},
            ["0~sent", "1~sent", "0~delivered", "1~delivered"],
        ),
    ],
    ids=lambda value: value.get("reports") if isinstance(value, dict) else "",
)
def test_reports_of_parts_misbehave_as_ordered(many, receiver, wait_until, fault, ends):
    ref = f"parts-{fault['reports']}"
    many.order({"kind": "reports", **fault})
    _send(many, receiver, ref, text=LONG)

    wait_until(lambda: len(receiver.got[ref]) >= len(ends))

    assert receiver.ends(ref) == ends


def test_no_part_fails_of_a_short_message_or_where_there_are_none(many, receiver, wait_until):
    many.order({"kind": "reports", "reports": "part_fails"})
    _send(many, receiver, "short")
    many.send(Body=LONG, StatusCallback=receiver.url("no-parts"))

    wait_until(lambda: len(receiver.got["short"]) == len(receiver.got["no-parts"]) == 2)

    assert receiver.ends("short") == ["0~sent", "0~delivered"]
    assert receiver.statuses("no-parts") == ["sent", "delivered"]


def test_reports_of_a_whole_request_come_before_its_answer_when_so_ordered(many, receiver):
    many.order({"kind": "reports", "reports": "before_answer"})
    people = [many.number() for _ in range(3)]

    send(many, *({"to": to, "callback": receiver.url(f"early{to}")} for to in people))

    assert [receiver.ends(f"early{to}") for to in people] == [["0~sent", "0~delivered"]] * 3


def test_one_message_of_a_request_gets_no_reports_when_so_ordered(many, receiver, wait_until):
    people = [many.number() for _ in range(3)]
    many.order({"kind": "reports", "reports": "never", "to": people[1]})

    send(many, *({"to": to, "callback": receiver.url(f"one{to}")} for to in people))

    wait_until(lambda: all(len(receiver.got[f"one{to}"]) == 2 for to in (people[0], people[2])))
    assert receiver.got[f"one{people[1]}"] == []


@pytest.mark.parametrize(
    ("sent", "ends"),
    [("0", ["0~delivered"]), ("2", ["0~sent", "0~sent~again", "0~delivered"])],
)
def test_a_step_may_be_no_callback_or_several(many, receiver, wait_until, sent, ends):
    ref = f"posts{sent}"
    _send(many, receiver, ref, sent=sent)

    wait_until(lambda: len(receiver.got[ref]) == len(ends))

    assert receiver.ends(ref) == ends


def test_only_the_callback_that_failed_is_made_again(many, receiver, wait_until):
    receiver.answers["mended"] = [204, 503, 204]
    _send(many, receiver, "mended", sent="2")

    wait_until(lambda: len(receiver.got["mended"]) == 4)

    assert receiver.ends("mended") == ["0~sent", "0~sent~again", "0~sent~again", "0~delivered"]


@pytest.mark.parametrize(
    ("ending", "end"),
    [
        ("2610", "undelivered~opted_out"),
        ("3003", "undelivered~unreachable"),
        ("3005", "undelivered~unknown_number"),
        ("3006", "undelivered~landline"),
        ("3008", "failed~other"),
    ],
)
def test_a_report_says_why_by_the_last_four_digits(many, receiver, wait_until, ending, end):
    ref = f"ending{ending}"
    _send(many, receiver, ref, to=f"+1202555{ending}")

    wait_until(lambda: len(receiver.got[ref]) == 2)

    assert receiver.ends(ref)[-1] == f"0~{end}"


def test_reports_are_owed_by_the_gateway_that_took_the_message(
    start, tmp_path, receiver, wait_until
):
    first = start(tmp_path / "journal.jsonl", invented.SERVE)
    first.order({"kind": "reports", "reports": "late", "seconds": 600})
    _send(first, receiver, "owed-elsewhere")
    first.kill()

    start(tmp_path / "journal.jsonl", invented.SERVE)

    wait_until(lambda: receiver.ends("owed-elsewhere") == ["0~sent", "0~delivered"])


def test_counts_of_waiting_reports_come_down_to_none(many, receiver, wait_until):
    _send(many, receiver, "waiting", sent="0", text=LONG)

    wait_until(lambda: many.client.get("/_stats").json()["callbacks_waiting"] == 0)
