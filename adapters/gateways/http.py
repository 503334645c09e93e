"""The HTTP client that every gateway adapter sends with, and what its failures prove.

Here: one client with its limits and time-outs, replies, and the line between "never sent" and "no
clear answer". Not here: any gateway's wire format, and retries: there are none, on purpose.
"""

import asyncio
import base64
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from adapters.gateways.base import (
    UNREACHABLE,
    Addresses,
    Answer,
    ErrorClass,
    GatewayError,
    Outgoing,
    Timeouts,
)
from adapters.gateways.values import mail_date
from data.privacy import mask_text

LARGEST_BODY = 1 << 20
"""Bytes of an answer that are read; more is no answer to a message."""

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept. Below the 5 s after which common servers close theirs: a
POST that meets a closing connection ends in doubt."""

_OF_ONE_MESSAGE = {ErrorClass.RECIPIENT, ErrorClass.OPTOUT, ErrorClass.CONTENT}

_FAILURES = (httpx.HTTPError, httpx.InvalidURL, aiohttp.ClientError, OSError)

# httpx logs every address at INFO, and a look-up has a telephone number in its query.
logging.getLogger("httpx").setLevel(logging.WARNING)


class NotSentError(GatewayError):
    """No connection came about, so the gateway did not get the request."""


class NoAnswerError(GatewayError):
    """The gateway may have got the request; nothing readable came back."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer, whole."""

    status: int
    headers: httpx.Headers
    body: bytes

    @property
    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is not one."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def retry_after(self) -> float | None:
        """Seconds until the instant in `Retry-After` (a number or a date, RFC 9110 10.2.3)."""
        value = self.headers.get("retry-after", "")
        if value.isascii() and value.isdigit():
            return float(value)
        instant = mail_date(value)
        return None if instant is None else max(0.0, (instant - datetime.now(UTC)).total_seconds())


def never_sent(error: BaseException) -> bool:
    """Whether a failed POST certainly did not reach the gateway.

    Only aiohttp's `ClientConnectorError` proves it (refused, unknown host, failed TLS handshake):
    it is raised before anything is written. The names of httpx prove nothing, because the
    transport reports every lost connection as `httpx.ConnectTimeout`. `__context__` is left out:
    it may hold an earlier failure than the one that matters.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, aiohttp.ClientConnectorError):
            return True
        cause = cause.__cause__
    return False


@cache
def _trust() -> ssl.SSLContext:
    # Reading the certificates takes longer than a hundred requests.
    return httpx.create_ssl_context(trust_env=False)


class Client:
    """The client of one gateway: httpx's requests over aiohttp, at a fifth of httpx's own CPU.

    It repeats nothing, follows no redirect, keeps no cookie and reads no environment. Only POST may
    carry a message: aiohttp itself repeats GET, PUT and DELETE when a kept-alive connection drops.
    """

    def __init__(
        self,
        base_url: str,
        *,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        requests_in_flight: int,
    ) -> None:
        self.base_url = base_url
        named = {"user-agent": "sms-campaigns", "accept-encoding": "identity", **headers}
        self._sent_headers = [
            (name.encode(), value.encode()) for name, value in {"accept": "*/*", **named}.items()
        ]
        self._timeouts = timeouts
        self._timeout = httpx.Timeout(timeouts.request, connect=timeouts.connect).as_dict()
        self._urls: dict[str, httpx.URL] = {}
        self._in_flight = requests_in_flight

    async def __aenter__(self) -> Self:
        context = _trust()

        def session() -> aiohttp.ClientSession:
            connector = aiohttp.TCPConnector(
                limit=self._in_flight, keepalive_timeout=KEEP_ALIVE, ssl=context
            )
            return aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )

        self._slots = asyncio.Semaphore(self._in_flight)
        # The transport alone: all that a client does around it would have to be turned off
        # (redirects, cookies, authentication, environment), and costs a fifth of a message's CPU.
        self._transport = AiohttpTransport(verify=context, trust_env=False, client=session)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.aclose()

    async def post_form(self, path: str, form: Mapping[str, str]) -> Reply:
        """POST a form. Raises `NotSentError` and `NoAnswerError`, nothing else of the network."""
        headers = {"content-type": "application/x-www-form-urlencoded"}
        return await self.post(path, urlencode(form).encode(), headers)

    async def post_json(self, path: str, value: object) -> Reply:
        """POST a JSON value. Raises `NotSentError` and `NoAnswerError`."""
        return await self.post(path, orjson.dumps(value), {"content-type": "application/json"})

    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """POST a body with headers of its own. Raises `NotSentError` and `NoAnswerError`."""
        return await self._send("POST", path, body, headers)

    async def get(self, path: str) -> Reply:
        """GET, for look-ups only. Raises `NotSentError` and `NoAnswerError`."""
        return await self._send("GET", path)

    async def look_up(self, path: str) -> dict[str, Any] | None:
        """GET a JSON object; None where the answer is anything else than one with HTTP 200."""
        try:
            reply = await self.get(path)
        except (NotSentError, NoAnswerError):
            return None
        return (reply.fields or None) if reply.status == 200 else None

    async def _send(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        request = self._request(method, path, content, headers or {})
        # Waiting for a slot is outside the time-out: a request that has not begun cannot be lost.
        async with self._slots:
            try:
                async with asyncio.timeout(self._timeouts.request):
                    return await self._exchange(request)
            except _FAILURES as error:
                if never_sent(error):
                    raise NotSentError(f"no connection to {self.base_url}: {_why(error)}") from None
                raise NoAnswerError(
                    f"no clear answer from {self.base_url}: {_why(error)}"
                ) from None

    def _request(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> httpx.Request:
        if path not in self._urls:
            # Parsing one costs a tenth of a message's CPU; look-ups each have their own.
            self._urls.clear()
            self._urls[path] = httpx.URL(self.base_url + path)
        return httpx.Request(
            method,
            self._urls[path],
            # In bytes, because httpx takes text in ASCII only.
            headers=[*self._sent_headers, *((n.encode(), v.encode()) for n, v in headers.items())],
            content=content,
            extensions={"timeout": self._timeout},
        )

    async def _exchange(self, request: httpx.Request) -> Reply:
        response = await self._transport.handle_async_request(request)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LARGEST_BODY:
                    raise NoAnswerError(
                        f"no clear answer from {self.base_url}: HTTP {response.status_code} with"
                        f" more than {LARGEST_BODY:,} bytes"
                    )
            return Reply(response.status_code, response.headers, bytes(body))
        finally:
            await response.aclose()


class HttpAdapter:
    """What adapters over HTTP have in common: a client, open from `async with` to its end."""

    def __init__(
        self,
        base_url: str,
        addresses: Addresses,
        *,
        headers: Mapping[str, str],
        timeouts: Timeouts,
        requests_in_flight: int,
    ) -> None:
        self.addresses = addresses
        self.timeouts = timeouts
        self.http = Client(
            base_url, headers=headers, timeouts=timeouts, requests_in_flight=requests_in_flight
        )

    @property
    def inbound_url(self) -> str:
        """Where the gateway is to hand over replies (MO); an operator enters it there."""
        return self.addresses.inbound

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.__aexit__()


def basic_login(user: str, password: str) -> dict[str, str]:
    """Return the header of HTTP Basic authentication."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"authorization": f"Basic {login}"}


