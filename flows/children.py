"""Child processes that end with their parent, however it ends.

Each child runs under a small guard that holds the reading end of a pipe from the parent: when the
parent dies, even by kill -9, the pipe closes and the guard stops the child's whole process group.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from data.errors import SmsError

_GRACE_SECONDS = 10.0


class ChildError(SmsError):
    """A child process did not come up."""


class Child:
    """One guarded process, its output in a log file."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own commands
                [sys.executable, "-m", "flows.children", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                # Ctrl-C goes to the parent alone, which stops its children in order.
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def wait_for(self, url: str, seconds: float) -> None:
        """Wait until `url` answers. Raises `ChildError` naming the log where it does not."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if answers(url):
                return
            if not self.alive:
                break
            time.sleep(0.1)
        lines = self.log.read_text(errors="replace").strip().splitlines()
        last = lines[-1][:200] if lines else "it printed nothing"
        raise ChildError(f"the {self.name} did not start: {last} (all of it is in {self.log})")

    def stop(self) -> None:
        """Ask it to end, then wait; the guard kills what does not."""
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_SECONDS + 5)


def answers(url: str) -> bool:
    """Whether an HTTP server answers at `url` with success."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=2) as reply:
            return bool(reply.status < 400)
    except (urllib.error.URLError, OSError, ValueError):
        return False


def _guard(command: Sequence[str]) -> int:
    """Run `command` until it ends or standard input closes."""
    child = subprocess.Popen(  # noqa: S603 - handed over by Child
        command, stdin=subprocess.DEVNULL, start_new_session=True
    )

    def watch() -> None:
        while os.read(0, 4096):
            pass
        _end(child)

    threading.Thread(target=watch, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: _end(child))
    return child.wait()


def _end(child: "subprocess.Popen[bytes]") -> None:
    for kind, seconds in ((signal.SIGTERM, _GRACE_SECONDS), (signal.SIGKILL, 1.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, kind)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(seconds)
            break
    # What the child itself started may outlive it.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(_guard(sys.argv[1:]))
