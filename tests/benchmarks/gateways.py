"""Messages a second by what one request may carry: one gateway of each batch shape.

Through `tasks.sending` and the ledger to the sandbox, which is a process of its own on the same
cores. Not here: one message a request beside plain clients (send.py).
"""

import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

from adapters.gateways import ADAPTERS, KINDS, make_gateway
from adapters.gateways.base import Capabilities, Gateway, GatewaySettings, Timeouts
from adapters.sandbox.dialects import all_dialects
from data import pace
from data.batches import take
from data.settings import settings
from tasks import sending
from tests import plans
from tests.benchmarks.bench import RECEIVER_URL, Figure, Report, fresh_home, timed
from tests.sandboxes import SID, TOKEN, Sandbox, start

TEXT = "Hi there, our spring sale is on: 20% off everything until Sunday. Reply STOP to opt out"
RATE = 100_000.0  # messages a second: the pace is not what is measured
MARK = 5_000
"""Messages a second that a gateway with several messages in a request is to reach."""
SHAPES = ("single", "same_text", "variables", "distinct")


def run(messages: int = 20_000) -> Report:
    """Send so many messages by a gateway of each shape; ours is the fastest with batches."""
    figures, notes = {}, []
    for shape, kind in chosen().items():
        with fresh_home(), _sandbox() as box:
            served = psutil.Process(box.process.pid)
            before = sum(served.cpu_times()[:2])
            figures[shape] = _send(kind, messages, box)
            each = (sum(served.cpu_times()[:2]) - before) / messages * 1e6
            asked = box.client.get("/_stats").json()["requests"]
        notes.append(
            f"{shape}: {asked:,} requests; the sandbox took {each:.0f} µs of CPU a message"
        )
    batched = [figure for shape, figure in figures.items() if shape != "single"]
    ours = max(batched or figures.values(), key=lambda figure: figure.rate)
    others = [figure for figure in figures.values() if figure is not ours]
    return Report("gateways", "messages", MARK, ours, others, notes)


def chosen() -> dict[str, str]:
    """The kind for each shape: of those that the sandbox speaks, the one with most in a request."""
    spoken = {dialect.kind for dialect in all_dialects(TOKEN, SID)}
    able: dict[str, Capabilities] = {
        kind: ADAPTERS[model].capabilities for kind, model in KINDS.items() if kind in spoken
    }
    best: dict[str, str] = {}
    for shape in SHAPES:
        kinds = [kind for kind, can in able.items() if can.batch == shape]
        if kinds:
            best[shape] = max(kinds, key=lambda kind: able[kind].max_batch)
    return best


@contextmanager
def _sandbox() -> Iterator[Sandbox]:
    with tempfile.TemporaryDirectory(prefix="sms-bench-") as folder:
        box = start(Path(folder) / "journal.jsonl")
        try:
            box.order({"kind": "reports", "reports": "never"})
            yield box
        finally:
            box.kill()
            box.client.close()


def _send(kind: str, messages: int, box: Sandbox) -> Figure:
    account = KINDS[kind].model_validate(box.settings(kind))
    can: Capabilities = ADAPTERS[type(account)].capabilities
    size = settings().batch_size
    batches = [place // size for place in range(messages)]
    one_text = can.batch == "same_text"
    texts = [TEXT if one_text else f"{TEXT} {place}" for place in range(messages)]
    campaign = plans.open_run(gateway=kind, sender=account.sender)
    plans.add_messages(campaign, plans.numbers(messages), batch=batches, text=texts)
    pace.set_rate(pace.lane_of(campaign.gateway, campaign.sender), RATE)

    def send(_: int) -> Counter[str]:
        counts = Counter[str]()
        while held := take(campaign.id):
            counts += sending.send_batch(held, lambda _: _gateway(kind, account)).counts
        return counts

    workers = settings().batches_in_flight
    with timed() as timing, ThreadPoolExecutor(workers) as pool:
        counts = sum(pool.map(send, range(workers)), Counter[str]())
    assert counts == {"accepted": messages}, (kind, counts)
    return Figure(f"{can.batch}, {can.max_batch:,} a request ({kind})", messages, timing)


def _gateway(kind: str, account: GatewaySettings) -> Gateway:
    return make_gateway(
        kind,
        account,
        receiver_url=RECEIVER_URL,
        timeouts=Timeouts(request=settings().request_timeout),
        requests_in_flight=settings().requests_in_flight,
    )