async def submit_each(
    messages: Sequence[Outgoing],
    send: Callable[[Outgoing], Awaitable[Reply]],
    read: Callable[[str, Reply], Answer],
) -> list[Answer]:
    """Submit messages at the same time, each with a request of its own.

    `send` makes the request, and `read` makes the answer for a message id out of the reply. What
    brought no reply is answered here: `refused` for now, or `unknown`.
    """

    async def one(message: Outgoing) -> Answer:
        try:
            reply = await send(message)
        except NotSentError as error:
            return _unreachable(message.id, error)
        except NoAnswerError as error:
            return Answer(message.id, "unknown", error_text=str(error))
        return read(message.id, reply)

    return await asyncio.gather(*map(one, messages))


async def submit_group(
    messages: Sequence[Outgoing],
    send: Callable[[Sequence[Outgoing]], Awaitable[Reply]],
    read: Callable[[Sequence[Outgoing], Reply], list[Answer]],
) -> list[Answer]:
    """Submit messages in one request; one answer for each.

    A request that was refused as a whole (not with 2xx) for one of its messages is made again in
    halves, until that message stands alone: nothing of it had been accepted.
    """
    if not messages:
        return []
    try:
        reply = await send(messages)
    except NotSentError as error:
        return [_unreachable(message.id, error) for message in messages]
    except NoAnswerError as error:
        return [Answer(message.id, "unknown", error_text=str(error)) for message in messages]
    answers = read(messages, reply)
    taken = len(messages) == 1 or 200 <= reply.status < 300
    if taken or not all(a.error_class in _OF_ONE_MESSAGE for a in answers):
        return answers
    middle = len(messages) // 2
    halves = (submit_group(half, send, read) for half in (messages[:middle], messages[middle:]))
    return [answer for half in await asyncio.gather(*halves) for answer in half]


def no_success(
    message_id: str,
    reply: Reply,
    *,
    error_class: ErrorClass | None,
    code: str | None,
    text: str | None,
    wait: float = 1,
) -> Answer:
    """Answer for a reply that accepts nothing: refused with a class, or unknown without one.

    `wait` is how many seconds a RETRY waits where the gateway has not said it in `Retry-After`.
    """
    after = reply.retry_after
    return Answer(
        message_id,
        "refused" if error_class else "unknown",
        error_class=error_class,
        error_code=code,
        error_text=mask_text(f"HTTP {reply.status} {text or ''}".strip()),
        retry_after=(wait if after is None else after) if error_class is ErrorClass.RETRY else None,
    )


def _unreachable(message_id: str, error: NotSentError) -> Answer:
    return Answer(
        message_id,
        "refused",
        error_class=ErrorClass.RETRY,
        error_code=UNREACHABLE,
        error_text=str(error),
    )


def _why(error: BaseException) -> str:
    """Name the failure without its text, in which aiohttp puts the address and its query."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError) and cause.os_error.strerror:
        return cause.os_error.strerror
    return type(cause or error).__name__
