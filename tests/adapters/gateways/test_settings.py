"""What settings of every gateway refuse, and what a look at a wrong server says."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from adapters.gateways import KINDS
from tests.adapters.gateways.contract import EXAMPLES, gateway
from tests.adapters.gateways.wire import Respond, Wire

pytestmark = pytest.mark.anyio


def made(kind: str, **changed: Any) -> Any:
    return KINDS[kind].model_validate({**EXAMPLES[kind].settings, **changed})


def secret_names(kind: str) -> list[str]:
    return [name for name, value in made(kind) if isinstance(value, SecretStr)]


@pytest.mark.parametrize(
    "odd", ["in\nside-the-secret-1", "\x7fsecret-of-16-chars", "zero\u200bwidth-secret"]
)
def test_a_secret_with_what_no_line_has_is_refused(any_kind: str, odd: str) -> None:
    for name in secret_names(any_kind):
        with pytest.raises(ValidationError, match="cannot be seen") as caught:
            made(any_kind, **{name: odd})
        assert "secret" not in str(caught.value).partition(name)[2]


def test_space_around_a_setting_is_taken_away(any_kind: str) -> None:
    for name in secret_names(any_kind):
        value = EXAMPLES[any_kind].settings[name]
        assert getattr(made(any_kind, **{name: f" {value}\n"}), name).get_secret_value() == value


def test_an_address_has_no_login_and_no_trailing_slash(kind: str) -> None:
    with pytest.raises(ValidationError, match="own fields") as caught:
        made(kind, base_url="https://user:the-password@example.com/")
    assert "the-password" not in str(caught.value)
    assert made(kind, base_url="https://example.com/a@b//").base_url == "https://example.com/a@b"


def test_an_address_that_cannot_be_taken_apart_is_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match="base_url"):
        made(kind, base_url="http://[")


async def test_what_is_no_address_is_a_problem_in_one_line(kind: str) -> None:
    async with gateway(kind, "http://127.0.0.1:port") as adapter:
        [problem] = await adapter.check()
    assert "base_url http://127.0.0.1:port is no address" in problem
    assert f"sms gateway add main {kind} --set" in problem


async def test_a_server_of_another_kind_is_a_problem(wire: Wire, kind: str) -> None:
    wire.script = [Respond(200, {"status": "ok", "hello": "I am another service"})]
    async with gateway(kind, wire.url) as adapter:
        [problem] = await adapter.check()
    assert "base_url" in problem
