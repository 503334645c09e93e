"""An account at an SMSC on loopback, and messages for it."""

from adapters.gateways import make_gateway
from adapters.gateways.base import Answer, Outgoing, Timeouts
from adapters.gateways.smpp import Smpp, SmppSettings
from tasks.segments import count_segments
from tests.adapters.gateways.smsc import Smsc

THREE = "x" * 400  # as a text, three parts


def adapter(port: int, *, timeout: float = 5, **settings: object) -> Smpp:
    values = {"host": "127.0.0.1", "port": port, "system_id": "me", "password": "pass"}
    made = make_gateway(
        "main",
        SmppSettings.model_validate(values | {"sender": "+15005550006"} | settings),
        receiver_url="http://127.0.0.1:8780",
        timeouts=Timeouts(timeout, timeout),
    )
    assert isinstance(made, Smpp)
    return made


def message(text: str = "Hello", **fields: object) -> Outgoing:
    encoding, segments = count_segments(text)
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": text,
        "sender": "+15005550006",
        "encoding": encoding,
        "segments": segments,
    }
    return Outgoing(**(values | fields))  # type: ignore[arg-type]


async def submit(smsc: Smsc, sent: Outgoing | None = None, **more: object) -> Answer:
    async with adapter(smsc.port, **more) as made:  # type: ignore[arg-type]
        [answer] = await made.submit([sent or message()])
    return answer
