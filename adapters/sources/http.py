"""Web APIs that list records as JSON, page by page.

Reads are safe to repeat, so unlike in the gateways a failed page is asked for again, four times at
most. Nothing leaves the host the operator named, and no error line holds the address.
"""

import datetime
import email.utils
import hashlib
import json
import logging
import time
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pyarrow as pa

from adapters.sources.base import (
    PARTITION,
    HttpConnection,
    Partition,
    RejectReason,
    SourceError,
    check_columns,
    screen,
    text_column,
)
from data.privacy import mask_text

TRIES = 4
BACK_OFF = 0.5  # seconds before the second try, then doubled
LONGEST_WAIT = 120.0  # seconds; a Retry-After beyond it is a refusal
LARGEST_PAGE = 64 * 2**20  # bytes, after decompression
# One layer grows a thousandfold at most; several, or zstd, unpack a packet to gigabytes at once.
ENCODINGS = ("", "identity", "gzip", "deflate")
SLOWEST_PAGE = 300.0  # seconds; the read time-out alone would let a page drip in for ever
WARNINGS = 20  # an API that puts data into its keys would otherwise warn for every record

_log = logging.getLogger(__name__)


class HttpSource:
    """A paged list, opened: the first page is here and its fields are the columns.

    Nested values are JSON, booleans `true` and `false`, null and absent are missing. Fields that
    only later pages have are ignored, with a warning. A record that is no object is a reject
    (`not_an_object`), one without any value counts as blank.
    """

    def __init__(self, connection: HttpConnection, *, name: str) -> None:
        """Fetch the first page; raises SourceError where it fails or has no records."""
        self.name = name
        self.warnings: list[str] = []
        self._settings = connection
        self._client = httpx.Client(
            headers={
                "Accept-Encoding": "gzip, deflate",
                **{key: value.get_secret_value() for key, value in connection.headers.items()},
            },
            timeout=30,
        )
        self._pages = self._all_pages()
        self._first = next(self._pages, [])
        objects = [record for record in self._first if isinstance(record, dict)]
        if not self._first:
            raise SourceError(f"{name}, page 1: has no records")
        if not objects:
            raise SourceError(f"{name}, page 1: no record is an object: check `records`")
        self.columns = check_columns(list(dict.fromkeys(k for o in objects for k in o)), name)
        self._unknown: set[str] = set()

    def partitions(self, size: int = PARTITION) -> Iterator[Partition]:
        """Stream the records, which can be read once; raises SourceError naming the page."""
        before = 0
        held, self._first = self._first, []
        if not held:
            raise SourceError(f"{self.name}: was read already: open it again")
        try:
            for page, records in enumerate(self._pages, start=2):
                self._warn_of_new_fields(records, page)
                held = held + records
                while len(held) >= size:
                    yield self._partition(held[:size], before)
                    held = held[size:]
                    before += size
            for start in range(0, len(held), size):
                yield self._partition(held[start : start + size], before + start)
        finally:
            self._client.close()

    def _partition(self, records: list[Any], before: int) -> Partition:
        numbered = list(enumerate(records, start=before + 1))
        rejects: list[tuple[int, None, RejectReason]] = [
            (row, None, "not_an_object") for row, record in numbered if not isinstance(record, dict)
        ]
        objects = [record for record in records if isinstance(record, dict)]
        texts = [text_column([o.get(column) for o in objects]) for column in self.columns]
        return screen(
            pa.table(dict(zip(self.columns, (text for text, _ in texts), strict=True))),
            np.array([row for row, record in numbered if isinstance(record, dict)], dtype=np.int64),
            rejects,
            undecodable=any(undecodable for _, undecodable in texts),
        )

    def _warn_of_new_fields(self, records: list[Any], page: int) -> None:
        for record in records:
            if not isinstance(record, dict) or len(self._unknown) >= WARNINGS:
                continue
            for field in record.keys() - self._unknown - set(self.columns):
                self._unknown.add(field)
                shown = mask_text(field[:40])
                self.warnings.append(
                    f"page {page}: a field that page 1 does not have is ignored: {shown!r}"
                )

    # -------------------------------------------------------------- pages

    def _all_pages(self) -> Iterator[list[Any]]:
        """Yield the records page by page; a page that comes twice is an error, not a loop."""
        settings = self._settings
        url: httpx.URL | None = httpx.URL(settings.url)
        seen: set[str] = set()
        page = 1
        while url:
            if not settings.next and settings.page_parameter:
                url = url.copy_set_param(settings.page_parameter, page)
            answer = self._get(url, page)
            records = self._at(answer, settings.records, page)
            if not isinstance(records, list):
                raise self._error(page, "the records are not a list: check `records`")
            if not records and not settings.next:
                return
            # The content too: an API that does not know our parameter sends page 1 for ever.
            content = hashlib.sha256(json.dumps(records).encode()).hexdigest()
            if str(url) in seen or (records and content in seen):
                raise self._error(page, "repeats an earlier page: check how pages are asked for")
            seen |= {str(url), content}
            yield records
            url = self._next(answer, url, page)
            page += 1

    def _next(self, answer: Any, url: httpx.URL, page: int) -> httpx.URL | None:
        """Return the next page's address, which has to be on the host that gets our headers."""
        if not self._settings.next:
            return url if self._settings.page_parameter else None
        link = self._at(answer, self._settings.next, page, optional=True)
        if not link:
            return None
        try:
            following = url.join(str(link))
        except httpx.InvalidURL:
            raise self._error(page, "the address of the next page cannot be read") from None
        if _origin(following) != _origin(url):
            raise self._error(page, "the next page is on another host: not followed")
        return following

    def _at(self, answer: Any, path: str, page: int, *, optional: bool = False) -> Any:
        for part in filter(None, path.split(".")):
            if not isinstance(answer, dict) or part not in answer:
                if optional:
                    return None
                raise self._error(page, f"the answer has no field `{path}`")
            answer = answer[part]
        return answer

    def _get(self, url: httpx.URL, page: int) -> Any:
        why = ""
        for attempt in range(TRIES):
            wait = BACK_OFF * 2**attempt
            try:
                with self._client.stream("GET", url) as response:
                    if response.is_success:
                        return self._json(response, page)
                    why = f"answered {response.status_code}"
                    if response.status_code != 429 and response.status_code < 500:
                        raise self._error(page, why + _advice(response.status_code))
                    wait = max(wait, _retry_after(response))
            except httpx.TransportError as error:
                why = f"could not be fetched ({type(error).__name__})"
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                why = f"could not be fetched ({type(error).__name__})"
                raise self._error(page, why) from None
            if wait > LONGEST_WAIT:
                raise self._error(page, f"{why} and asks to wait {wait:.0f} s: try again later")
            if attempt + 1 < TRIES:
                _log.warning("%s, page %d: %s, trying again", self.name, page, why)
                time.sleep(wait)
        raise self._error(page, f"{why}, {TRIES} times: try again later")

    def _json(self, response: httpx.Response, page: int) -> Any:
        if response.headers.get("Content-Encoding", "").strip().lower() not in ENCODINGS:
            raise self._error(page, "is compressed in a way that was not asked for")
        body = bytearray()
        deadline = time.monotonic() + SLOWEST_PAGE
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > LARGEST_PAGE:
                raise self._error(page, "is larger than 64 MiB: ask for smaller pages")
            if time.monotonic() > deadline:
                raise self._error(page, "took longer than 5 minutes: ask for smaller pages")
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise self._error(page, "the answer is not JSON") from None

    def _error(self, page: int, why: str) -> SourceError:
        """Return the error to raise, without its cause: that text holds the address."""
        self._client.close()
        return SourceError(f"{self.name}, page {page}: {why}")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _advice(status: int) -> str:
    if status in (401, 403):
        return ": check the key in the connection's headers"
    return ": redirects are not followed" if status < 400 else ": check the connection's address"


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds to wait that the server asks for, given as a number or as a date."""
    value = response.headers.get("Retry-After", "").strip()
    if value.isdigit():
        return float(value)
    try:
        moment = email.utils.parsedate_to_datetime(value)
    except ValueError:
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return (moment - datetime.datetime.now(datetime.UTC)).total_seconds()
