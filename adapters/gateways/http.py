"""The HTTP client that every gateway adapter sends with, and what its failures prove.

Here: one client with its limits and time-outs, replies, and the line between "never sent" and "no
clear answer". Not here: any gateway's wire format, and retries: there are none, on purpose.
"""

import asyncio
import base64
import logging
import math
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from adapters.gateways import values
from adapters.gateways.base import (
    UNREACHABLE,
    Addresses,
    Answer,
    ErrorClass,
    GatewayError,
    Outgoing,
    Timeouts,
)
from data.privacy import mask_text

LARGEST_BODY = 1 << 20
"""Bytes of an answer that are read; more is no answer to a message."""

KEEP_ALIVE = 4.0
"""Seconds that an idle connection is kept. Below the 5 s after which common servers close theirs: a
POST that meets a closing connection ends in doubt."""

LONGEST_TEXT = 300
LONGEST_NAME = 255
"""Characters of a gateway's id or error code: longer ones are none, and no index holds them."""

_FAILURES = (httpx.HTTPError, aiohttp.ClientError, OSError)
_ODD_DATA = ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError
"""What reading an answer raises that is not as its gateway writes them."""

# httpx logs every address at INFO, and a look-up has a telephone number in its query.
logging.getLogger("httpx").setLevel(logging.WARNING)


class NotSentError(GatewayError):
    """No connection came about, so the gateway did not get the request."""


class NoAnswerError(GatewayError):
    """The gateway may have got the request; nothing readable came back."""


class NoTimeError(GatewayError):
    """The time for a request was over before it could begin: nothing was sent."""


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
        instant = values.mail_date(value)
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

    async def post_json(self, path: str, value: object, until: float | None = None) -> Reply:
        """POST a JSON value, and end `until` an instant (monotonic), whatever the time-out.

        Raises `NotSentError` and `NoAnswerError`, and `NoTimeError` with `until` only.
        """
        json = {"content-type": "application/json"}
        return await self._send("POST", path, orjson.dumps(value), json, until)

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
        until: float | None = None,
    ) -> Reply:
        request = self._request(method, path, content, headers or {})
        # Waiting for a slot is outside the time-out: a request that has not begun cannot be lost.
        async with self._slots:
            left = math.inf if until is None else until - time.monotonic()
            if left <= 0:
                raise NoTimeError(f"no time was left for a request to {self.base_url}")
            try:
                async with asyncio.timeout(min(left, self._timeouts.request)):
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
            self._urls[path] = self._url(path)
        return httpx.Request(
            method,
            self._urls[path],
            # In bytes, because httpx takes text in ASCII only.
            headers=[*self._sent_headers, *((n.encode(), v.encode()) for n, v in headers.items())],
            content=content,
            extensions={"timeout": self._timeout},
        )

    def _url(self, path: str) -> httpx.URL:
        try:
            url = httpx.URL(self.base_url + path)
            # What the resolver will do; aiohttp lets it raise.
            url.host.encode("idna")
        except httpx.InvalidURL:
            why = "its name or port is none"
        except UnicodeError:
            why = "a part of its name is empty, or longer than 63 characters"
        else:
            if (url.port or 0) < 1 << 16:
                return url
            why = "its port is above 65535"
        raise NotSentError(f"base_url {self.base_url} is no address: {why}")

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
            return unreachable(message.id, error)
        except NoAnswerError as error:
            return in_doubt(message.id, str(error))
        [answer] = unreadable_is_unknown([message.id], reply, lambda: [read(message.id, reply)])
        return answer

    return await asyncio.gather(*map(one, messages))


def unreadable_is_unknown(
    message_ids: Sequence[str], reply: Reply, read: Callable[[], list[Answer]]
) -> list[Answer]:
    """Return what `read` makes of a reply; `unknown` for each message where it cannot read it.

    Somebody's answers are stored together: one that cannot be read, or holds what no database
    takes, must not lose the others.
    """
    try:
        return [_storable(answer) for answer in read()]
    except _ODD_DATA as error:
        text = f"HTTP {reply.status} with an answer that cannot be read ({type(error).__name__})"
        return [in_doubt(message_id, text) for message_id in message_ids]


def _storable(answer: Answer) -> Answer:
    names = ("gateway_message_id", "error_code", "currency")
    long = [name for name in names if len(getattr(answer, name) or "") > LONGEST_NAME]
    nothing: dict[str, Any] = dict.fromkeys(long)
    return replace(answer, **nothing) if long else answer


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
    after = values.wait(wait if reply.retry_after is None else reply.retry_after)
    # Some of it only: a megabyte of digits takes a while to mask.
    said = (text or "")[: 2 * LONGEST_TEXT]
    return Answer(
        message_id,
        "refused" if error_class else "unknown",
        error_class=error_class,
        error_code=code,
        error_text=_cut(mask_text(f"HTTP {reply.status} {said}".strip())),
        retry_after=after if error_class is ErrorClass.RETRY else None,
    )


def unreachable(message_id: str, error: NotSentError) -> Answer:
    """Answer for a message of which no request was sent."""
    return Answer(
        message_id,
        "refused",
        error_class=ErrorClass.RETRY,
        error_code=UNREACHABLE,
        error_text=_cut(str(error)),
    )


def in_doubt(message_id: str, text: str) -> Answer:
    """Answer for a message that may have been taken, and why that is not known."""
    return Answer(message_id, "unknown", error_text=_cut(text))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _why(error: BaseException) -> str:
    """Name the failure without its text, in which aiohttp puts the address and its query."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, aiohttp.ClientError):
        cause = cause.__cause__
    if isinstance(cause, aiohttp.ClientConnectorError) and cause.os_error.strerror:
        return cause.os_error.strerror
    return type(cause or error).__name__
