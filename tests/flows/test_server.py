"""Who may use the Prefect server: a login for everybody, and nobody from elsewhere without one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from data.settings import settings
from flows import server
from flows.children import ChildError
from tests.flows.campaigns import Desk
from tests.sandboxes import ROOT, SID, TOKEN

LOGIN = "marketing:a-Login-nobody-may-see"
SERVE = """
import os, sys
from flows import server

os.umask(0o077)  # as `sms up` does
with server.running():
    print("up", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def elsewhere(
    tmp_path: Path, free_port: Callable[[], int], desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> dict[str, str]:
    """The environment of a second installation, with a login and a folder that all can read."""
    (tmp_path / "elsewhere").mkdir(mode=0o755)
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    return {
        "SMS_HOME": str(tmp_path / "elsewhere"),
        "SMS_PREFECT_PORT": str(free_port()),
        "SMS_RECEIVER_PORT": str(free_port()),
        "SMS_UI_LOGIN": LOGIN,
    }


@pytest.fixture
def closed(elsewhere: dict[str, str]) -> Iterator[str]:
    """The address of a running server that asks for the login."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        cwd=ROOT,
        env={**os.environ, **elsewhere},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    assert process.stdout.readline() == "up\n"
    yield f"http://127.0.0.1:{elsewhere['SMS_PREFECT_PORT']}"
    process.stdin.close()
    process.wait(20)


@pytest.mark.heavy
@pytest.mark.timeout(400)  # four processes, each of which imports Prefect
def test_with_a_login_the_api_answers_nobody_else_and_every_command_works(
    desk: Desk, elsewhere: dict[str, str], closed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(what: str, auth: tuple[str, str] | None) -> httpx.Response:
        return httpx.post(f"{closed}/api/{what}/filter", json={}, auth=auth)

    name, password = LOGIN.split(":")
    logins = (None, (name, "guess"), (name, password))
    assert [ask("block_documents", login).status_code for login in logins] == [401, 401, 200]
    fields = {"base_url": f"http://127.0.0.1:{desk.sandbox.port}", "account_sid": SID}
    fields |= {"auth_token": TOKEN, "sender": "+15005550006"}
    sets = [part for field in fields.items() for part in ("--set", "=".join(field))]
    people = desk.people(2)
    for line in (
        ["gateway", "add", "sandbox", "twilio", *sets],
        ["gateway", "list"],
        ["send", desk.campaign(desk.audience(people))],
    ):
        said = desk.process(*line, **elsewhere)
        assert said.code == 0, said.err
    assert desk.messages(people) == [1, 1]
    # What flows say, over HTTP and over sockets, comes in as well.
    assert all(ask(what, (name, password)).json() for what in ("logs", "task_runs", "artifacts"))
    for variable, value in elsewhere.items():
        monkeypatch.setenv(variable, value)
    for wrong in ("", "marketing:guess"):
        monkeypatch.setenv("SMS_UI_LOGIN", wrong)
        monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
        settings.cache_clear()
        said = desk.sms("gateway", "list")
        assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
        assert "SMS_UI_LOGIN" in said.err
        assert "guess" not in said.err
    written = list(Path(elsewhere["SMS_HOME"]).rglob("*"))
    files = [path for path in written if path.is_file()]
    assert [path for path in files if password.encode() in path.read_bytes()] == []
    assert {path.name for path in files} >= {"sms.db", "secret.key", "prefect.db", "report.md"}
    # Though the folder itself may have been made open to all before.
    assert [path for path in written if path.stat().st_mode & 0o077] == []


def test_a_server_that_lets_everybody_in_is_not_taken_for_one_with_a_login(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMS_UI_LOGIN", LOGIN)
    settings.cache_clear()
    said = desk.sms("gateway", "list")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert "started without SMS_UI_LOGIN" in said.err


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_no_server_is_opened_to_other_machines_without_a_login(
    elsewhere: dict[str, str], monkeypatch: pytest.MonkeyPatch, desk: Desk, host: str
) -> None:
    for name, value in {**elsewhere, "SMS_UI_LOGIN": "", "PREFECT_SERVER_API_HOST": host}.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    said = desk.sms("gateway", "list")
    assert (said.code, said.out, said.err.count("\n")) == (1, "", 1)
    assert f"PREFECT_SERVER_API_HOST={host}" in said.err
    assert "SMS_UI_LOGIN" in said.err
    # An address of an API that somebody has set does not get around it.
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{settings().prefect_port}/api")
    with pytest.raises(ChildError, match="SMS_UI_LOGIN"):
        server.start()


@pytest.mark.parametrize(
    ("host", "login", "listens", "called"),
    [
        ("", "", "127.0.0.1", "127.0.0.1"),
        ("localhost", "", "localhost", "127.0.0.1"),
        ("::1", "", "::1", "[::1]"),
        ("0.0.0.0", LOGIN, "0.0.0.0", "127.0.0.1"),
        ("192.0.2.7", LOGIN, "192.0.2.7", "192.0.2.7"),
    ],
)
def test_the_server_listens_on_loopback_unless_it_has_a_login(
    elsewhere: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    login: str,
    listens: str,
    called: str,
) -> None:
    port = elsewhere["SMS_PREFECT_PORT"]
    values = {**elsewhere, "SMS_UI_LOGIN": login, "PREFECT_SERVER_API_HOST": host}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    assert server.server_env()["PREFECT_SERVER_API_HOST"] == listens
    assert server.api_url() == f"http://{called}:{port}/api"


@pytest.mark.parametrize("login", ["word", ":word", "name:"])
def test_a_login_that_is_none_is_refused_without_showing_it(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, login: str
) -> None:
    monkeypatch.setenv("SMS_UI_LOGIN", login)
    settings.cache_clear()
    said = desk.sms("runs")
    assert (said.code, said.err) == (1, "sms: SMS_UI_LOGIN: write name:password\n")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://elsewhere.example", False), ("the UI", True)],
    ids=["another website", "the UI itself"],
)
def test_browsers_let_no_other_website_call_the_api(
    installation: dict[str, str], origin: str, allowed: bool
) -> None:
    url = installation["PREFECT_API_URL"]
    if allowed:
        origin = url.removesuffix("/api")
    answer = httpx.get(f"{url}/health", headers={"origin": origin}, trust_env=False)
    assert ("access-control-allow-origin" in answer.headers) is allowed
