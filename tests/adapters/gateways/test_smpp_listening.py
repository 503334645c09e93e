"""SMPP: the standing bind as receiver, what is read from it, and when it is acknowledged."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from smpp34 import Tlv

from adapters.gateways import smpp
from adapters.gateways.base import Inbound, Report, Status
from adapters.gateways.smpp import Smpp
from tests.adapters.gateways.smpp_account import adapter
from tests.adapters.gateways.smsc import BIND_RECEIVER, Smsc

pytestmark = pytest.mark.anyio

RECEIPT = (
    "id:42 sub:001 dlvrd:001 submit date:2611241400 done date:2611241401 stat:{} err:{} text:id:1"
)
STATE, MESSAGE_ID, NETWORK_ERROR, PAYLOAD = 0x0427, 0x001E, 0x0423, 0x0424


class Kept:
    """What was stored."""

    def __init__(self) -> None:
        self.reports: list[Report] = []
        self.inbound: list[Inbound] = []
        self.raw: list[str] = []
        self.stores = True

    async def store(self, reports: Sequence[Report], inbound: Sequence[Inbound], raw: str) -> bool:
        if self.stores:
            self.reports += reports
            self.inbound += inbound
            self.raw.append(raw)
        return self.stores


class Listening:
    """An adapter that listens to an SMSC."""

    def __init__(self, smsc: Smsc, made: Smpp, kept: Kept) -> None:
        self.smsc, self.made, self.kept = smsc, made, kept

    async def bound(self, times: int = 1) -> None:
        async with asyncio.timeout(5):
            while len(self.smsc.binds) < times or self.made.bind_problem:
                await asyncio.sleep(0.01)


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with Smsc() as running:
        yield running


@pytest.fixture
def settings() -> dict[str, Any]:
    return {}


@pytest.fixture
async def listening(
    smsc: Smsc, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Listening]:
    monkeypatch.setattr(smpp, "FIRST_WAIT", 0.05)
    made, kept = adapter(smsc.port, **settings), Kept()
    task = asyncio.create_task(made.listen(kept.store))
    now = Listening(smsc, made, kept)
    await now.bound()
    yield now
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def receipt(stat: str = "DELIVRD", err: str = "000", **fields: Any) -> dict[str, Any]:
    return {
        "source_addr": "12125550101",
        "destination_addr": "15005550006",
        "short_message": RECEIPT.format(stat, err).encode(),
        "source_addr_ton": 1,
        "esm_class": 0x04,
        **fields,
    }


async def test_a_receipt_is_stored_and_then_acknowledged(listening: Listening) -> None:
    assert await listening.smsc.deliver(**receipt()) == 0
    assert listening.kept.reports == [
        Report(Status.DELIVERED, gateway_message_id="42", part="42", recipient="+12125550101")
    ]
    assert b"stat:DELIVRD" in bytes.fromhex(listening.kept.raw[0])
    assert listening.smsc.binds[0][0] == BIND_RECEIVER


async def test_what_was_not_stored_is_not_acknowledged(listening: Listening) -> None:
    listening.kept.stores = False
    assert await listening.smsc.deliver(**receipt()) == 0x64
    listening.kept.stores = True
    assert await listening.smsc.deliver(**receipt()) == 0
    assert len(listening.kept.reports) == 1


@pytest.mark.parametrize(
    ("stat", "err", "status", "code"),
    [
        ("DELIVRD", "000", Status.DELIVERED, None),
        ("UNDELIV", "011", Status.UNDELIVERED, "011"),
        ("EXPIRED", "000", Status.EXPIRED, None),
        ("DELETED", "0", Status.FAILED, None),
        ("REJECTD", "69", Status.REJECTED, "69"),
        ("ENROUTE", "000", Status.SENT, None),
        ("ACCEPTD", "000", Status.SENT, None),
        ("UNKNOWN", "000", Status.UNKNOWN, None),
        ("NEWWORD", "000", Status.UNKNOWN, None),
    ],
)
async def test_the_text_of_a_receipt_says_the_status(
    listening: Listening, stat: str, err: str, status: Status, code: str | None
) -> None:
    await listening.smsc.deliver(**receipt(stat, err))
    [report] = listening.kept.reports
    assert (report.status, report.error_code, report.error_class) == (status, code, None)


FIELDS = "id:42 sub:001 dlvrd:001 stat:DELIVRD err:000"


@pytest.mark.parametrize(
    "label", [" text:", " Text:", " TEXT:", "\ntext:", "\r\nText:", "\ttext:", " text: "]
)
async def test_the_text_of_the_message_is_no_part_of_its_receipt(
    listening: Listening, label: str
) -> None:
    text = f"{FIELDS}{label}id:1 stat:UNDELIV err:099"
    await listening.smsc.deliver(**receipt(short_message=text.encode()))
    [report] = listening.kept.reports
    assert (report.gateway_message_id, report.status) == ("42", Status.DELIVERED)


async def test_of_a_field_the_first_counts(listening: Listening) -> None:
    text = f"{FIELDS} Hello id:1 stat:UNDELIV"
    await listening.smsc.deliver(**receipt(short_message=text.encode()))
    [report] = listening.kept.reports
    assert (report.gateway_message_id, report.status) == ("42", Status.DELIVERED)


@pytest.mark.parametrize(
    "text", ["id: sub:001 stat:DELIVRD text:", "stat:DELIVRD Text:Order id:1", "text: id:1"]
)
async def test_an_empty_id_is_none(listening: Listening, text: str) -> None:
    assert await listening.smsc.deliver(**receipt(short_message=text.encode())) == 0x65
    assert listening.kept.reports == []


@pytest.mark.parametrize("extras", [[], [Tlv(STATE, b"\x05")]])
async def test_an_intermediate_notification_is_a_report_that_ends_nothing(
    listening: Listening, extras: list[Tlv]
) -> None:
    await listening.smsc.deliver(**receipt("UNDELIV", "011", esm_class=0x20, tlvs=extras))
    [report] = listening.kept.reports
    assert (report.status, report.error_code) == (Status.SENT, None)
    assert listening.kept.inbound == []


async def test_optional_parameters_go_before_the_text(listening: Listening) -> None:
    extras = [Tlv(MESSAGE_ID, b"abc\0"), Tlv(STATE, b"\x05"), Tlv(NETWORK_ERROR, b"\x03\x00\x22")]
    await listening.smsc.deliver(**receipt(tlvs=extras))
    [report] = listening.kept.reports
    assert (report.status, report.gateway_message_id, report.part, report.error_code) == (
        Status.UNDELIVERED,
        "abc",
        "abc",
        "3-34",
    )


async def test_a_receipt_may_have_nothing_but_optional_parameters(listening: Listening) -> None:
    extras = [Tlv(MESSAGE_ID, b"abc\0"), Tlv(STATE, b"\x02")]
    await listening.smsc.deliver(**receipt(short_message=b"", esm_class=0, tlvs=extras))
    [report] = listening.kept.reports
    assert (report.status, report.gateway_message_id) == (Status.DELIVERED, "abc")


async def test_the_text_of_a_receipt_may_be_the_payload(listening: Listening) -> None:
    extras = [Tlv(PAYLOAD, RECEIPT.format("UNDELIV", "011").encode())]
    await listening.smsc.deliver(**receipt(short_message=b"", tlvs=extras))
    assert listening.kept.reports[0].status is Status.UNDELIVERED


@pytest.mark.parametrize("settings", [{"receipt_ids": "decimal"}])
async def test_a_decimal_id_loses_its_zeros(listening: Listening) -> None:
    text = RECEIPT.format("DELIVRD", "000").replace("id:42", "id:0000000255")
    await listening.smsc.deliver(**receipt(short_message=text.encode()))
    assert listening.kept.reports[0].gateway_message_id == "255"


@pytest.mark.parametrize("settings", [{"receipt_ids": "decimal"}])
@pytest.mark.parametrize(
    ("in_text", "in_tlv"), [("26", b"1A\0"), ("26", b"99\0"), ("", b"1A\0"), ("", b"0000001a\0")]
)
async def test_a_hexadecimal_parameter_yields_to_the_decimal_text(
    listening: Listening, in_text: str, in_tlv: bytes
) -> None:
    text = f"id:{in_text} stat:DELIVRD err:000 text:"
    extras = [Tlv(MESSAGE_ID, in_tlv)]
    await listening.smsc.deliver(**receipt(short_message=text.encode(), tlvs=extras))
    assert listening.kept.reports[0].gateway_message_id == "26"


async def test_a_receipt_of_no_message_is_refused_for_good(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    assert await listening.smsc.deliver(**receipt(short_message=b"+12125550101")) == 0x65
    assert listening.kept.raw == []
    assert "gateway main: a receipt that names no message" in caplog.text
    assert "5550101" not in caplog.text


@pytest.mark.parametrize(
    ("octets", "coding", "header", "text"),
    [
        (b"STOP", 0, False, "STOP"),
        (b"\x1be5 \x00 \x7e", 0, False, "€5 @ ü"),
        ("Стоп".encode("utf-16-be"), 8, False, "Стоп"),
        ("ça va".encode("latin-1"), 3, False, "ça va"),
        (b"plain", 1, False, "plain"),
        (b"\x05\x00\x03\x07\x02\x01first", 0, True, "first"),
        (b"\x06\x08\x04\x00\x07\x02\x02" + "да".encode("utf-16-be"), 8, True, "да"),
        ("STOP".encode("utf-16-be"), 0x18, False, "STOP"),
        ("Стоп".encode("utf-16-be"), 0x19, False, "Стоп"),
        ("STOP".encode("utf-16-be"), 0xE0, False, "STOP"),
        (b"\x1be5", 0x10, False, "€5"),
        (b"\x1be5", 0xC8, False, "€5"),
        (b"\x1be5", 0xF1, False, "€5"),
        (b"STOP", 0xF5, False, "STOP"),
        ("СТОП".encode("iso8859_5"), 6, False, "СТОП"),
        (b"STOP \x92\xe2", 5, False, "STOP \ufffd\ufffd"),
        (b"\xd8\x00", 8, False, "\ufffd"),
        (b"\x90", 0, False, "\ufffd"),
        (b"", 0, True, ""),
    ],
)
async def test_an_inbound_message_is_read_as_it_is_coded(
    listening: Listening, octets: bytes, coding: int, header: bool, text: str
) -> None:
    status = await listening.smsc.deliver(
        "447700900001",
        "15005550006",
        octets,
        data_coding=coding,
        esm_class=0x40 if header else 0,
        source_addr_ton=1,
    )
    [found] = listening.kept.inbound
    assert (status, found.text, found.sender) == (0, text, "+447700900001")
    assert found.recipient == "+15005550006"
    assert found.gateway_message_id


@pytest.mark.parametrize(
    ("address", "ton", "expected"),
    [
        ("447700900001", 0, "+447700900001"),
        ("07700900001", 0, "07700900001"),
        ("7700900001", 2, "7700900001"),
        ("12345", 1, "12345"),
        ("ACME", 5, "ACME"),
    ],
)
async def test_international_senders_are_e164(
    listening: Listening, address: str, ton: int, expected: str
) -> None:
    await listening.smsc.deliver(address, "12345", b"STOP", source_addr_ton=ton)
    assert listening.kept.inbound[0].sender == expected


async def test_a_bind_that_is_dropped_is_made_again(
    listening: Listening, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    listening.smsc.drop()
    await listening.bound(2)
    assert await listening.smsc.deliver(**receipt()) == 0
    assert "gateway main receives no reports: the bind at the SMSC" in caplog.text


async def test_an_smsc_that_comes_back_is_bound_to(listening: Listening) -> None:
    port = listening.smsc.port
    listening.smsc.stop()
    async with asyncio.timeout(5):
        while "no connection to the SMSC" not in listening.made.bind_problem:
            await asyncio.sleep(0.01)
    await listening.smsc.start(port)
    await listening.bound(2)
    assert await listening.smsc.deliver(**receipt()) == 0


async def test_many_receipts_are_stored_side_by_side(listening: Listening) -> None:
    waiting = asyncio.Event()
    begun = 0

    async def store(*_: object) -> bool:
        nonlocal begun
        begun += 1
        await waiting.wait()
        return True

    listening.kept.store = store  # type: ignore[method-assign]
    again = asyncio.create_task(listening.made.listen(store))
    await listening.bound(2)
    answers = [asyncio.create_task(listening.smsc.deliver(**receipt())) for _ in range(20)]
    async with asyncio.timeout(5):
        while begun < 20:
            await asyncio.sleep(0.01)
    waiting.set()
    assert set(await asyncio.gather(*answers)) == {0}
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
