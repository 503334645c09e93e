"""A route over two real gateways, of which one fails: who sends what, and what is told."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from adapters.gateways import KINDS, make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.route import read_rules
from data import batches, ledger, pace, runs, switches
from data.tables import CampaignRun
from tasks import asking, sending
from tasks.routing import Route
from tests import plans
from tests.sandboxes import Sandbox, start

Pair = dict[str, Sandbox]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    boxes = {n: start(tmp_path_factory.mktemp(n) / "journal.jsonl") for n in ("one", "two")}
    yield boxes
    for box in boxes.values():
        box.kill()
        box.client.close()


@pytest.fixture
def pair(running: Pair) -> Pair:
    for box in running.values():
        box.order()
    return running


@pytest.fixture
def make(pair: Pair) -> Callable[[str], Gateway]:
    """Makes the adapter of a gateway: `one` and `two` are the sandboxes, `dead` is nobody."""

    def gateway(name: str) -> Gateway:
        settings = pair["one" if name == "dead" else name].settings("twilio")
        if name == "dead":
            settings["base_url"] = "http://127.0.0.1:9"
        return make_gateway(
            name,
            KINDS["twilio"].model_validate(settings),
            receiver_url="http://127.0.0.1:9",
            timeouts=Timeouts(request=5, connect=2),
        )

    return gateway


def open_run(rules: str, people: list[str], **columns: object) -> CampaignRun:
    legs = read_rules(rules)
    senders = {name: "+15005550006" for leg in legs for name in leg.gateways}
    run = plans.open_run(gateway="world", route=Route(legs, senders).stored())
    plans.add_messages(run, people, gateway=legs[0].gateways[0], **columns)
    for name, sender in senders.items():
        pace.set_rate(pace.lane_of(name, sender), 1000)
    return run


def send(run: CampaignRun, make: Callable[[str], Gateway]) -> None:
    """Send every batch until none can be taken; those with a delay are waited for."""
    while runs.get_run(run.id).state == runs.SENDING and ledger.is_unsent(run.id):
        if held := batches.take(run.id):
            sending.send_batch(held, make)
        else:
            time.sleep(0.05)


def by_gateway(run: CampaignRun) -> Counter[tuple[str, str]]:
    return Counter((m.gateway, m.state) for m in plans.messages(run).values())


def got(pair: Pair, people: list[str]) -> list[int]:
    """How many messages each of them got, from whichever gateway."""
    return [sum(len(box.accepted(number)) for box in pair.values()) for number in people]


def fresh(pair: Pair, count: int) -> list[str]:
    return [pair["one"].number() for _ in range(count)]


def test_each_gateway_sends_its_own_messages_of_a_batch(
    database: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    run = open_run("*: one, two", people := fresh(pair, 20))
    for place, message in enumerate(plans.messages(run).values()):
        plans.change(message.id, gateway="two" if place % 2 else "one")
    send(run, make)
    assert by_gateway(run) == {("one", "accepted"): 10, ("two", "accepted"): 10}
    assert got(pair, people) == [1] * 20


def test_a_refused_account_sends_the_rest_by_who_stands_in(
    database: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    pair["one"].order({"kind": "status", "code": 401})
    run = open_run("*: one > two", fresh(pair, 30))
    send(run, make)
    assert by_gateway(run) == {("two", "accepted"): 30}
    [switch] = switches.of_run(run.id)
    assert switch.gateway == "one"
    assert switch.reason.startswith("cannot send from this account (20003 HTTP 401")


def test_without_anybody_left_the_run_pauses_and_says_why(
    sqlite: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    for box in pair.values():
        box.order({"kind": "status", "code": 401})
    run = open_run("*: one > two", fresh(pair, 5))
    send(run, make)
    stored = runs.get_run(run.id)
    assert stored.state == runs.PAUSED
    assert "the gateway two cannot send from this account" in stored.note
    assert f"`sms resume {run.id}`" in stored.note
    assert {state for _, state in by_gateway(run)} == {"queued"}


def test_a_gateway_that_cannot_be_reached_is_taken_out(
    database: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    run = open_run("*: dead > two", fresh(pair, 40))
    send(run, make)
    assert by_gateway(run) == {("two", "accepted"): 40}
    assert switches.of_run(run.id)[0].reason.startswith("cannot be reached (unreachable")


def test_what_got_no_clear_answer_is_never_sent_by_another(
    database: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    pair["one"].order({"kind": "reset", "accepted": True})
    run = open_run("*: one > two", people := fresh(pair, 120), batch=[n // 40 for n in range(120)])
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: send(run, make), range(2)))
    counts = by_gateway(run)
    assert counts[("one", "in_doubt")] >= 20
    assert counts[("two", "accepted")] == 120 - counts[("one", "in_doubt")]
    assert got(pair, people) == [1] * 120
    pair["one"].order()
    asking.resolve_doubts(run.id, make)
    assert set(by_gateway(run)) == {("one", "accepted"), ("two", "accepted")}


def test_a_gateway_that_refuses_some_recipients_stays(
    sqlite: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    people = [f"+1202{place}1614" for place in range(200, 230)]
    run = open_run("*: one > two", [*people, *fresh(pair, 5)])
    send(run, make)
    assert switches.of_run(run.id) == []
    assert by_gateway(run) == {("one", "accepted"): 5, ("one", "rejected"): 30}


def test_a_single_gateway_that_gives_no_clear_answers_pauses_the_run(
    sqlite: str, pair: Pair, make: Callable[[str], Gateway]
) -> None:
    pair["one"].order({"kind": "reset"})
    run = open_run("*: one", fresh(pair, 100), batch=[n // 25 for n in range(100)])
    send(run, make)
    assert switches.of_run(run.id) == []
    assert "the gateway one gives no clear answers" in runs.get_run(run.id).note
    assert by_gateway(run) == {("one", "in_doubt"): 25, ("one", "queued"): 75}
