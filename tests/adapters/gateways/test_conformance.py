"""Every HTTP gateway kind through the whole job: ledger, adapter, sandbox, receiver, reports.

What a kind cannot do is told by its capabilities, never by its name.
"""

from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import orjson
import pytest
from sqlalchemy import select

from adapters.gateways.base import Callback, Recovery
from adapters.sandbox.dialects import all_dialects
from data import runs
from data.database import engine, now, reading
from data.migrate import migrate
from data.settings import settings
from data.tables import InboundMessage, Message
from tasks import asking, reconciliation
from tasks.grouping import groups
from tests import plans
from tests.adapters.gateways.example import HTTP_KINDS
from tests.adapters.gateways.example import messages as outgoing
from tests.adapters.gateways.stage import Receiver, Stage
from tests.sandboxes import SID, TOKEN, Sandbox, start

pytestmark = pytest.mark.heavy

FAILED = {"undelivered", "failed", "rejected"}
NEVER = {"kind": "reports", "reports": "never"}
LONG = "A message that takes more than one segment, all of them needed to read it. " * 3


def test_the_sandbox_speaks_as_every_kind() -> None:
    spoken = {dialect.kind for dialect in all_dialects(TOKEN, SID)}
    assert set(HTTP_KINDS) <= spoken


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Sandbox, Receiver]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SMS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.delenv("SMS_DATABASE_URL", raising=False)
        settings.cache_clear()
        migrate()
        sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
        receiver = Receiver()
        yield sandbox, receiver
        sandbox.kill()
        sandbox.client.close()
        receiver.stop()
        engine().dispose()
    settings.cache_clear()


@pytest.fixture(params=HTTP_KINDS)
def stage(request: pytest.FixtureRequest, running: tuple[Sandbox, Receiver]) -> Stage:
    sandbox, receiver = running
    sandbox.client.delete("/_faults")
    return Stage(request.param, sandbox, receiver)


# Sending


def test_what_is_accepted_is_delivered(stage: Stage) -> None:
    people = [stage.number() for _ in range(3)]
    texts = ["Hello, 50 % off & more = {fun}?", "Grüße: 5 € – “quoted”", "Приве́т 陽菜 🎉"]
    run = stage.sent(people, text=texts, encoding=["GSM-7", "UCS-2", "UCS-2"])
    found = stage.settle(run)
    assert [(found[to].state, found[to].status) for to in people] == [("accepted", "delivered")] * 3
    taken = [stage.sandbox.accepted(to) for to in people]
    assert [[line["body"] for line in lines] for lines in taken] == [[text] for text in texts]


def test_one_text_goes_out_in_as_few_requests_as_the_gateway_can(stage: Stage) -> None:
    before = stage.stats()["requests"]
    people = [stage.number() for _ in range(6)]
    run = stage.sent(people)
    assert plans.states(run) == ["accepted"] * 6
    assert stage.times_taken(people) == [1] * 6
    expected = len(groups(outgoing(6, text="Hello"), stage.can))
    assert stage.stats()["requests"] - before == expected


def test_throttling_is_waiting(stage: Stage) -> None:
    stage.sandbox.order({"kind": "refuse", "why": "throttled", "times": 1})
    people = [stage.number() for _ in range(3)]
    run = stage.sent(people)
    assert plans.states(run) == ["accepted"] * 3
    assert max(message.attempt for message in plans.messages(run).values()) > 1
    assert stage.times_taken(people) == [1] * 3


def test_what_fails_at_the_gateway_is_in_doubt_and_is_not_sent_again(stage: Stage) -> None:
    stage.sandbox.order({"kind": "status", "code": 500})
    before = stage.stats()["requests"]
    people = [stage.number() for _ in range(3)]
    run = stage.sent(people)
    assert plans.states(run) == ["in_doubt"] * 3
    expected = len(groups(outgoing(3, text="Hello"), stage.can))
    assert stage.stats()["requests"] - before == expected


