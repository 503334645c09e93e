"""A gateway that nobody has, with everything that real ones differ in, to test the core with.

Many messages a request, ids that the sender may choose, parts with reports of their own, unsigned
reports by GET, refusals inside a 200, and throttling that is a 200.
"""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import httpx

from adapters.sandbox import app
from adapters.sandbox.dialect import (
    Journal,
    Message,
    Outcomes,
    Post,
    Refused,
    Reply,
    Request,
    Submission,
    Why,
)
from adapters.sandbox.dialects import all_dialects
from tests.sandboxes import SID, TOKEN, Sandbox

SERVE = """
from tests.adapters.sandbox.invented import main
main()
"""
PATH = "/invented/messages"


class Invented:
    kind: ClassVar[str] = "invented"
    parts: ClassVar[bool] = True

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def settings(self, base_url: str) -> dict[str, str]:
        return {"base_url": base_url, "key": self._secret, "sender": "+15005550006"}

    def place(self, request: Request) -> Literal["submission", "look_up"] | None:
        if request.path == PATH and request.method == "POST":
            return "submission"
        return "look_up" if request.path.startswith("/invented/") else None

    def login(self, request: Request) -> Reply | None:
        known = request.headers.get("x-key") == self._secret
        return None if known else Reply(403, "who are you?")

    def read(self, request: Request) -> list[Submission] | Reply:
        try:
            asked = json.loads(request.body)
        except ValueError:
            return Reply(422, "no JSON")
        batch = f"b-{os.urandom(8).hex()}"
        return [self._submission(batch, **message) for message in asked["messages"]]

    def _submission(self, batch: str, to: str, text: str, **more: str) -> Submission:
        return Submission(
            to=to,
            sender=more.get("from", "+15005550006"),
            body=text,
            callback=more.get("callback", ""),
            reference=more.get("ref", ""),
            id=more.get("id", ""),
            batch=batch,
            extra={"sent": more.get("sent", "1")},
        )

    def new_id(self) -> str:
        return f"i-{os.urandom(16).hex()}"

    def answer(self, request: Request, entries: Sequence[Message | Refused]) -> Reply:
        batch = "".join({entry.batch for entry in entries if isinstance(entry, Message)})
        results = [
            {"refused": entry.why} if isinstance(entry, Refused) else {"id": entry.sid}
            for entry in entries
        ]
        return Reply(200, {"batch": batch, "messages": results}, {"X-Request": "7"})

    def failure(self, status: int, why: Why | None) -> Reply:
        return Reply(status or 200, f"failed: {why or status}")

    def reports(self, message: Message, status: str, why: Why | None, part: int) -> list[Post]:
        """As many callbacks for `sent` as the message asked for; one for everything else."""
        times = int(message.extra["sent"]) if status == "sent" else 1
        url = f"{message.callback}~{part}~{status}" + (f"~{why}" if why else "")
        return [Post("GET", url + "~again" * time, b"", {}) for time in range(times)]

    def look_up(self, request: Request, journal: Journal, outcomes: Outcomes, now: float) -> Reply:
        _, _, what, value = request.path.split("/")
        match what:
            case "messages":
                found = journal.find(value)
                messages = [found] if found else []
            case "batches":
                messages = list(journal.of_batch(value))
            case "references":
                messages = list(journal.of_reference(value))
            case _:
                messages = list(journal.newest_first(request.query.get("to")))
        return Reply(200, [[m.sid, outcomes.fate(m.to).status_at(m, now)] for m in messages])

    def inbound(self, sender: str, to: str, body: str, url: str) -> Post:
        content = json.dumps({"from": sender, "to": to, "text": body}).encode()
        return Post("POST", url, content, {"Content-Type": "application/json", "X-Kind": self.kind})


def send(sandbox: Sandbox, *messages: dict[str, str], key: str = TOKEN) -> httpx.Response:
    """Submit messages in one request; a text that is not given is a greeting."""
    asked = [{"text": "Hello", **message} for message in messages]
    return sandbox.client.post(PATH, json={"messages": asked}, headers={"X-Key": key})


def look_up(sandbox: Sandbox, path: str) -> list[str]:
    """Return the ids that a look-up finds."""
    response = sandbox.client.get(f"/invented/{path}", headers={"X-Key": TOKEN})
    return [sid for sid, _ in response.raise_for_status().json()]


def main() -> None:
    """Serve this gateway beside the others: port and journal are the arguments."""
    dialects = [*all_dialects(TOKEN, SID), Invented(TOKEN)]
    sandbox = app.Sandbox(Path(sys.argv[2]), dialects, Outcomes("delivered", (0.1, 0.2)))
    app.run(sandbox, int(sys.argv[1]))
