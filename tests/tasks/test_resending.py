"""A gateway that takes each message id only once: what is in doubt goes out again, by all rules."""

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

import pytest

from adapters.gateways import KINDS, make_gateway
from adapters.gateways.base import (
    Capabilities,
    Finding,
    Gateway,
    Recovery,
    Suspect,
    Timeouts,
)
from adapters.gateways.route import read_rules
from data import deferral, doubts, runs
from data.database import now
from data.tables import CampaignRun
from tasks import asking, sending
from tasks.routing import Route
from tests import plans
from tests.sandboxes import Sandbox, start


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.order()
    return running


@pytest.fixture
def make(sandbox: Sandbox) -> Callable[[], Gateway]:
    return lambda: make_gateway(
        "sandbox",
        KINDS["infobip"].model_validate(sandbox.settings("infobip")),
        receiver_url="http://127.0.0.1:9",
        timeouts=Timeouts(request=5, connect=2),
    )


@pytest.fixture
def run(database: str) -> CampaignRun:
    return plans.open_run()


def lose_answer(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway], *, accepted: bool
) -> str:
    """Send one message whose answer is lost; return its recipient."""
    number = sandbox.number()
    plans.add_messages(run, [number])
    sandbox.order({"kind": "reset", "accepted": accepted})
    plans.send(run, make)
    assert plans.states(run) == ["in_doubt"]
    sandbox.order()
    return number


def resolve(run: CampaignRun, make: Callable[[], Gateway]) -> dict[str, int]:
    found = asking.resolve_doubts(run.id, lambda _: make())
    return {name: count for name, count in found.items() if count}


def send_again(run: CampaignRun, make: Callable[[], Gateway]) -> None:
    for message in plans.messages(run).values():
        plans.change(message.id, retry_at=None)
    plans.send(run, make)


@pytest.mark.parametrize("accepted", [True, False], ids=["taken before", "not taken before"])
def test_it_is_there_once_in_the_end(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway], accepted: bool
) -> None:
    number = lose_answer(run, sandbox, make, accepted=accepted)
    asking.resolve_doubts(run.id, lambda _: make())
    send_again(run, make)
    assert plans.states(run) == ["accepted"]
    assert len(sandbox.accepted(number)) == 1


def test_nothing_is_sent_by_asking(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway]
) -> None:
    number = lose_answer(run, sandbox, make, accepted=False)
    assert resolve(run, make) == {"again": 1}
    assert plans.states(run) == ["queued"]
    assert sandbox.accepted(number) == []


def again(run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway]) -> str:
    """A message that waits to be sent again; return its recipient."""
    number = lose_answer(run, sandbox, make, accepted=False)
    assert resolve(run, make) == {"again": 1}
    return number


def test_a_refusal_the_second_time_says_nothing_of_the_first(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway]
) -> None:
    again(run, sandbox, make)
    sandbox.order({"kind": "refuse", "why": "content"})
    send_again(run, make)
    assert plans.states(run) == ["in_doubt"]


@pytest.mark.parametrize("late", [True, False], ids=["window over", "in the window"])
def test_it_goes_out_again_only_while_the_gateway_knows_the_id(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway], late: bool
) -> None:
    number = again(run, sandbox, make)
    [message] = plans.messages(run).values()
    assert message.resend_until is not None
    assert message.resend_until <= now() + timedelta(minutes=30)
    if late:
        plans.change(message.id, resend_until=now())
    send_again(run, make)
    assert plans.states(run) == ["in_doubt" if late else "accepted"]
    assert len(sandbox.accepted(number)) == (0 if late else 1)


def test_an_old_doubt_is_not_sent_again(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway]
) -> None:
    lose_answer(run, sandbox, make, accepted=True)
    [message] = plans.messages(run).values()
    plans.change(message.id, submitted_at=now() - timedelta(minutes=31))
    assert doubts.send_again(run.id, "sandbox", timedelta(hours=1)) == 0


def test_a_gateway_that_never_answers_clearly_is_not_tried_for_ever(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway]
) -> None:
    lose_answer(run, sandbox, make, accepted=False)
    sandbox.order({"kind": "reset"})
    tries = 1
    while resolve(run, make).get("again"):
        send_again(run, make)
        tries += 1
    assert (tries, plans.states(run)) == (6, ["in_doubt"])


@pytest.mark.parametrize("what", ["opted out", "deadline", "cancelled", "paused"])
def test_who_must_not_get_it_any_more_stays_in_doubt(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway], what: str
) -> None:
    number = again(run, sandbox, make)
    match what:
        case "opted out":
            plans.opt_out(number, now())
        case "deadline":
            runs.store(run.id, not_after=now())
            sending.put_aside(runs.get_run(run.id))
        case "cancelled":
            deferral.cancel_open(run.id)
        case "paused":
            runs.move(run.id, runs.PAUSED)
    send_again(runs.get_run(run.id), make)
    assert plans.states(run) == ["queued" if what == "paused" else "in_doubt"]
    assert sandbox.accepted(number) == []


def test_what_a_restored_backup_put_in_doubt_is_not_sent_again(
    run: CampaignRun, sandbox: Sandbox, make: Callable[[], Gateway]
) -> None:
    """Another gateway of the route may have sent it since the backup, under the same id."""
    lose_answer(run, sandbox, make, accepted=False)
    [message] = plans.messages(run).values()
    plans.change(message.id, reason="restored")
    assert resolve(run, make) == {"open": 1}
    assert plans.states(run) == ["in_doubt"]


class Absent:
    """A gateway that can prove that it never got a message."""

    capabilities = Capabilities(recovery=Recovery.BY_REFERENCE)

    async def __aenter__(self) -> "Absent":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def recover(self, suspects: Sequence[Suspect]) -> list[Finding]:
        return [Finding(suspect.id, "absent") for suspect in suspects]


@pytest.mark.parametrize(
    ("rules", "state"), [("*: one", "queued"), ("*: one > two", "in_doubt")], ids=["alone", "route"]
)
def test_absence_at_one_gateway_of_a_route_proves_nothing_after_a_restored_backup(
    database: str, rules: str, state: str
) -> None:
    """Since the backup the other one may have taken over."""
    run = plans.open_run(gateway="world", route=Route(read_rules(rules), {}).stored())
    [message] = plans.add_messages(run, ["+12022000000"], gateway="one")
    plans.change(message, state="in_doubt", reason="restored", attempt=1)
    asking.resolve_doubts(run.id, lambda _: Absent())  # type: ignore[arg-type, return-value]
    assert plans.states(run) == [state]