@pytest.mark.parametrize("accepted", [True, False], ids=["taken", "not_taken"])
def test_of_a_lost_answer_nobody_gets_two_messages(stage: Stage, accepted: bool) -> None:
    stage.sandbox.order({"kind": "reset", "accepted": accepted, "times": 1}, NEVER)
    person = stage.number()
    run = stage.sent([person])
    assert plans.states(run) == ["in_doubt"]
    assert stage.times_taken([person]) == [int(accepted)]
    asking.resolve_doubts(run.id, lambda _: stage.gateway())
    [state] = plans.states(run)
    if stage.can.recovery is Recovery.RESEND:
        if state == "queued":
            # The gateway knows it by its id once it has it, and takes it once.
            plans.change(plans.messages(run)[person].id, retry_at=now())
            stage.send(run)
        assert plans.states(run) == ["accepted"]
        assert stage.times_taken([person]) == [1]
    else:
        found = accepted and stage.can.recovery is not Recovery.NONE
        assert state == ("accepted" if found else "in_doubt")
        assert stage.times_taken([person]) == [int(accepted)]


def test_a_report_settles_what_was_in_doubt(stage: Stage) -> None:
    stage.sandbox.order({"kind": "reset", "accepted": True, "times": 1})
    person = stage.number()
    found = stage.settle(stage.sent([person]))[person]
    if stage.can.reference == "none":
        assert found.state == "in_doubt"
    else:
        assert (found.state, found.status) == ("accepted", "delivered")


# Refusals


def test_a_number_that_cannot_get_it_is_refused_alone(stage: Stage) -> None:
    people = [stage.number(), stage.number("1614"), stage.number(), stage.number()]
    run = stage.sent(people)
    assert plans.states(run) == ["accepted", "rejected", "accepted", "accepted"]
    assert plans.messages(run)[people[1]].reason.startswith("gateway_")
    assert stage.times_taken(people) == [1, 0, 1, 1]


def test_a_number_that_does_not_exist_is_reported_as_failed(stage: Stage) -> None:
    person = stage.number("3005")
    found = stage.settle(stage.sent([person]))[person]
    assert found.status in FAILED
    assert found.error_code
    assert stage.times_taken([person]) == [1]


@pytest.mark.parametrize(("ending", "place"), [("1610", "answer"), ("2610", "report")])
def test_an_opt_out_at_the_gateway_is_kept(stage: Stage, ending: str, place: str) -> None:
    person = stage.number(ending)
    found = stage.settle(stage.sent([person]))[person]
    assert (found.state, found.status) != ("accepted", "delivered")
    taken = stage.times_taken([person])
    again = stage.sent([person])
    if place in stage.can.opt_outs:
        assert (plans.states(again), stage.times_taken([person])) == (["suppressed"], taken)
    else:
        # The gateway has no word for it, and none is made up.
        assert plans.states(again) != ["suppressed"]


def test_an_account_that_may_not_send_stops_the_run(stage: Stage) -> None:
    stage.sandbox.order({"kind": "refuse", "why": "account"})
    people = [stage.number() for _ in range(3)]
    run = stage.sent(people)
    stored = runs.get_run(run.id)
    assert (stored.state, plans.states(run)) == (runs.PAUSED, ["queued"] * 3)
    assert f"mend it, then run `sms resume {run.id}`" in stored.note
    assert stage.times_taken(people) == [0] * 3


# Reports


def test_a_report_before_the_answer_finds_its_message(stage: Stage) -> None:
    stage.sandbox.order({"kind": "reports", "reports": "before_answer"})
    people = [stage.number() for _ in range(3)]
    found = stage.settle(stage.sent(people))
    assert [(found[to].state, found[to].status) for to in people] == [("accepted", "delivered")] * 3


@pytest.mark.parametrize("order", ["double", "shuffled"])
def test_reports_twice_or_out_of_order_say_the_same(stage: Stage, order: str) -> None:
    stage.sandbox.order({"kind": "reports", "reports": order})
    person = stage.number()
    found = stage.settle(stage.sent([person]))[person]
    assert (found.state, found.status, found.conflict) == ("accepted", "delivered", False)


def test_of_contradictory_reports_the_first_stands_and_the_conflict_shows(stage: Stage) -> None:
    stage.sandbox.order({"kind": "reports", "reports": "contradict"})
    person = stage.number()
    found = stage.settle(stage.sent([person]))[person]
    assert (found.state, found.status, found.conflict) == ("accepted", "delivered", True)


def test_a_long_message_is_delivered_with_all_of_its_parts(stage: Stage) -> None:
    person = stage.number()
    found = stage.settle(stage.sent([person], text=LONG, segments=2))[person]
    assert (found.status, found.segments) == ("delivered", 2)
    [taken] = stage.sandbox.accepted(person)
    assert taken["body"] == LONG


