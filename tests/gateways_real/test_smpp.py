"""Campaigns through a real SMSC simulator, which is another SMPP implementation than our client."""

import asyncio
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.gateways import make_gateway, smpp
from adapters.gateways.base import Timeouts
from adapters.gateways.smpp import Smpp, SmppSettings
from adapters.web import listeners
from data.database import now
from data.tables import CampaignRun
from tasks.reconciliation import reconcile
from tasks.segments import count_segments
from tests import plans
from tests.adapters.web.serving import Server, replies
from tests.programs import need
from tests.sandboxes import wait_until

pytestmark = pytest.mark.heavy

HERE = Path(__file__).parent
INSTALL = "install Node.js (apt-get install nodejs npm), then `npm ci` in tests/gateways_real"
ME = "+15005550006"


class Simulator:
    """The SMSC in its process (smsc.js), and what it says of itself."""

    def __init__(self, node: str, port: int, control: int) -> None:
        self._command = [node, str(HERE / "smsc.js"), str(port), str(control)]
        self.port = port
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{control}", timeout=10)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        wait_until(self._answers)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.stop()
        self._http.close()

    def state(self) -> dict[str, Any]:
        return self._http.get("/state").json()

    def taken(self) -> list[dict[str, Any]]:
        return self.state()["taken"]

    def tell(self, path: str, **what: object) -> None:
        self._http.post(path, json=what).raise_for_status()

    def _answers(self) -> bool:
        try:
            return self.state() is not None
        except httpx.TransportError:
            return False


@pytest.fixture
def smsc(free_port: Callable[[], int]) -> Iterator[Simulator]:
    node = need("node", INSTALL)
    need_package()
    running = Simulator(node, free_port(), free_port())
    yield running
    running.close()


def need_package() -> None:
    if not (HERE / "node_modules" / "smpp").is_dir():
        need(str(HERE / "node_modules" / "smpp"), INSTALL)


def gateway(smsc: Simulator, password: str = "secret") -> Smpp:
    settings = SmppSettings.model_validate(
        {
            "host": "127.0.0.1",
            "port": smsc.port,
            "system_id": "tester",
            "password": password,
            "sender": ME,
        }
    )
    made = make_gateway(
        "smsc", settings, receiver_url="http://127.0.0.1:8780", timeouts=Timeouts(5, 2)
    )
    assert isinstance(made, Smpp)
    return made


