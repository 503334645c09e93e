"""The dialects there are: a new one is an import and a line here. The first is the default."""

from adapters.sandbox.dialect import Dialect
from adapters.sandbox.infobip import Infobip
from adapters.sandbox.jasmin import Jasmin
from adapters.sandbox.kannel import Kannel
from adapters.sandbox.plivo import Plivo
from adapters.sandbox.sinch import Sinch
from adapters.sandbox.telnyx import Telnyx
from adapters.sandbox.twilio import Twilio
from adapters.sandbox.vonage import Vonage
from adapters.sandbox.vonage_messages import VonageMessages


def all_dialects(secret: str, account_sid: str) -> list[Dialect]:
    """Return every dialect, with `secret` for all of its credentials that are secret."""
    return [
        Twilio(secret, account_sid),
        Plivo(secret),
        Sinch(secret),
        Infobip(secret),
        Telnyx(secret),
        Vonage(secret),
        VonageMessages(secret),
        Kannel(secret),
        Jasmin(secret),
    ]
