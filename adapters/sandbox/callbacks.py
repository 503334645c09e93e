"""The HTTP client that calls back. Not here: what is posted, and retries."""

from collections.abc import Mapping

import aiohttp
from yarl import URL

_TIMEOUT = aiohttp.ClientTimeout(total=15)
"""Seconds for one callback, as Twilio's."""


class Callbacks:
    """Posts forms. Connections are kept for the next post to the same host."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> int:
        """Return the status of the answer.

        Raises OSError (TimeoutError among them) where there was none. The address is sent letter
        by letter as given, because it is signed.
        """
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_TIMEOUT)
        form = {"Content-Type": "application/x-www-form-urlencoded; charset=UTF-8", **headers}
        try:
            async with self._session.post(
                URL(url, encoded=True), data=body, headers=form, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, ValueError, UnicodeError) as problem:
            raise ConnectionError(f"no answer to a callback: {type(problem).__name__}") from problem

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