@pytest.fixture
def receiver(sqlite: str, smsc: Simulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The receiver of `sms web`, with its bind."""
    monkeypatch.setattr(listeners, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(smpp, "FIRST_WAIT", 0.1)
    monkeypatch.setattr(smpp, "LONGEST_WAIT", 0.2)
    server = Server(gateways={"smsc": gateway(smsc)})  # type: ignore[dict-item]
    wait_until(lambda: smsc.state()["bound"] == 1)
    yield server
    server.stop()


def send_all(run: CampaignRun, smsc: Simulator) -> Counter[str]:
    counts: Counter[str] = Counter()
    while tally := plans.send(run, lambda: gateway(smsc)).counts:
        counts += tally
    return counts


def planned(count: int, **columns: Any) -> CampaignRun:
    run = plans.open_run(gateway="smsc", sender=ME)
    plans.add_messages(run, plans.numbers(count), **columns)
    return run


def settle() -> None:
    reconcile(lambda _: None)


def statuses(run: CampaignRun) -> Counter[tuple[str, str | None]]:
    return Counter((m.state, m.status) for m in plans.messages(run).values())


def test_a_campaign_of_1000_goes_out_and_its_receipts_come_back(
    smsc: Simulator, receiver: Server
) -> None:
    run = planned(1_000, batch=[row // 500 for row in range(1_000)])
    assert send_all(run, smsc) == {"accepted": 1_000}
    taken = smsc.taken()
    assert sorted(f"+{message['to']}" for message in taken) == sorted(plans.numbers(1_000))
    assert {(m["from"], m["text"], m["registered_delivery"]) for m in taken} == {
        (ME[1:], "Hello", 1)
    }
    wait_until(lambda: smsc.state()["acknowledged"] == 1_000)
    settle()
    assert statuses(run) == {("accepted", "delivered"): 1_000}


def test_an_inbound_stop_arrives(smsc: Simulator, receiver: Server) -> None:
    smsc.tell("/mo", **{"from": "447700900001", "to": ME[1:], "text": "STOP"})
    wait_until(lambda: smsc.state()["acknowledged"] == 1)
    [reply] = replies()
    assert (reply.gateway, reply.sender, reply.recipient, reply.text) == (
        "smsc",
        "+447700900001",
        ME,
        "STOP",
    )


@pytest.mark.parametrize(
    "text",
    [
        "Grüße! 20 % off {€5} until [Monday] @ ACME~",
        "Long, with pairs at the edges: " + "€{}[]~^|" * 40,
        "Скидка до понедельника 🎉",
        "Длинное сообщение 🎉🎉 " * 20,
    ],
    ids=["gsm7", "gsm7_long", "ucs2", "ucs2_long"],
)
def test_a_text_arrives_whole(smsc: Simulator, receiver: Server, text: str) -> None:
    encoding, segments = count_segments(text)
    closes = now() + timedelta(hours=3)
    run = planned(1, text=text, encoding=encoding, segments=segments, closes_at=closes)
    assert send_all(run, smsc) == {"accepted": 1}
    parts = smsc.taken()
    assert len(parts) == segments
    assert "".join(part["text"] for part in parts) == text
    if segments > 1:
        assert [part["header"][-2:] for part in parts] == [
            [segments, place] for place in range(1, segments + 1)
        ]
        assert {part["esm_class"] for part in parts} == {0x40}
    valid = {part["validity"] for part in parts}
    assert {instant[:19] for instant in valid} == {f"{closes:%Y-%m-%dT%H:%M:%S}"}
    wait_until(lambda: smsc.state()["acknowledged"] == segments)
    settle()
    assert statuses(run) == {("accepted", "delivered"): 1}


def test_a_bind_that_is_dropped_leaves_one_in_doubt_and_nobody_gets_it_twice(
    smsc: Simulator, receiver: Server
) -> None:
    smsc.tell("/faults", lose_after=60)
    run = planned(200)
    counts = send_all(run, smsc)
    assert set(counts) <= {"accepted", "in_doubt", "queued"}
    assert set(plans.states(run)) == {"accepted", "in_doubt"}
    taken = Counter(message["to"] for message in smsc.taken())
    assert max(taken.values()) == 1
    assert smsc.state()["transmitters"] > 1
    messages = plans.messages(run)
    # At most a window: those of which an answer was outstanding when the connection went.
    doubtful = [number for number, m in messages.items() if m.state == "in_doubt"]
    assert 1 <= len(doubtful) <= 10
    [lost] = [f"+{message['to']}" for message in smsc.taken() if not message["answered"]]
    assert lost in doubtful
    assert {f"+{number}" for number in taken} >= messages.keys() - set(doubtful)


def test_a_simulator_that_was_restarted_is_bound_to_again(
    smsc: Simulator, receiver: Server
) -> None:
    smsc.stop()
    wait_until(lambda: receiver.client.get("/health").json().get("binds_down") == ["smsc"])
    smsc.start()
    wait_until(lambda: smsc.state()["bound"] == 1)
    run = planned(3)
    assert send_all(run, smsc) == {"accepted": 3}
    wait_until(lambda: smsc.state()["acknowledged"] == 3)
    assert receiver.client.get("/health").json() == {"status": "ok"}


def test_receipts_wait_at_the_smsc_while_nobody_listens(sqlite: str, smsc: Simulator) -> None:
    run = planned(5)
    assert send_all(run, smsc) == {"accepted": 5}
    server = Server(gateways={"smsc": gateway(smsc)})  # type: ignore[dict-item]
    wait_until(lambda: smsc.state()["acknowledged"] == 5)
    server.stop()
    settle()
    assert statuses(run) == {("accepted", "delivered"): 5}


def test_check_knows_a_good_login_from_a_bad_one(smsc: Simulator) -> None:
    assert asyncio.run(gateway(smsc).check()) == []
    [problem] = asyncio.run(gateway(smsc, "wrong").check())
    assert "ESME_RINVPASWD" in problem
    assert smsc.taken() == []
