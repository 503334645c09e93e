"""The journal: on disk before the answer, and read back after a crash."""

from itertools import count

import orjson
import pytest

from adapters.sandbox.journal import Journal, Message, read_journal

_IDS = count()


def _message(to="+12025550100", body="Hello", **more):
    callback = "http://host/r?ref=1"
    values = {"reference": callback, "callback": callback, "time": 1.0, **more}
    return Message(f"SM{next(_IDS)}", to, "12345", body, **values)


def _accept(journal, *args, **more):
    message = _message(*args, **more)
    journal.accept([message])
    return message


def test_an_answered_message_survives_a_kill(start, tmp_path):
    path = tmp_path / "journal.jsonl"
    sandbox = start(path)
    sid = sandbox.send("+12025550100", Body="Hé 😀").json()["sid"]
    sandbox.kill()

    (line,) = read_journal(path)
    assert line.pop("time") > 0
    assert line == {
        "sid": sid,
        "to": "+12025550100",
        "from": "+15005550006",
        "body": "Hé 😀",
        "reference": "",
    }


def test_look_ups_and_reports_go_on_after_a_kill(start, tmp_path, receiver, wait_until):
    first = start(tmp_path / "journal.jsonl")
    first.order({"kind": "reports", "reports": "late", "seconds": 600})
    uri = first.send("+12025550100", StatusCallback=receiver.url("owed")).json()["uri"]
    first.kill()
    assert receiver.got["owed"] == []

    second = start(tmp_path / "journal.jsonl")

    wait_until(lambda: receiver.statuses("owed") == ["sent", "delivered"])
    assert second.client.get(uri).json()["status"] == "delivered"
    assert len(second.accepted("+12025550100")) == 1


def test_reports_that_are_through_are_not_owed_after_a_restart(tmp_path):
    journal = Journal(tmp_path / "journal.jsonl")
    through, owed = _accept(journal), _accept(journal)
    journal.record_report(through, "sent", None, handed_over=True, last=False)
    journal.record_report(through, "delivered", None, handed_over=True, last=True)
    journal.record_report(owed, "sent", None, handed_over=True, last=False)
    journal.close()

    again = Journal(tmp_path / "journal.jsonl")

    assert [message.sid for message in again.unreported()] == [owed.sid]


@pytest.mark.parametrize("torn", [b'{"sid":"SM', b"\xf0\x9f", b'{"sid":"x"}', b"x" * 200_000])
@pytest.mark.parametrize("whole", [0, 2])
def test_a_line_that_a_crash_cut_off_is_dropped(tmp_path, torn, whole):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    sids = [_accept(journal).sid for _ in range(whole)]
    journal.close()
    with path.open("ab") as file:
        file.write(torn)
    assert [line["sid"] for line in read_journal(path)] == sids

    again = Journal(path)
    sids.append(_accept(again).sid)

    assert [line["sid"] for line in read_journal(path)] == sids
    assert len(again) == whole + 1


def test_statuses_are_journalled_beside_the_messages(tmp_path):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    message = _accept(journal)
    journal.record_report(message, "undelivered", "unreachable", handed_over=True, last=True)

    line = orjson.loads(path.read_bytes().splitlines()[1])
    assert (line["sid"], line["status"], line["why"]) == (
        message.sid,
        "undelivered",
        "unreachable",
    )
    assert len(read_journal(path)) == 1


@pytest.mark.parametrize(
    ("sent", "duplicates"),
    [
        ([], 0),
        ([("+1", "a"), ("+2", "a")], 0),
        ([("+1", "a"), ("+1", "b")], 0),
        ([("+1", "a"), ("+1", "b"), ("+1", "a")], 1),
        ([("+1", "a")] * 3 + [("+2", "a")] * 2, 2),
    ],
)
def test_duplicates_are_recipients_that_got_one_text_twice(tmp_path, sent, duplicates):
    journal = Journal(tmp_path / "journal.jsonl")
    for to, body in sent:
        _accept(journal, to, body)

    assert journal.recipients_with_duplicates() == duplicates


def test_the_journal_is_for_its_owner_only(tmp_path):
    Journal(tmp_path / "journal.jsonl")

    assert (tmp_path / "journal.jsonl").stat().st_mode & 0o077 == 0