def test_a_long_message_fails_with_one_of_its_parts(stage: Stage) -> None:
    stage.sandbox.order({"kind": "reports", "reports": "part_fails"})
    person = stage.number()
    found = stage.settle(stage.sent([person], text=LONG, segments=2))[person]
    # Where parts have no reports of their own, none can fail alone.
    assert found.status in (FAILED if stage.can.parts else {"delivered"})
    assert found.state == "accepted"


def test_a_reply_is_kept_with_what_came(stage: Stage) -> None:
    person, text = stage.number(), "Stop, please – merci 🎉"
    assert stage.reply(person, text) < 300
    table = InboundMessage.__table__  # type: ignore[attr-defined]
    with reading() as connection:
        mine = select(table).where(table.c.gateway == stage.name)
        [kept] = connection.execute(mine).mappings()
    assert (kept["sender"], kept["text"]) == (person, text)
    assert kept["recipient"].removeprefix("+") == stage.settings.sender.removeprefix("+")
    assert kept["raw"]


# Callbacks that are not what they seem


@pytest.fixture
def delivered(stage: Stage) -> tuple[str, Callback]:
    """A number with a delivered message, and the callback that said so."""
    person = stage.number()
    stage.settle(stage.sent([person]))
    return person, stage.heard.got[-1]


def unsigned(callback: Callback, other: Callback) -> Callback:
    """A callback without what its secret makes of it: where it differs from one of another's."""
    same = {
        name: value for name, value in callback.headers.items() if other.headers.get(name) == value
    }
    query = "&".join(_alike(urlsplit(callback.url).query, urlsplit(other.url).query))
    url = callback.url.partition("?")[0] + ("?" + query if query else "")
    return replace(callback, headers=same, url=url, body=_body(callback, other))


def _alike(query: str, other: str) -> list[str]:
    return [pair for pair in query.split("&") if pair in other.split("&")]


def _body(callback: Callback, other: Callback) -> bytes:
    if callback.body == other.body:
        return callback.body
    if callback.body.startswith(b"{"):
        own, others = orjson.loads(callback.body), orjson.loads(other.body)
        return orjson.dumps({name: own[name] for name in own if own[name] == others.get(name)})
    return "&".join(_alike(callback.body.decode(), other.body.decode())).encode()


def changed(callback: Callback) -> Iterator[Callback]:
    """A callback with one byte changed in the middle, and at the end, of what it says."""
    said = callback.body or callback.url.encode()
    for place in (len(said) // 2, len(said) - 1):
        other = said[:place] + bytes([said[place] ^ 1]) + said[place + 1 :]
        yield (
            replace(callback, body=other)
            if callback.body
            else replace(callback, url=other.decode())
        )


def wrong_tokens(url: str) -> list[str]:
    """An address with another token, and with none."""
    before, _, rest = url.partition("token=")
    token, others = rest[:32], rest[32:]
    return [f"{before}token={token[::-1]}{others}", before.rstrip("?&") + others]


def with_token_of(url: str, other: str) -> str:
    token, others = (address.partition("token=")[2][:32] for address in (url, other))
    return url.replace(token, others)


def messages_to(recipient: str) -> list[dict[str, object]]:
    """All that is stored of the messages to a number."""
    table = Message.__table__  # type: ignore[attr-defined]
    with reading() as connection:
        rows = connection.execute(select(table).where(table.c.recipient == recipient)).mappings()
        return [dict(row) for row in rows]


def test_a_callback_that_the_gateway_did_not_make_is_refused(
    stage: Stage, delivered: tuple[str, Callback]
) -> None:
    person, _ = delivered
    genuine, stranger = stage.report(person), stage.report(person, "another-secret-of-tests")
    if stage.can.callbacks == "token":
        # The gateway signs nothing: the token in the address is all the proof there is.
        others = stage.number()
        stage.settle(stage.sent([others]))
        forged = [*wrong_tokens(genuine.url), with_token_of(genuine.url, stage.report(others).url)]
        forgeries = [replace(genuine, url=url) for url in forged]
    else:
        forgeries = [stranger, unsigned(genuine, stranger), *changed(genuine)]
    assert genuine not in forgeries
    assert [stage.post(callback) for callback in forgeries] == [403] * len(forgeries)
    assert stage.post(genuine) < 300


def test_a_callback_that_comes_again_changes_nothing(
    stage: Stage, delivered: tuple[str, Callback]
) -> None:
    person, callback = delivered
    [before] = messages_to(person)
    assert stage.post(callback) < 300
    reconciliation.reconcile(lambda _: None)
    assert messages_to(person) == [before]
    assert stage.times_taken([person]) == [1]
