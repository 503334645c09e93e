"""The gateways there are: a new one is a line in `ADAPTERS`. See README.md here."""

from typing import TYPE_CHECKING, Annotated, Any, Union

from pydantic import Field

from adapters.gateways.base import Addresses, Gateway, GatewayError, GatewaySettings, Timeouts
from adapters.gateways.infobip import Infobip, InfobipSettings
from adapters.gateways.jasmin import Jasmin, JasminSettings
from adapters.gateways.kannel import Kannel, KannelSettings
from adapters.gateways.plivo import Plivo, PlivoSettings
from adapters.gateways.route import RouteSettings
from adapters.gateways.sinch import Sinch, SinchSettings
from adapters.gateways.smpp import Smpp, SmppSettings
from adapters.gateways.telnyx import Telnyx, TelnyxSettings
from adapters.gateways.twilio import Twilio, TwilioSettings
from adapters.gateways.vonage import Vonage, VonageSettings
from adapters.gateways.vonage_messages import VonageMessages, VonageMessagesSettings

ADAPTERS: dict[type[GatewaySettings], Any] = {
    TwilioSettings: Twilio,
    VonageSettings: Vonage,
    VonageMessagesSettings: VonageMessages,
    PlivoSettings: Plivo,
    TelnyxSettings: Telnyx,
    SinchSettings: Sinch,
    InfobipSettings: Infobip,
    KannelSettings: Kannel,
    JasminSettings: Jasmin,
    SmppSettings: Smpp,
}

KINDS: dict[str, type[GatewaySettings]] = {
    settings.model_fields["kind"].default: settings for settings in ADAPTERS
}
"""Settings by kind, the name that a person types and that is stored."""

if TYPE_CHECKING:
    Settings = GatewaySettings
else:
    # A union of what is listed above, so that a gateway is listed once; and routes over them.
    Settings = Annotated[Union[(*ADAPTERS, RouteSettings)], Field(discriminator="kind")]


def make_gateway(
    name: str,
    settings: GatewaySettings,
    *,
    receiver_url: str,
    timeouts: Timeouts,
    requests_in_flight: int = 32,
) -> Gateway:
    """Make the adapter for a gateway's settings; enter it (`async with`) before use.

    Raises `GatewayError` for settings of no known gateway.
    """
    adapter = ADAPTERS.get(type(settings))
    if adapter is None:
        kind = getattr(settings, "kind", type(settings).__name__)
        raise GatewayError(f"gateway {name}: kind {kind!r} is none of {', '.join(KINDS)}")
    gateway: Gateway = adapter(
        settings, Addresses(name, receiver_url), timeouts, requests_in_flight
    )
    return gateway
