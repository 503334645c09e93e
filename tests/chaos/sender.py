"""A sending process to be killed: what the flow does after the approval, without Prefect.

`python -m tests.chaos.sender RUN_ID GATEWAY_URL RECEIVER_URL RATE`
"""

import sys
from concurrent.futures import ThreadPoolExecutor

from pydantic import SecretStr

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.twilio import TwilioSettings
from data import ledger
from data.settings import settings
from tasks import sending
from tests.sandboxes import SID, TOKEN


def main(run_id: str, gateway_url: str, receiver_url: str, rate: str) -> None:
    """Resolve doubts, then send every batch, several at a time."""

    def gateway() -> Gateway:
        return make_gateway(
            "sandbox",
            TwilioSettings(account_sid=SID, auth_token=SecretStr(TOKEN), base_url=gateway_url),
            receiver_url=receiver_url,
            timeouts=Timeouts(request=settings().request_timeout),
        )

    sending.resolve_doubts(run_id, gateway)
    with ThreadPoolExecutor(settings().batches_in_flight) as pool:
        batches = ledger.open_batches(run_id)
        for tally in pool.map(
            lambda batch: sending.send_batch(run_id, batch, gateway, float(rate)), batches
        ):
            assert not tally.stopped, tally.stopped
    sending.resolve_doubts(run_id, gateway)


if __name__ == "__main__":
    main(*sys.argv[1:])
