"""The web application that gateways call, and how it is served.

Not here: what its routes do (`receiver`), and policy, which is handed in from above.
"""

import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import uvicorn
from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from adapters.gateways.base import Gateway
from adapters.web.receiver import Inbox, OnInbound, Receiver
from data.database import DatabaseError, ping
from data.errors import SmsError

_DRAIN = 10  # seconds that open requests have when the server is told to stop


class ServeError(SmsError):
    """The receiver cannot listen."""


def create_app(
    gateways: Callable[[str], Gateway | None],
    *,
    public_url: str,
    look_up: Callable[[str], Gateway | None] | None = None,
    on_inbound: OnInbound | None = None,
) -> FastAPI:
    """Make the receiver.

    `gateways` returns a gateway by its name at once, from memory; None: there is none, unless
    `look_up`, which may ask elsewhere, has learnt of it since. Callbacks are verified against
    `public_url`, the address under which gateways call this server.
    """
    inbox = Inbox(on_inbound)
    receiver = Receiver(gateways, public_url.rstrip("/"), inbox, look_up)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        inbox.start()
        yield
        await inbox.stop()

    # Plain routes: FastAPI's own cost more than half of the time of a callback.
    routes = [
        Route("/health", _health, methods=["GET"]),
        Route("/gateways/{name}/reports", receiver.reports, methods=["GET", "POST"]),
        Route("/gateways/{name}/inbound", receiver.inbound, methods=["GET", "POST"]),
    ]
    return FastAPI(
        title="sms-campaigns",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=lifespan,
        routes=list(routes),
    )


async def _health(_: Request) -> Response:
    try:
        await run_in_threadpool(ping)
    except DatabaseError:
        return JSONResponse({"status": "the database does not answer"}, 503)
    return JSONResponse({"status": "ok"})


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
    config = uvicorn.Config(
        app,
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=_DRAIN,
    )
    # uvicorn answers what is open and then raises the signal again: that is to end this call only.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with listening, suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)
