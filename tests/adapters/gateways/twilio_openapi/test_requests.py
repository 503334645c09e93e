"""Twilio's own OpenAPI document accepts what the adapter sends.

The document comes with the npm package @twilio/cli-core; Prism (npm @stoplight/prism-cli) serves it
as a mock server that refuses, with 422, what the document does not allow. Its answers are the
examples of the document, which the adapter reads.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.gateways.base import Answer, Outgoing, Status, Suspect
from adapters.gateways.values import mail_date
from tests.adapters.gateways.twilio_account import ACCOUNT, SID, TOKEN, twilio
from tests.adapters.gateways.wire import Wire
from tests.programs import need
from tests.sandboxes import ROOT, wait_until

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
DOCUMENT = MODULES / "@twilio/cli-core/src/services/twilio-api/twilio_api_v2010.json"
PRISM = MODULES / ".bin/prism"
INSTALL = f"npm ci --ignore-scripts --prefix {HERE.relative_to(ROOT)}"

MESSAGES = "/2010-04-01/Accounts/{AccountSid}/Messages.json"
MESSAGE = "/2010-04-01/Accounts/{AccountSid}/Messages/{Sid}.json"
PATHS = (MESSAGES, MESSAGE, "/2010-04-01/Accounts/{Sid}.json")
FORM = {"To": "+12125550101", "From": "+15005550006", "Body": "Hello"}


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """The part about messages and the account: the whole is too big to serve."""
    need(str(PRISM), INSTALL)
    whole: dict[str, Any] = json.loads(DOCUMENT.read_text())
    return whole | {"paths": {path: whole["paths"][path] for path in PATHS}}


@pytest.fixture(scope="module")
def prism(
    document: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
    free_port: Callable[[], int],
) -> Iterator[str]:
    """The address of a mock server that was made from the document."""
    path, port = tmp_path_factory.mktemp("prism") / "messages.json", free_port()
    path.write_text(json.dumps(document))
    url = f"http://127.0.0.1:{port}"
    command = [str(PRISM), "mock", "--host", "127.0.0.1", "--port", str(port), str(path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _listens(url, process), 60)
            yield url
        finally:
            process.terminate()


def _listens(url: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "prism ended"
    try:
        return bool(httpx.get(url).status_code)
    except httpx.TransportError:
        return False


def example(document: dict[str, Any], path: str) -> dict[str, Any]:
    """The first answer that the document shows for a look-up, which is the one Prism gives."""
    answer = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]
    value: dict[str, Any] = next(iter(answer["examples"].values()))["value"]
    return value


async def submit(prism: str, **settings: str) -> Answer:
    deadline = datetime.now(UTC) + timedelta(hours=1)
    sender = "" if settings else FORM["From"]
    message = Outgoing("m1", FORM["To"], "Héllo 🎉", sender, "UCS-2", 1, deadline)
    async with twilio(prism, **settings) as gateway:
        [answer] = await gateway.submit([message])
    return answer


@pytest.mark.parametrize("settings", [{}, {"messaging_service_sid": "MG" + "a" * 32}])
async def test_twilios_document_accepts_our_message(prism: str, settings: dict[str, str]) -> None:
    answer = await submit(prism, **settings)
    assert (answer.outcome, answer.error_text) == ("accepted", "")
    assert answer.gateway_message_id == "SM" + "a" * 32


async def test_it_accepts_our_look_up_of_a_message(prism: str, document: dict[str, Any]) -> None:
    shown = example(document, MESSAGE)
    async with twilio(prism) as gateway:
        [report] = await gateway.poll([shown["sid"]])
    assert (report.gateway_message_id, report.recipient) == (shown["sid"], shown["to"])
    assert (report.status, report.error_code) == (Status.SENT, str(shown["error_code"]))


async def test_it_accepts_our_search_for_messages_in_doubt(
    prism: str, document: dict[str, Any]
) -> None:
    listed = example(document, MESSAGES)["messages"][0]
    created = mail_date(listed["date_created"])
    assert created
    suspect = Suspect("m1", listed["to"], listed["body"], listed["from"], created, created)
    async with twilio(prism) as gateway:
        [finding] = await gateway.recover([suspect])
    assert (finding.outcome, finding.gateway_message_id) == ("accepted", listed["sid"])


async def test_it_accepts_our_check(prism: str) -> None:
    async with twilio(prism) as gateway:
        assert await gateway.check("+15005550006") == []


@pytest.mark.parametrize(
    "change",
    [
        {"ValidityPeriod": "abc"},
        {"MessagingServiceSid": "MG1"},
        {"StatusCallback": "no address"},
        {"To": None},
    ],
    ids=lambda change: next(iter(change)),
)
def test_the_document_refuses_a_wrong_message(prism: str, change: dict[str, str | None]) -> None:
    form = {name: value for name, value in (FORM | change).items() if value is not None}
    login = (SID, TOKEN)
    assert httpx.post(f"{prism}{ACCOUNT}/Messages.json", data=FORM, auth=login).status_code == 201
    assert httpx.post(f"{prism}{ACCOUNT}/Messages.json", data=form, auth=login).status_code == 422


async def test_we_use_no_parameter_that_the_document_does_not_know(
    wire: Wire, document: dict[str, Any]
) -> None:
    # Prism passes over those.
    posted, listed = (document["paths"][MESSAGES][method] for method in ("post", "get"))
    [form] = posted["requestBody"]["content"].values()
    service = "MG" + "a" * 32
    await submit(wire.url, messaging_service_sid=service)
    now = datetime.now(UTC)
    async with twilio(wire.url) as gateway:
        await gateway.recover([Suspect("m1", FORM["To"], "Hello", FORM["From"], now, now)])
    sent, asked = wire.requests
    assert set(sent.form) <= set(form["schema"]["properties"])
    assert set(asked.query) <= {parameter["name"] for parameter in listed["parameters"]}


def test_the_document_wants_a_login(prism: str) -> None:
    assert httpx.post(f"{prism}{ACCOUNT}/Messages.json", data=FORM).status_code == 401
