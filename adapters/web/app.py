"""The web application that gateways call, and how it is served.

Not here: what its routes do (`receiver`), and policy, which is handed in from above.
"""

import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.gateways.base import Gateway
from adapters.web.inbox import Inbox, OnInbound
from adapters.web.limits import sparing_logs
from adapters.web.listeners import Listeners
from adapters.web.protocol import LimitedProtocol
from adapters.web.receiver import Receiver
from adapters.web.shared import Shared
from data.database import DatabaseError, ping
from data.errors import SmsError

_DRAIN = 10  # seconds that open requests have when the server is told to stop
_PING = 5.0  # seconds that the database has to answer


class ServeError(SmsError):
    """The receiver cannot listen."""


def create_app(
    gateways: Callable[[str], Gateway | None],
    *,
    public_url: str,
    refresh: Callable[[], None] | None = None,
    on_inbound: OnInbound | None = None,
    everyone: Callable[[], Mapping[str, Gateway]] = dict,
) -> FastAPI:
    """Make the receiver.

    `gateways` returns a gateway by its name at once, from memory; where it knows none, `refresh`
    is called, in a thread and never twice at a time, to learn of those that have come since.
    Callbacks are verified against `public_url`, the address under which gateways call this server.
    `everyone` returns all gateways by name, likewise at once: for those whose reports come over a
    bind, one is held while the server runs.
    """
    inbox = Inbox(on_inbound)
    listeners = Listeners(everyone, inbox)
    receiver = Receiver(gateways, public_url.rstrip("/"), inbox, refresh)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        inbox.start()
        listeners.start()
        yield
        await listeners.stop()
        await inbox.stop()

    # Plain routes: FastAPI's own cost more than half of the time of a callback.
    routes = [
        Route("/health", _health(inbox, listeners), methods=["GET"]),
        _callbacks("/gateways/{name}/reports", receiver.reports),
        _callbacks("/gateways/{name}/inbound", receiver.inbound),
    ]
    return FastAPI(
        title="sms-campaigns",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        routes=list(routes),
    )


def _callbacks(path: str, receive: Callable[[Request], Awaitable[Response]]) -> Route:
    route = Route(path, receive, methods=["GET", "POST"])
    # Starlette adds HEAD to GET, and a look at an address must not store anything.
    route.methods = {"GET", "POST"}
    return route


def _health(inbox: Inbox, listeners: Listeners) -> Callable[[Request], Awaitable[Response]]:
    alive = Shared(ping)

    async def health(_: Request) -> Response:
        """200 where callbacks can be stored, else 503 with what is in the way.

        A bind that is down is named, and no more: its reports wait at the gateway.
        """
        problem = inbox.problem()
        if problem is None:
            try:
                await alive(_PING)
            except (DatabaseError, SQLAlchemyError, TimeoutError):
                problem = "the database does not answer"
        down = listeners.down()
        told = {"status": problem or "ok"} | ({"binds_down": down} if down else {})
        return JSONResponse(told, 503 if problem else 200)

    return health


def configured(app: FastAPI) -> uvicorn.Config:
    """Return how the application is to be served, limits on connections included."""
    return uvicorn.Config(
        app,
        http=LimitedProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN,
    )


def serve(app: FastAPI, port: int, host: str = "127.0.0.1") -> None:
    """Serve until SIGTERM or Ctrl-C, then answer what is open and return.

    Call it in the main thread. Raises `ServeError` where the port is taken.
    """
    try:
        listening = socket.create_server((host, port), backlog=2048)
    except OSError as error:
        raise ServeError(
            f"port {port} on {host} cannot be listened on ({error.strerror}): stop what uses it,"
            " or choose another port"
        ) from error
    # uvicorn answers what is open and then raises the signal again: that is to end this call only.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with listening, sparing_logs(), suppress(KeyboardInterrupt):
            uvicorn.Server(configured(app)).run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
