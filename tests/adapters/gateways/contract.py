"""The examples of all gateway kinds, and gateways made from them, for the contract's tests."""

from importlib import import_module
from pathlib import Path

from adapters.gateways import KINDS, make_gateway
from adapters.gateways.base import Gateway, GatewaySettings, Timeouts
from tests.adapters.gateways.example import ADDRESSES, Example

FILES = (Path(__file__).parent / "examples").glob("[!_]*.py")
EXAMPLES: dict[str, Example] = {
    file.stem.replace("_", "-"): import_module(
        f"tests.adapters.gateways.examples.{file.stem}"
    ).EXAMPLE
    for file in FILES
}


def settings(kind: str, base_url: str) -> GatewaySettings:
    """The example's settings, with this address where the kind has one."""
    model = KINDS[kind]
    address = {"base_url": base_url} if "base_url" in model.model_fields else {}
    return model.model_validate(EXAMPLES[kind].settings | address | {"sender": "+15005550006"})


def gateway(kind: str, base_url: str, *, timeout: float = 5, in_flight: int = 8) -> Gateway:
    """The adapter, not open yet."""
    return make_gateway(
        ADDRESSES.gateway,
        settings(kind, base_url),
        receiver_url=ADDRESSES.receiver_url,
        timeouts=Timeouts(timeout, timeout),
        requests_in_flight=in_flight,
    )
