"""A real Kannel: bearerbox, smsbox, and Kannel's own fake SMSC with the phones behind it."""

import re
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.programs import need
from tests.sandboxes import wait_until

INSTALL = "apt-get install kannel kannel-extras"
FAKESMSC = "/usr/lib/kannel/test/fakesmsc"
USER, PASSWORD = "tester", "the-password"
SHORT_CODE = "13013"

# One report and one reply at a time would be far too slow; the retries are for a receiver that is
# away for a moment. `max-messages = 0` in the service keeps Kannel from texting back what it reads.
CONFIGURATION = """
group = core
admin-port = {admin}
admin-password = {password}
smsbox-port = {smsbox}
box-allow-ip = 127.0.0.1
log-file = "{folder}/bearerbox.log"

group = smsc
smsc = fake
smsc-id = phones
port = {smsc}
connect-allow-ip = 127.0.0.1

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-port = {sendsms}
sendsms-interface = 127.0.0.1
http-request-retry = 5
http-queue-delay = 1
log-file = "{folder}/smsbox.log"

group = sendsms-user
username = {user}
password = {password}
max-messages = 10
concatenation = true

group = sms-service
keyword = default
catch-all = true
max-messages = 0
get-url = "{get_url}"
"""

_PRINTED = re.compile(
    r"Got message \d+: <(?P<sender>\S+) (?P<to>\S+) (?:udh (?P<udh>\S+) )?"
    r"(?P<kind>text|data|ucs-2) (?P<body>.*?)>\n(?=\d{4}-|\Z)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Printed:
    """A message as the fake SMSC printed it."""

    sender: str
    to: str
    udh: str
    """The header of a part, escaped; empty where the text is whole."""
    kind: str
    body: str


class Kannel:
    """The programs, their configuration and their logs in one folder."""

    def __init__(self, folder: Path, free_port: Callable[[], int]) -> None:
        self._bearerbox, self._smsbox = need("bearerbox", INSTALL), need("smsbox", INSTALL)
        self._fakesmsc = need(FAKESMSC, INSTALL)
        self._folder = folder
        names = ("admin", "smsbox", "smsc", "sendsms")
        self._ports = {name: free_port() for name in names}
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.base_url = f"http://127.0.0.1:{self._ports['sendsms']}"

    def configure(self, get_url: str) -> None:
        """Write kannel.conf; replies (MO) are handed over to `get_url`."""
        text = CONFIGURATION.format(
            folder=self._folder, user=USER, password=PASSWORD, get_url=get_url, **self._ports
        )
        (self._folder / "kannel.conf").write_text(text)

    def start(self) -> None:
        self._run("bearerbox", self._bearerbox, "kannel.conf")
        wait_until(lambda: "Kannel" in self._status())
        self.start_smsbox()
        self.start_phones()

    def start_smsbox(self) -> None:
        self._run("smsbox", self._smsbox, "kannel.conf")
        wait_until(lambda: "smsbox:" in self._status() and _get(self.base_url))

    def start_phones(self, *sent: str) -> None:
        """Start the fake SMSC (again). Its phones send these: "FROM TO text WORDS", "… ucs2 %00A".

        They are drawn at random, so that one at a time is what makes sense.
        """
        self.kill("fakesmsc")
        words = sent or (f"+447700900000 {SHORT_CODE} text nothing",)
        options = ("-r", str(self._ports["smsc"]), "-m", str(len(sent)))
        self._run("fakesmsc", self._fakesmsc, *options, *words)
        wait_until(lambda: "(online" in self._status())

    def kill(self, name: str) -> None:
        if process := self._running.pop(name, None):
            process.send_signal(signal.SIGKILL)
            process.wait()

    def signal(self, name: str, number: int) -> None:
        self._running[name].send_signal(number)

    def stop(self) -> None:
        for name in list(self._running):
            self.kill(name)

    def printed(self) -> list[Printed]:
        """Return what has arrived at the phones, in order."""
        said = (self._folder / "fakesmsc.out").read_text(encoding="utf-8")
        found = (match.groupdict(default="") for match in _PRINTED.finditer(said))
        return [Printed(**fields) for fields in found]

    def _status(self) -> str:
        return _get(f"http://127.0.0.1:{self._ports['admin']}/status.txt?password={PASSWORD}")

    def _run(self, name: str, *command: str) -> None:
        with (self._folder / f"{name}.out").open("ab") as out:
            self._running[name] = subprocess.Popen(
                command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )


def _get(url: str) -> str:
    try:
        return httpx.get(url, timeout=5, trust_env=False).text
    except httpx.TransportError:
        return ""
