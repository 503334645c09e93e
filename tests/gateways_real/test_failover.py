"""A campaign by a route from Plivo to a real Kannel, with Plivo dying half way."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from adapters.gateways import KINDS, make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.route import read_rules
from adapters.sandbox.journal import read_journal
from data import batches, ledger, pace, results, runs, switches
from data.database import reading, writing
from data.tables import CampaignRun
from tasks import asking, sending
from tasks.reconciliation import reconcile
from tasks.routing import Route
from tests import plans
from tests.gateways_real.conftest import Chain
from tests.sandboxes import Sandbox, start, wait_until

pytestmark = pytest.mark.heavy

PEOPLE = 2_000
RATE = 400


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "plivo.jsonl"


def make_plivo(chain: Chain, sandbox: Sandbox) -> Gateway:
    return make_gateway(
        "plivo",
        KINDS["plivo"].model_validate(sandbox.settings("plivo")),
        receiver_url=chain.receiver_url,
        timeouts=Timeouts(request=5, connect=2),
    )


def open_run(people: list[str]) -> CampaignRun:
    route = Route(read_rules("*: plivo > kannel"), {"plivo": "+15005550006", "kannel": "Acme"})
    run = plans.open_run(gateway="world", route=route.stored())
    plans.add_messages(
        run, people, gateway="plivo", batch=[place // 250 for place in range(len(people))]
    )
    for name, sender in route.senders.items():
        pace.set_rate(pace.lane_of(name, sender), RATE)
    return run


def outcomes(run: CampaignRun) -> dict[str, int]:
    """Reconcile, and count the outcomes; raises where a row has none, or two."""
    reconcile(lambda _: None, run_ids=[run.id])
    with writing() as connection:
        results.rebuild(connection, run.id)
    with reading() as connection:
        return results.check(connection, run.id).outcomes


def test_every_row_is_accounted_for_and_nobody_is_messaged_twice(
    chain: Chain, journal: Path
) -> None:
    plivo, people = start(journal), plans.numbers(PEOPLE)
    chain.known["plivo"] = make_plivo(chain, plivo)
    run = open_run(people)

    def make(name: str) -> Gateway:
        return make_plivo(chain, plivo) if name == "plivo" else chain.gateway()

    def send(_: int) -> None:
        while runs.get_run(run.id).state == runs.SENDING and ledger.is_unsent(run.id):
            if held := batches.take(run.id):
                sending.send_batch(held, make)
            else:
                time.sleep(0.05)

    with ThreadPoolExecutor(2) as pool:
        senders = [pool.submit(send, place) for place in range(2)]
        wait_until(lambda: len(read_journal(journal)) >= PEOPLE // 2, 60)
        plivo.kill()
        for sender in senders:
            sender.result(120)

    [switch] = switches.of_run(run.id)
    assert switch.gateway == "plivo"
    assert switch.reason.startswith(("cannot be reached (", "gives no clear answers"))
    by_gateway = Counter((m.gateway, m.state) for m in plans.messages(run).values())
    assert by_gateway[("kannel", "accepted")] == switch.moved > PEOPLE // 4
    # What was in flight when it died, at most two windows, is in doubt and stays with it.
    assert by_gateway[("plivo", "in_doubt")] <= 2 * RATE
    assert sum(outcomes(run).values()) == PEOPLE

    again = start(journal)
    chain.known["plivo"] = make_plivo(chain, again)
    asking.resolve_doubts(run.id, lambda name: make_plivo(chain, again))
    wait_until(lambda: set(outcomes(run)) <= {"delivered", "in_doubt"}, 60)
    again.kill()

    got = Counter(line["to"] for line in read_journal(journal))
    got.update(message.to for message in chain.kannel.printed())
    assert set(got.values()) == {1}
    ends = outcomes(run)
    # Who is in doubt to the end got nothing: Plivo's list proves what it took.
    assert ends == {"delivered": len(got)} | (
        {"in_doubt": PEOPLE - len(got)} if len(got) < PEOPLE else {}
    )
