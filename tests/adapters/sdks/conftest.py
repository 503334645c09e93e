"""For the official SDKs: a real sandbox process, and a receiver that keeps callbacks whole."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from adapters.gateways.base import Callback
from tests.sandboxes import Sandbox, start, wait_until


class Receiver:
    """Takes every callback, answers 200, and keeps each as an adapter gets it."""

    def __init__(self) -> None:
        self.got: list[Callback] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                url = f"{receiver.address}{self.path}"
                receiver.got.append(Callback(self.command, url, headers, body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST  # noqa: N815 - the base class names it so

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def wait(self, holds: Callable[[Callback], bool]) -> Callback:
        """Return the first callback of which this holds, as soon as it is there."""
        wait_until(lambda: any(map(holds, self.got)))
        return next(filter(holds, self.got))


@pytest.fixture(scope="session")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = start(tmp_path_factory.mktemp("sandbox") / "journal.jsonl")
    yield sandbox
    sandbox.kill()
    sandbox.client.close()


@pytest.fixture
def sandbox(_running: Sandbox) -> Sandbox:
    """The sandbox, at `client.base_url`; its secret at every gateway is `tests.sandboxes.TOKEN`."""
    _running.client.delete("/_faults")
    return _running


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
