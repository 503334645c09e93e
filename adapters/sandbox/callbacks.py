"""The HTTP client that calls back. Not here: what is sent, and retries."""

from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from adapters.sandbox.dialect import Post

_TIMEOUT = aiohttp.ClientTimeout(total=15)
"""Seconds for one callback, as Twilio's."""


def is_url(text: str) -> bool:
    """Whether a gateway would take this as the address of a callback."""
    if len(text) > 4000 or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


class Callbacks:
    """Makes callbacks. Connections are kept for the next one to the same host."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def send(self, post: Post) -> int:
        """Return the status of the answer.

        Raises OSError (TimeoutError among them) where there was none. The address is sent letter
        by letter as given, because it is signed.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        try:
            async with self._session.request(
                post.method,
                URL(post.url, encoded=True),
                data=post.body or None,
                headers=post.headers,
                allow_redirects=False,
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, ValueError, UnicodeError) as problem:
            raise ConnectionError(f"no answer to a callback: {type(problem).__name__}") from problem

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
