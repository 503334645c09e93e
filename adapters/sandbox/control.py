"""The addresses beside the wire format, for tests: faults, counts, messages, inbound.

They answer on loopback only. Not here: what an order does (faults.py, app.py, reports.py).
"""

import time
from collections.abc import Mapping
from urllib.parse import parse_qsl

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Dialect
from adapters.sandbox.faults import RULES, Faults, Outcomes
from adapters.sandbox.journal import TWILIO, Journal, Message, fields
from adapters.sandbox.reports import NO_ANSWER, Reporter

Answer = tuple[int, object]


class Inbound(BaseModel):
    """An inbound message (MO) to send to a webhook."""

    model_config = ConfigDict(extra="forbid")

    kind: str = TWILIO
    sender: str = Field(alias="from")
    to: str = "+15005550006"
    body: str
    url: str


class Control:
    """Answers the control addresses of one sandbox."""

    def __init__(
        self,
        journal: Journal,
        outcomes: Outcomes,
        faults: Faults,
        reporter: Reporter,
        dialects: Mapping[str, Dialect],
    ) -> None:
        self.requests = 0
        """Submissions that came with the right credentials, whatever became of them."""
        self._journal = journal
        self._outcomes = outcomes
        self._faults = faults
        self._reporter = reporter
        self._dialects = dialects

    async def answer(self, method: str, path: str, query: str, body: bytes) -> Answer:
        """Return status and JSON."""
        match method, path:
            case (("GET" | "POST" | "DELETE"), "/_faults"):
                return self._order(method, body)
            case "GET", "/_stats":
                return 200, self._stats()
            case "GET", "/_messages":
                return 200, self._messages(dict(parse_qsl(query)))
            case "POST", "/_send_inbound":
                return await self._send_inbound(body)
        return 404, {"error": f"the sandbox has no {method} {path}"}

    def _order(self, method: str, body: bytes) -> Answer:
        if method == "POST":
            try:
                self._faults.rules = RULES.validate_json(body)
            except ValidationError as problem:
                return 422, {"error": str(problem)}
        elif method == "DELETE":
            self._faults.rules = []
        return 200, [rule.model_dump(exclude_none=True) for rule in self._faults.rules]

    def _stats(self) -> dict[str, int]:
        return {
            "accepted": len(self._journal),
            "requests": self.requests,
            "callbacks_sent": self._reporter.sent,
            "callbacks_failed": self._reporter.failed,
            "callbacks_waiting": self._reporter.waiting,
            "duplicates": self._journal.recipients_with_duplicates(),
        }

    def _messages(self, query: Mapping[str, str]) -> list[dict[str, object]]:
        now = time.time()
        return [self._line(m, now) for m in self._journal.newest_first(query.get("to"))]

    def _line(self, message: Message, now: float) -> dict[str, object]:
        fate = self._outcomes.fate(message.to)
        status = fate.status_at(message, now)
        return {**fields(message), "kind": message.kind, "status": status}

    async def _send_inbound(self, body: bytes) -> Answer:
        try:
            inbound = Inbound.model_validate_json(body)
        except ValidationError as problem:
            return 422, {"error": str(problem)}
        dialect = self._dialects.get(inbound.kind)
        if dialect is None:
            return 422, {"error": f"kind is none of {', '.join(self._dialects)}"}
        if not is_url(inbound.url):
            return 422, {"error": "url is not an address"}
        post = dialect.inbound(inbound.sender, inbound.to, inbound.body, inbound.url)
        status = await self._reporter.send(post)
        if status == NO_ANSWER:
            return 502, {"error": "the address cannot be reached"}
        return 200, {"status": status}
