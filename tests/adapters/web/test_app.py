"""How the receiver is served: its port, its health, and its end."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from adapters.web.app import ServeError, create_app, serve

PROGRAM = """
import sys
from adapters.web.app import create_app, serve
serve(create_app(lambda name: None, public_url="http://127.0.0.1"), int(sys.argv[1]))
print("returned")
"""


def test_a_taken_port_is_said_in_one_line(sqlite: str) -> None:
    app = create_app(lambda _: None, public_url="http://127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"port {port} .* choose another port"):
            serve(app, port)


@pytest.mark.parametrize("told", [signal.SIGTERM, signal.SIGINT])
def test_serving_ends_at_a_signal(
    sqlite: str, home: Path, free_port: Callable[[], int], told: signal.Signals
) -> None:
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(port)],
        env=os.environ | {"SMS_HOME": str(home), "PYTHONPATH": str(Path.cwd())},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert healthy(f"http://127.0.0.1:{port}/health")
        process.send_signal(told)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "returned\n", "")


def healthy(address: str) -> bool:
    for _ in range(300):
        try:
            return httpx.get(address).json() == {"status": "ok"}
        except httpx.TransportError:
            time.sleep(0.1)
    return False
