"""Puts the receiver together: the web app from `adapters`, the gateways from Prefect's blocks."""

import logging
import threading
import time
from typing import Any

from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings
from sqlalchemy import Connection

from adapters import blocks
from adapters.gateways import Settings, make_gateway
from adapters.gateways.base import Gateway, GatewayError, Timeouts
from adapters.limits import rate_in_force
from adapters.web import app as web
from data import pace, waits
from data.errors import SmsError
from data.settings import settings
from tasks import answering
from tasks.responding import Responder

_REFRESH_SECONDS = 30.0
_LOOK_SECONDS = 1.0
_log = logging.getLogger("sms.receiver")


class PrefectAwayError(SmsError):
    """Prefect does not say what gateways there are."""


class Gateways:
    """The gateways by name, from memory: refreshed while Prefect answers, kept when it does not."""

    def __init__(self) -> None:
        self._known: dict[str, Gateway] = {}
        self._saved: dict[str, Settings] = {}
        self._looked_at = 0.0
        self._lock = threading.Lock()
        self._look()
        threading.Thread(target=self._keep_fresh, daemon=True, name="gateways").start()

    def known(self, name: str) -> Gateway | None:
        """Return a gateway from memory."""
        return self._known.get(name)

    def everyone(self) -> dict[str, Gateway]:
        """Return all gateways by name, from memory; each is the same until its settings change."""
        return self._known

    def make(self, name: str) -> Gateway:
        """Make a gateway anew: one that sends belongs to one event loop at a time.

        Raises `GatewayError` where it is not known, or not as it is saved.
        """
        if name not in self._saved:
            raise GatewayError(
                f"gateway {name} is not saved: `sms gateway list` shows what there is"
            )
        return _made(name, self._saved[name])

    def rate(self, name: str, sender: str) -> float | None:
        """Return how many messages (or segments) a second may leave by a gateway and sender.

        As people have set it in Prefect; where that does not answer, None: as it was, and for a
        lane that is new as the gateway is saved.
        """
        saved = self._saved.get(name)
        if saved is None:
            return None
        try:
            with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
                return rate_in_force(name, sender, float(saved.rate))
        except Exception:  # noqa: BLE001 - whatever keeps Prefect from answering
            known = waits.lane(pace.lane_of(name, sender))
            return float(saved.rate) if known is None else None

    def refresh(self) -> None:
        """Learn of gateways that have been added since; Prefect is asked once a second at most.

        Raises `PrefectAwayError` where it does not answer: whether there is a gateway is open then.
        """
        with self._lock:
            # Waited for, not passed over: a gateway may have been added since that last look.
            time.sleep(max(self._looked_at + _LOOK_SECONDS - time.monotonic(), 0))
            if not self._look():
                raise PrefectAwayError("Prefect does not answer: is its server running?")

    def _keep_fresh(self) -> None:
        while True:
            time.sleep(_REFRESH_SECONDS)
            with self._lock:
                self._look()

    def _look(self) -> bool:
        try:
            found = blocks.documents(blocks.SmsGateway)
        except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from answering
            _log.warning(
                "gateways not refreshed, going on with %d known: %s",
                len(self._known),
                type(error).__name__,
            )
            return False
        finally:
            self._looked_at = time.monotonic()
        saved = {name: block.settings for name, block in found if block.settings.kind != "route"}
        made = {name: self._make(name, one) for name, one in saved.items()}
        self._known = {name: gateway for name, gateway in made.items() if gateway is not None}
        self._saved = saved
        return True

    def _make(self, name: str, saved: Settings) -> Gateway | None:
        if name in self._known and self._saved.get(name) == saved:
            # The same object: one that holds a bind would have to bind again.
            return self._known[name]
        try:
            return _made(name, saved)
        except Exception as error:  # noqa: BLE001 - one gateway must not take the rest along
            _log.error("gateway %s cannot be used as it is saved: %s", name, type(error).__name__)
            return self._known.get(name)


def _made(name: str, saved: Settings) -> Gateway:
    return make_gateway(
        name,
        saved,
        receiver_url=settings().receiver_url,
        timeouts=Timeouts(request=settings().request_timeout),
    )


def serve(*, host: str, port: int) -> None:
    """Serve delivery reports and replies, and answer these, until the process is told to stop."""
    gateways = Gateways()
    responder = Responder(gateways.make, gateways.rate)

    def on_inbound(connection: Connection, replies: list[dict[str, Any]]) -> None:
        answering.on_inbound(connection, replies)
        responder.wake()

    app = web.create_app(
        gateways.known,
        refresh=gateways.refresh,
        public_url=settings().receiver_url,
        everyone=gateways.everyone,
        on_inbound=on_inbound,
    )
    answering.warm_up()
    responder.start()
    try:
        web.serve(app, port, host)
    finally:
        responder.stop()
