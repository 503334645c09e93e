"""SMPP: what a submit_sm carries, what each answer to it is called, and what `check` says."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from adapters.gateways import smpp_text
from adapters.gateways.base import Callback, CallbackError, ErrorClass, Listener
from tasks.segments import GSM7_BASIC, GSM7_EXTENSION
from tests.adapters.gateways import smsc as server
from tests.adapters.gateways.smpp_account import adapter, message, submit
from tests.adapters.gateways.smsc import Leave, Reset, Silence, Smsc

pytestmark = pytest.mark.anyio

Says = server.Answer


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with Smsc() as running:
        yield running


# What is written


async def test_a_message_is_a_submit_sm_by_a_transmitter_bind(smsc: Smsc) -> None:
    at = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    answer = await submit(smsc, message("Grüße £5 [€]", deadline=at), system_type="web")
    assert (answer.outcome, answer.gateway_message_id, answer.segments) == ("accepted", "1", 1)
    assert answer.parts == ()
    assert smsc.binds == [(server.BIND_TRANSMITTER, [b"me", b"pass", b"web"])]
    [sent] = smsc.submits
    assert (sent.source_addr, sent.source_addr_ton, sent.source_addr_npi) == ("15005550006", 1, 1)
    assert (sent.destination_addr, sent.dest_addr_ton, sent.dest_addr_npi) == ("12125550101", 1, 1)
    assert (sent.esm_class, sent.data_coding, sent.registered_delivery) == (0, 0, 1)
    assert sent.short_message == b"Gr\x7e\x1ee \x015 \x1b<\x1be\x1b>"
    assert sent.validity_period == f"{at:%y%m%d%H%M%S}000+"


async def test_without_a_deadline_the_validity_is_the_smscs_own(smsc: Smsc) -> None:
    await submit(smsc)
    assert smsc.submits[0].validity_period == ""


@pytest.mark.parametrize(
    ("sender", "settings", "expected"),
    [
        ("+447700900001", {}, ("447700900001", 1, 1)),
        ("12345", {}, ("12345", 3, 0)),
        ("ACME 24", {}, ("ACME 24", 5, 0)),
        ("", {}, ("", 0, 0)),
        ("12345", {"source_ton": 0, "source_npi": 0}, ("12345", 0, 0)),
    ],
)
async def test_the_type_of_the_sender_follows_its_form(
    smsc: Smsc, sender: str, settings: dict[str, int], expected: tuple[str, int, int]
) -> None:
    await submit(smsc, message(sender=sender), **settings)
    sent = smsc.submits[0]
    assert (sent.source_addr, sent.source_addr_ton, sent.source_addr_npi) == expected


async def test_ucs2_is_big_endian_with_data_coding_8(smsc: Smsc) -> None:
    await submit(smsc, message("Привет 🎉"))
    sent = smsc.submits[0]
    assert (sent.data_coding, sent.short_message.decode("utf-16-be")) == (8, "Привет 🎉")


def test_every_character_of_gsm7_comes_back() -> None:
    text = GSM7_BASIC + GSM7_EXTENSION
    [octets] = smpp_text.parts(text, smpp_text.GSM7, 0)
    assert smpp_text.read(octets, smpp_text.GSM7, has_header=False) == text
    # The table is the one of TS 23.038: @ is 0, the escape is left out, à is 127.
    assert octets[:127] == bytes(code for code in range(128) if code != 0x1B)


async def test_a_text_that_its_encoding_lacks_is_not_sent(smsc: Smsc) -> None:
    answer = await submit(smsc, message("ж", encoding="GSM-7"))
    assert (answer.outcome, answer.error_class) == ("refused", ErrorClass.CONTENT)
    assert smsc.submits == []


# What the answer means


@pytest.mark.parametrize(
    ("status", "error_class", "code", "wait"),
    [
        (0x58, ErrorClass.RETRY, "ESME_RTHROTTLED", 1),
        (0x14, ErrorClass.RETRY, "ESME_RMSGQFUL", 10),
        (0x0B, ErrorClass.RECIPIENT, "ESME_RINVDSTADR", None),
        (0x0A, ErrorClass.CONTENT, "ESME_RINVSRCADR", None),
        (0x0E, ErrorClass.ACCOUNT, "ESME_RINVPASWD", None),
        (0x45, ErrorClass.RECIPIENT, "ESME_RSUBMITFAIL", None),
        (0x410, ErrorClass.RECIPIENT, "0x00000410", None),
    ],
)
async def test_a_command_status_is_a_refusal(
    smsc: Smsc, status: int, error_class: ErrorClass, code: str, wait: float | None
) -> None:
    smsc.script = [Says(status)]
    answer = await submit(smsc)
    assert (answer.outcome, answer.error_class, answer.error_code) == ("refused", error_class, code)
    assert answer.retry_after == wait
    assert len(smsc.submits) == 1


@pytest.mark.parametrize("status", [0x08, 0xFF])
async def test_an_error_that_says_nothing_of_the_message_leaves_it_in_doubt(
    smsc: Smsc, status: int
) -> None:
    smsc.script = [Says(status)]
    assert (await submit(smsc)).outcome == "unknown"


async def test_a_generic_nack_is_a_refusal(smsc: Smsc) -> None:
    smsc.script = [Says(0x02, command=0x8000_0000)]
    assert (await submit(smsc)).outcome == "refused"


@pytest.mark.parametrize("command", [0x8000_0000, 0x8000_0002])
async def test_an_answer_to_something_else_is_no_acceptance(smsc: Smsc, command: int) -> None:
    smsc.script = [Says(command=command)]
    answer = await submit(smsc)
    assert (answer.outcome, answer.gateway_message_id) == ("unknown", None)


async def test_an_acceptance_without_an_id_is_one(smsc: Smsc) -> None:
    smsc.script = [Says(message_id="")]
    answer = await submit(smsc)
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", None)


@pytest.mark.parametrize("name", ["0x1A", "1_0", " 7 ", "-5", "1g"])
async def test_an_id_that_is_not_hexadecimal_stays_as_it_is(smsc: Smsc, name: str) -> None:
    smsc.script = [Says(message_id=name)]
    assert (await submit(smsc, receipt_ids="decimal")).gateway_message_id == name


async def test_hexadecimal_ids_are_kept_as_receipts_name_them(smsc: Smsc) -> None:
    smsc.script = [Says(message_id="00FF")]
    assert (await submit(smsc, receipt_ids="decimal")).gateway_message_id == "255"
    assert (await submit(smsc)).gateway_message_id == "00FF"


@pytest.mark.parametrize("lost", [Reset(), Leave(), Silence()])
async def test_a_submit_without_an_answer_is_in_doubt_and_not_sent_again(
    smsc: Smsc, lost: Reset | Leave | Silence
) -> None:
    smsc.script = [lost, Says()]
    answer = await submit(smsc, timeout=0.3)
    assert (answer.outcome, answer.error_class) == ("unknown", None)
    assert len(smsc.submits) == 1


async def test_an_answer_that_comes_too_late_is_nobody_elses(smsc: Smsc) -> None:
    smsc.script = [Says(message_id="late", delay=0.3), Says(message_id="own", delay=0.2)]
    async with adapter(smsc.port, timeout=0.25) as made:
        [first] = await made.submit([message(id="m1")])
        [second] = await made.submit([message(id="m2")])
    assert first.outcome == "unknown"
    assert (second.outcome, second.gateway_message_id) == ("accepted", "own")


# check


async def test_check_binds_and_sends_nothing(smsc: Smsc) -> None:
    async with adapter(smsc.port) as made:
        assert await made.check() == []
    assert (len(smsc.binds), smsc.unbinds, smsc.submits) == (1, 1, [])


async def test_check_names_what_is_wrong(smsc: Smsc, free_port: Callable[[], int]) -> None:
    smsc.bind_status = 0x0E
    [login] = await adapter(smsc.port).check()
    assert "ESME_RINVPASWD" in login
    assert "sms gateway add main smpp --set password=…" in login
    [address, sender] = sorted(await adapter(free_port(), sender="").check())
    assert "host or port" in address
    assert "there is no sender" in sender


@pytest.mark.parametrize("host", ["smsc.example.com", "localhost.", "10.0.0.1", "::1", "bücher.de"])
def test_names_and_addresses_are_hosts(host: str) -> None:
    assert adapter(1, host=host)


@pytest.mark.parametrize(
    "host", ["a..b", ".b", "a b", "a" * 64, "☃..x", "smpp://a", "a:2775", "-a", ".", ""]
)
def test_another_host_is_refused_by_the_settings(host: str) -> None:
    with pytest.raises(ValidationError) as refused:
        adapter(1, host=host)
    [error] = refused.value.errors()
    assert error["loc"] == ("host",)
    assert "\n" not in error["msg"]


# Callbacks


def test_a_callback_is_refused() -> None:
    made = adapter(1)
    callback = Callback("POST", "http://127.0.0.1/gateways/main/reports", {}, b"id=1")
    assert isinstance(made, Listener)
    assert not made.verify(callback)
    with pytest.raises(CallbackError):
        made.parse(callback)


async def test_no_message_in_doubt_is_looked_up() -> None:
    made = adapter(1)
    assert (await made.recover([]), await made.poll(["1"])) == ([], [])
