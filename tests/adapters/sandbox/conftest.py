"""A real sandbox process, a real receiver of its callbacks, and a client with its credentials."""

import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from tests.adapters.sandbox import invented
from tests.sandboxes import SERVE, Sandbox, start, wait_until


@dataclass
class Callback:
    method: str
    target: str
    headers: dict[str, str]
    body: str

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body, keep_blank_values=True, strict_parsing=True))


class Receiver:
    """Takes callbacks at `url(ref)` and keeps them by ref; answers what `answers` says."""

    def __init__(self) -> None:
        self.got: dict[str, list[Callback]] = defaultdict(list)
        self.answers: dict[str, list[int]] = {}
        self.connections = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                receiver.connections += 1

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                # What comes after a tilde is the report, where the address says it.
                ref = self.path.rpartition("ref=")[2].partition("~")[0]
                got = Callback(self.command, self.path, dict(self.headers), body)
                receiver.got[ref].append(got)
                answers = receiver.answers.get(ref)
                self.send_response(answers.pop(0) if answers else 204)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the name is http.server's

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def url(self, ref: str) -> str:
        return f"http://127.0.0.1:{self.server.server_port}/gateways/main/reports?ref={ref}"

    def statuses(self, ref: str) -> list[str]:
        return [callback.form["MessageStatus"] for callback in self.got[ref]]

    def ends(self, ref: str) -> list[str]:
        """Return what the addresses of the callbacks end with, after the ref and a tilde."""
        return [
            callback.target.rpartition("ref=")[2].partition("~")[2] for callback in self.got[ref]
        ]


@pytest.fixture(name="wait_until")
def _wait_until() -> Callable[..., None]:
    return wait_until


@pytest.fixture(name="start")
def _start() -> Iterator[Callable[..., Sandbox]]:
    started: list[Sandbox] = []

    def starting(journal: Path, serve: str = SERVE) -> Sandbox:
        started.append(start(journal, serve))
        return started[-1]

    yield starting
    for sandbox in started:
        sandbox.kill()
        sandbox.client.close()


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def sandbox(running: Sandbox) -> Sandbox:
    running.client.delete("/_faults")
    return running


@pytest.fixture(scope="session")
def running_many(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl", invented.SERVE)
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def many(running_many: Sandbox) -> Sandbox:
    """A sandbox that has the invented gateway beside the real ones."""
    running_many.client.delete("/_faults")
    return running_many


@pytest.fixture(scope="session")
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
