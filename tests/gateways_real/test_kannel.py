"""Campaigns through a real Kannel, to the phones behind its fake SMSC and back.

`apt-get install kannel kannel-extras` has the programs.
"""

import asyncio
import signal
import threading
from collections import Counter
from urllib.parse import unquote_to_bytes

import pytest
from sqlalchemy import select

from data import runs
from data.database import reading
from data.tables import CampaignRun, DeliveryEvent, InboundMessage
from tasks import judging
from tasks.reconciliation import reconcile
from tests import plans
from tests.gateways_real.conftest import Chain
from tests.gateways_real.kannel import SHORT_CODE, Printed
from tests.sandboxes import wait_until

pytestmark = pytest.mark.heavy

MINUTE = 60.0


def open_run() -> CampaignRun:
    return plans.open_run(gateway="kannel", sender="Acme")


def delivered(run: CampaignRun) -> set[str]:
    """The numbers of the messages that were reported delivered so far."""
    reconcile(lambda _: None)
    return {to for to, message in plans.messages(run).items() if message.status == "delivered"}


def reported() -> list[str]:
    with reading() as connection:
        return list(connection.scalars(select(DeliveryEvent.__table__.c.status)))


def words(parts: list[Printed], encoding: str) -> str:
    """The text that a phone makes of the parts it got; but for plain texts they are escaped."""
    if parts[0].kind == "text":
        return parts[0].body
    octets = b"".join(unquote_to_bytes(part.body.replace("+", " ")) for part in parts)
    return octets.decode("utf-8" if encoding == "GSM-7" else "utf-16-be")


def test_a_campaign_of_a_thousand_is_delivered_and_each_is_sent_once(chain: Chain) -> None:
    run, people = open_run(), plans.numbers(1000)
    plans.add_messages(run, people, text=[f"Hello {place}" for place in range(1000)])
    tally = plans.send(run, chain.gateway, rate=500)
    assert dict(tally.counts) == {"accepted": 1000}
    wait_until(lambda: len(delivered(run)) == 1000, MINUTE)
    printed = Counter((message.to, message.body) for message in chain.kannel.printed())
    assert printed == Counter((to, f"Hello {place}") for place, to in enumerate(people))
    assert {message.sender for message in chain.kannel.printed()} == {"Acme"}


@pytest.mark.parametrize(
    ("text", "encoding", "segments", "kind"),
    [
        # No line break: the fake SMSC speaks in lines.
        ("a+b&c=d %41 €[~]{}^\\| two  é<end> ", "GSM-7", 1, "text"),
        ("48656c6c6f", "GSM-7", 1, "text"),
        ("x" * 150 + "€" * 50, "GSM-7", 2, "data"),
        (" שלום 你好 🎉 ", "UCS-2", 1, "ucs-2"),
        ("ש" * 100, "UCS-2", 2, "data"),
    ],
    ids=["delimiters", "hex", "long", "ucs-2", "long ucs-2"],
)
def test_a_text_arrives_as_it_is_and_is_reported_once(
    chain: Chain, text: str, encoding: str, segments: int, kind: str
) -> None:
    run = open_run()
    plans.add_messages(run, ["+12022000000"], text=text, encoding=encoding, segments=segments)
    plans.send(run, chain.gateway)
    wait_until(lambda: delivered(run) and "sent" in reported())
    # Of a long message, too: Kannel asks the SMSC about one part alone.
    assert sorted(reported()) == ["delivered", "sent"]
    parts = chain.kannel.printed()
    assert [part.kind for part in parts] == [kind] * segments
    assert all(part.udh for part in parts) == (segments > 1)
    assert words(parts, encoding) == text


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("text STOP", "STOP"),
        ("text  Stop  it é", " Stop  it é"),
        ("ucs2 %05%E9%00+%D8%3C%DF%89", "ש 🎉"),
    ],
    ids=["gsm", "spaces", "ucs-2"],
)
def test_a_reply_arrives_once_and_as_it_is(chain: Chain, sent: str, text: str) -> None:
    chain.kannel.start_phones(f"+447700900001 {SHORT_CODE} {sent}")
    wait_until(replies)
    [reply] = replies()
    assert (reply.gateway, reply.sender, reply.recipient) == ("kannel", "+447700900001", SHORT_CODE)
    assert reply.text == text
    # Kannel fetches again, after a second, what it did not get the right answer to.
    threading.Event().wait(2.5)
    assert len(replies()) == 1
    assert chain.kannel.printed() == []


def replies() -> list[InboundMessage]:
    with reading() as connection:
        rows = connection.execute(select(InboundMessage.__table__)).mappings()
        return [InboundMessage(**row) for row in rows]


def test_a_smsbox_that_dies_and_comes_back_sends_nobody_a_message_twice(chain: Chain) -> None:
    run, people = open_run(), plans.numbers(300)
    plans.add_messages(run, people)
    sender = threading.Thread(target=plans.send, args=(run, chain.gateway), kwargs={"rate": 100})
    sender.start()
    wait_until(lambda: len(chain.kannel.printed()) >= 50)
    # What smsbox passes on now goes out later, but nobody hears from it that it was taken.
    chain.kannel.signal("bearerbox", signal.SIGSTOP)
    threading.Event().wait(0.5)
    chain.kannel.kill("smsbox")
    chain.kannel.signal("bearerbox", signal.SIGCONT)
    chain.kannel.start_smsbox()
    sender.join(MINUTE)
    assert not sender.is_alive()
    if runs.get_run(run.id).state == runs.PAUSED:
        # So many requests in a row had no clear answer that a person is to look first.
        judging.forget(run.id)
        runs.move(run.id, runs.SENDING)
        plans.send(run, chain.gateway, rate=100)
    messages = plans.messages(run)
    taken = {to for to, message in messages.items() if message.state == "accepted"}
    in_doubt = {to for to, message in messages.items() if message.state == "in_doubt"}
    assert taken | in_doubt == set(people)
    wait_until(lambda: taken <= {message.to for message in chain.kannel.printed()})
    printed = Counter(message.to for message in chain.kannel.printed())
    assert set(printed.values()) == {1}
    # Some had been passed on: of those, a report comes and ends the doubt.
    passed_on = in_doubt & set(printed)
    assert passed_on
    wait_until(lambda: passed_on <= delivered(run))


def test_what_waits_while_no_smsc_is_there_is_accepted_and_goes_out_later(chain: Chain) -> None:
    run = open_run()
    plans.add_messages(run, ["+12022000000"])
    chain.kannel.kill("fakesmsc")
    plans.send(run, chain.gateway)
    assert plans.states(run) == ["accepted"]
    chain.kannel.start_phones()
    wait_until(lambda: delivered(run), MINUTE)
    assert len(chain.kannel.printed()) == 1


def test_a_login_is_checked_without_a_message(chain: Chain) -> None:
    async def check() -> list[str]:
        async with chain.gateway() as gateway:
            return await gateway.check()

    assert asyncio.run(check()) == []
    assert chain.kannel.printed() == []
