"""The judgement: what counts as twice, lost and broken, from evidence made by hand."""

import pytest

from data.tables import Message
from tests.chaos.judge import Evidence, judge

PEOPLE = {"+12025550101": "a", "+12025550102": "b", "+12025550103": "c"}
ANN, BOB, CY = PEOPLE


def message(recipient: str, state: str = "accepted", rank: int = 5) -> Message:
    return Message(
        id=PEOPLE[recipient],
        run_id="r",
        request_key=recipient,
        row=list(PEOPLE).index(recipient) + 1,
        recipient=recipient,
        number_key="",
        text="",
        encoding="GSM-7",
        segments=1,
        sender="",
        gateway="sandbox",
        state=state,
        attempt=1,
        status_rank=rank,
    )


def evidence(states: dict[str, str] | None = None, sent: tuple[str, ...] = (ANN, BOB, CY), **known):
    """Three messages that were sent, accepted and reported on, but for what is said."""
    states = {**dict.fromkeys(PEOPLE, "accepted"), **(states or {})}
    values = {
        "planned": list(PEOPLE),
        "messages": {
            who: message(who, state, 5 if state == "accepted" else 0)
            for who, state in states.items()
        },
        "ended": states,
        "journal": [{"to": who, "time": 100.0} for who in sent],
        "reported": {who for who in sent if states.get(who) == "accepted"},
        "finally_reported": {who for who in sent if states.get(who) == "accepted"},
        "in_flight": (),
        "listed": sum(state == "in_doubt" for state in states.values()),
        "window": 0.3,
    }
    return Evidence(**{**values, **known})


def test_a_run_that_went_well_has_no_findings():
    assert judge(evidence()).findings == []


def test_a_recipient_twice_in_the_journal_is_a_duplicate():
    verdict = judge(evidence(sent=(ANN, BOB, CY, BOB)))

    assert verdict.duplicates == ["row 2 (accepted, attempt 1) was sent 2 times"]


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        (evidence(sent=(ANN, CY)), "never came to the gateway"),
        (evidence({BOB: "queued"}, (ANN, CY)), "still queued"),
        (evidence({BOB: "sending"}, (ANN, CY)), "still sending"),
        (evidence({BOB: "rejected"}, (ANN, CY)), "ended as rejected without a reason"),
        (evidence({BOB: "cancelled"}, (ANN, CY)), "ended as cancelled without a reason"),
        (evidence({BOB: "cancelled"}, cancelled_at=99.9), "was sent, and the ledger says"),
        (evidence(planned=[ANN, BOB, CY, "+12025550104"]), "not in the ledger"),
        (evidence(sent=(ANN, BOB, CY, "+12025550199")), "nobody had planned it"),
        (evidence(messages={**evidence().messages, BOB: message(BOB, rank=4)}), "final report"),
    ],
)
def test_a_message_that_is_nowhere_or_somewhere_else_is_lost(given, finding):
    assert any(finding in line for line in judge(given).lost)


@pytest.mark.parametrize(
    ("given", "finding"),
    [
        (evidence({BOB: "in_doubt"}), "not in flight at a fault"),
        (evidence({BOB: "in_doubt"}, in_flight={"b"}, reported={BOB}), "did not settle it"),
        (evidence({BOB: "in_doubt"}, in_flight={"b"}, listed=0), "the results list 0"),
        (evidence(opted_out={BOB: 98.0}), "2.00 s after its opt-out"),
        (evidence(cancelled_at=98.0), "2.00 s after the cancel"),
        (evidence(problems=["a sender ended"]), "a sender ended"),
    ],
)
def test_every_other_promise_is_looked_at(given, finding):
    assert any(finding in line for line in judge(given).broken)


@pytest.mark.parametrize(
    "given",
    [
        evidence({BOB: "in_doubt"}, (ANN, CY), in_flight={"b"}),
        evidence({BOB: "in_doubt"}, (ANN, CY), unclear=1),
        evidence({BOB: "suppressed"}, (ANN, CY), opted_out={BOB: 90.0}),
        evidence({BOB: "cancelled"}, (ANN, CY), cancelled_at=99.0),
        evidence(opted_out={BOB: 99.0}),
        evidence(finally_reported={ANN}, ended={ANN: "accepted", BOB: "expired", CY: "expired"}),
    ],
)
def test_what_is_allowed_is_no_finding(given):
    assert judge(given).findings == []


def test_doubt_is_counted_before_and_after_the_reports():
    given = evidence({CY: "in_doubt"}, (ANN, BOB), in_flight={"b", "c"}, doubted={"b", "c"})

    verdict = judge(given)

    assert (verdict.in_flight, verdict.doubted, verdict.settled, verdict.left) == (2, 2, 1, 1)
