"""The Prefect server that flows of this installation talk to: found, or started as a child.

Prefect reads its settings when it is imported, so `prepare()` comes before any import of it.
"""

import base64
import ipaddress
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from data.settings import settings
from flows.children import Child, ChildError, answers

_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_TELEMETRY_ENABLE_RESOURCE_METRICS": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "GX_ANALYTICS_ENABLED": "false",
}
# Without batching the server stores a task run in 19 ms of CPU, with it in 5.
_BATCHED = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
}


# What a server that listens there is called by processes of this machine.
_SEEN_FROM_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}  # noqa: S104

# Task runs reach the server as events, up to a second after the flow has ended.
_LAST_EVENTS_SECONDS = 1.5


def api_url() -> str:
    """The address of the Prefect API: PREFECT_API_URL, or the local one of this installation."""
    return os.environ.get("PREFECT_API_URL") or _local_url()


def _local_url() -> str:
    host = _host()
    host = _SEEN_FROM_HERE.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings().prefect_port}/api"


def _is_ours(url: str) -> bool:
    """Whether a server that is started here would answer at an address."""
    return urlsplit(url).netloc.replace("localhost", "127.0.0.1") == urlsplit(_local_url()).netloc


def _login() -> str | None:
    login = settings().ui_login
    return None if login is None else login.get_secret_value()


def _host() -> str:
    """The address to listen on: loopback, or what PREFECT_SERVER_API_HOST says.

    Raises `ChildError` where others could reach a server without a login: whoever reaches it can
    send campaigns and read the gateways' credentials.
    """
    host = os.environ.get("PREFECT_SERVER_API_HOST") or "127.0.0.1"
    if _login() is None and not _is_loopback(host):
        raise ChildError(
            f"PREFECT_SERVER_API_HOST={host} would open the Prefect server to everybody who can"
            " reach this machine: set SMS_UI_LOGIN=name:password, or unset it to listen on"
            " 127.0.0.1 only"
        )
    return host


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def ui_url() -> str:
    """Where people look at it."""
    return api_url().removesuffix("/api")


def prepare() -> None:
    """Set what Prefect is to read: its folder inside ours, its address, and no outside calls."""
    home = settings().home.resolve() / "prefect"
    defaults = {
        **_QUIET,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api_url(),
        # Never the ephemeral server: it loses run history.
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        # The least there is: three of them missed start `revive-campaign` (prefect.yaml).
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    }
    if login := _login():
        defaults["PREFECT_API_AUTH_STRING"] = login
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def server_env() -> dict[str, str]:
    """Settings of a server that this installation starts."""
    home = settings().home.resolve() / "prefect"
    login = _login()
    return {
        **({} if login is None else {"PREFECT_SERVER_API_AUTH_STRING": login}),
        **_QUIET,
        **_BATCHED,
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": "",
        # The UI calls the port named here, whatever --port says.
        "PREFECT_SERVER_API_HOST": _host(),
        # Prefect's default lets every website that somebody visits call the API from the browser.
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _origins(),
        "PREFECT_SERVER_API_PORT": str(settings().prefect_port),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }


def _origins() -> str:
    """The addresses under which browsers on this machine open the UI."""
    mine = ui_url()
    return ",".join({mine, mine.replace("127.0.0.1", "localhost")})


def is_running() -> bool:
    """Whether a Prefect server answers and will stay.

    Raises `ChildError` where it does not take the login of this installation, or takes none.
    """
    _wait_for_orphan()
    if not answers(f"{api_url()}/health"):
        return False
    _check_login()
    return True


def _check_login() -> None:
    """Raise `ChildError` where the server refuses our login, or one of ours asks for none."""
    if os.environ.get("PREFECT_API_KEY"):
        return  # Prefect Cloud, which has another kind of login
    login = os.environ.get("PREFECT_API_AUTH_STRING")
    if _status(login) == HTTPStatus.UNAUTHORIZED:
        raise ChildError(
            f"the Prefect server at {ui_url()} does not accept this login: set"
            " SMS_UI_LOGIN=name:password to the one it was started with"
        )
    if _login() and _is_ours(api_url()) and _status(None) != HTTPStatus.UNAUTHORIZED:
        raise ChildError(
            f"the Prefect server at {ui_url()} was started without SMS_UI_LOGIN and lets everybody"
            " in: stop it, then run the command again"
        )


def _status(login: str | None) -> int | None:
    """What the API answers to a request with this login; None where it does not answer."""
    request = urllib.request.Request(f"{api_url()}/admin/version")  # noqa: S310 - our own address
    if login is not None:
        request.add_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as error:
        return error.code
    except (urllib.error.URLError, OSError):
        return None


def start() -> Child:
    """Start a server on this installation's database; it ends with this process."""
    if not _is_ours(api_url()):
        raise ChildError(
            f"no Prefect server answers at {api_url()}: start it, or unset PREFECT_API_URL to have"
            " one started here"
        )
    log = settings().home / "logs" / "prefect-server.log"
    command = [sys.executable, "-m", "prefect", "server", "start"]
    child = Child("Prefect server", command, env=server_env(), log=log)
    _owner_file().write_text(json.dumps({"pid": os.getpid(), "at": time.time()}))
    child.wait_for(f"{api_url()}/health", 90)
    return child


@contextmanager
def running() -> Iterator[None]:
    """Use the server that runs, else have one as a child for as long as the context lasts."""
    prepare()
    if is_running():
        yield
        return
    child = start()
    try:
        yield
    finally:
        _flush_logs()
        child.stop()


def _flush_logs() -> None:
    """Send what Prefect still holds, while there is a server to take it."""
    if "prefect" in sys.modules:
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=3)
        time.sleep(_LAST_EVENTS_SECONDS)


def _owner_file() -> Path:
    path = settings().home / "prefect" / "owner.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _wait_for_orphan() -> None:
    """Wait out a server whose starter was killed: it still answers, but only for seconds."""
    with suppress(OSError, ValueError, KeyError):
        owner = json.loads(_owner_file().read_text())
        if psutil.pid_exists(owner["pid"]):
            return
        ends = time.monotonic() + 15
        while answers(f"{api_url()}/health") and time.monotonic() < ends:
            time.sleep(0.2)
        _owner_file().unlink(missing_ok=True)
