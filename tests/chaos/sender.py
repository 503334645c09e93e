"""A sending process to be killed: what the flow does after the approval, without Prefect."""

from concurrent.futures import ThreadPoolExecutor

from pydantic import SecretStr

from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.gateways.twilio import TwilioSettings
from data import ledger
from data.database import engine
from data.settings import settings
from tasks import sending
from tests.sandboxes import SID, TOKEN


def main(run_id: str, gateway_url: str, receiver_url: str, rate: float, in_flight: int) -> None:
    """Resolve doubts, then send every batch, several at a time."""
    # A connection must not be shared with the parent.
    engine().dispose(close=False)

    def gateway() -> Gateway:
        return make_gateway(
            "sandbox",
            TwilioSettings(account_sid=SID, auth_token=SecretStr(TOKEN), base_url=gateway_url),
            receiver_url=receiver_url,
            timeouts=Timeouts(request=settings().request_timeout),
        )

    sending.resolve_doubts(run_id, gateway)
    with ThreadPoolExecutor(in_flight) as pool:
        batches = ledger.open_batches(run_id)
        for tally in pool.map(
            lambda batch: sending.send_batch(run_id, batch, gateway, rate), batches
        ):
            assert not tally.stopped, tally.stopped
    sending.resolve_doubts(run_id, gateway)
