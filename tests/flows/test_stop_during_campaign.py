"""People answer STOP while a campaign goes out: they get nothing more, and the result says so."""

import json
import threading
from datetime import timedelta
from itertools import islice

import pytest
from sqlalchemy import select

from data import pace, runs
from data.database import reading
from data.settings import settings
from data.tables import ConsentEvent
from tests import plans
from tests.flows.campaigns import Desk
from tests.sandboxes import wait_until

PEOPLE = 5_000
TEXT = "Your order is ready"


def stop(desk: Desk, number: str) -> None:
    """Answer STOP, which the gateway passes on to the receiver, signed."""
    desk.sandbox.client.post(
        "/_send_inbound",
        json={
            "from": number,
            "body": "Stop",
            "url": f"{settings().receiver_url}/gateways/sandbox/inbound",
        },
    ).raise_for_status()


def stored(number: str) -> ConsentEvent | None:
    events = ConsentEvent.__table__
    wanted = (events.c.recipient == number) & (events.c.type == "opt_out")
    with reading() as connection:
        row = connection.execute(select(events).where(wanted)).mappings().first()
    return None if row is None else ConsentEvent(**row)


@pytest.mark.heavy
@pytest.mark.timeout(300)
def test_who_answers_stop_during_a_campaign_is_sent_nothing_more(desk: Desk) -> None:
    ordinary = (n for n in desk.people(PEOPLE + 100) if not n.endswith(plans.SPECIAL))
    people = list(islice(ordinary, PEOPLE))
    leaving = people[249::250]
    before = desk.accepted()

    def answer() -> None:
        wait_until(lambda: desk.accepted() > before + PEOPLE // 10, seconds=120)
        for number in leaving:
            stop(desk, number)

    answering = threading.Thread(target=answer)
    answering.start()
    said = desk.sms("send", desk.campaign(desk.audience(people), message=TEXT))
    answering.join()
    assert said.code == 0, said.err

    messages = plans.messages(runs.get_run(said.run_id))
    outcomes = {
        record["row"]: (record["outcome"], record["reason"])
        for record in json.loads(desk.sms("results", said.run_id, "--format", "json").stdout)
    }
    stopped = 0
    for number in leaving:
        event, message = stored(number), messages[number]
        assert event is not None, "the STOP was not stored"
        sent = [told for told in desk.sandbox.accepted(number) if told["body"] == TEXT]
        if message.state == "accepted":
            assert message.submitted_at is not None
            late = message.submitted_at - event.recorded_at
            assert late <= timedelta(seconds=pace.WINDOW), f"claimed {late} after the STOP"
            assert len(sent) == 1
        else:
            stopped += 1
            assert outcomes[message.row] == ("suppressed", "opted_out")
            assert sent == []
    assert stopped > len(leaving) // 4, "the campaign was over before the STOP"
    assert outcomes[PEOPLE] == ("suppressed", "opted_out"), "the last one had the most time"
    others = [number for number in people if number not in leaving]
    assert {messages[number].state for number in others} == {"accepted"}
