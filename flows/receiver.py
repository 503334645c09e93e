"""Puts the receiver together: the web app from `adapters`, the gateways from Prefect's blocks."""

import logging
import threading
import time

from adapters import blocks
from adapters.gateways import make_gateway
from adapters.gateways.base import Gateway, Timeouts
from adapters.web import app as web
from data.settings import settings

_REFRESH_SECONDS = 30.0
_log = logging.getLogger("sms.receiver")


class Gateways:
    """The gateways by name, from memory: refreshed while Prefect answers, kept when it does not."""

    def __init__(self) -> None:
        self._known: dict[str, Gateway] = {}
        self._looked_at = 0.0
        self._lock = threading.Lock()
        self._refresh()
        threading.Thread(target=self._keep_fresh, daemon=True, name="gateways").start()

    def known(self, name: str) -> Gateway | None:
        """Return a gateway from memory."""
        return self._known.get(name)

    def look_up(self, name: str) -> Gateway | None:
        """Return a gateway that may have been added since; Prefect is asked once a second.

        Callers wait for a look that is under way: a gateway's first callbacks come many at a time.
        """
        with self._lock:
            if name not in self._known and time.monotonic() - self._looked_at > 1:
                self._refresh()
        return self._known.get(name)

    def _keep_fresh(self) -> None:
        while True:
            time.sleep(_REFRESH_SECONDS)
            with self._lock:
                self._refresh()

    def _refresh(self) -> None:
        try:
            found = blocks.documents(blocks.SmsGateway)
        except Exception as error:  # noqa: BLE001 - whatever keeps Prefect from answering
            _log.warning(
                "gateways not refreshed, going on with %d known: %s",
                len(self._known),
                type(error).__name__,
            )
            return
        finally:
            self._looked_at = time.monotonic()
        self._known = {
            name: make_gateway(
                name,
                block.settings,
                receiver_url=settings().receiver_url,
                timeouts=Timeouts(request=settings().request_timeout),
            )
            for name, block in found
        }


def serve(*, host: str, port: int) -> None:
    """Serve delivery reports until the process is told to stop."""
    gateways = Gateways()
    app = web.create_app(
        gateways.known, look_up=gateways.look_up, public_url=settings().receiver_url
    )
    web.serve(app, port, host)
