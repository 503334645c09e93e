"""SMPP: long messages, of which each part is a submit_sm of its own."""

from collections.abc import AsyncIterator

import pytest

from adapters.gateways import smpp_answers, smpp_text
from adapters.gateways.base import ErrorClass, Status
from tasks.segments import count_segments
from tests.adapters.gateways import smsc as server
from tests.adapters.gateways.smpp_account import THREE, adapter, message, submit
from tests.adapters.gateways.smsc import Silence, Smsc

pytestmark = pytest.mark.anyio

Says = server.Answer


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with Smsc() as running:
        yield running


@pytest.mark.parametrize("text", ["{" * 200, THREE, "ж" * 300, "🎉" * 100, "x" * 152 + "€" * 20])
async def test_a_long_message_is_as_many_parts_as_were_counted(smsc: Smsc, text: str) -> None:
    answer = await submit(smsc, message(text))
    headers = [sent.short_message[:6] for sent in smsc.submits]
    total = count_segments(text)[1]
    assert [header[:3] for header in headers] == [b"\x05\x00\x03"] * total
    assert len({header[3] for header in headers}) == 1
    assert [(header[4], header[5]) for header in headers] == [
        (total, place) for place in range(1, total + 1)
    ]
    assert {sent.esm_class for sent in smsc.submits} == {0x40}
    assert max(len(sent.short_message) for sent in smsc.submits) <= 159
    whole = "".join(
        smpp_text.read(sent.short_message, sent.data_coding, has_header=True)
        for sent in smsc.submits
    )
    assert whole == text
    ids = [str(place) for place in range(1, total + 1)]
    assert (answer.gateway_message_id, answer.segments) == ("1", total)
    assert [(part.status, part.gateway_message_id, part.part) for part in answer.parts] == [
        (Status.ACCEPTED, name, name) for name in ids
    ]
    assert {part.reference for part in answer.parts} == {"m1"}


LOST = Silence()


@pytest.mark.parametrize(
    ("script", "outcome", "parts"),
    [
        ([Says(0x0B), Says(0x0B), Says(0x0B)], "refused", []),
        ([LOST, LOST, LOST], "unknown", []),
        ([LOST, Says(0x0B), Says(0x58)], "unknown", []),
        (
            [Says(), Says(0x0B), Says()],
            "accepted",
            [("accepted", "1"), ("failed", "2"), ("accepted", "2")],
        ),
        ([Says(), Says(), LOST], "accepted", [("accepted", "1"), ("accepted", "2")]),
        ([LOST, Says(0x0B), Says()], "accepted", [("failed", "2"), ("accepted", "1")]),
    ],
    ids=["refused", "lost", "lost_or_refused", "one_refused", "one_lost", "each"],
)
async def test_what_becomes_of_three_parts(
    smsc: Smsc, script: list[server.Reaction], outcome: str, parts: list[tuple[str, str]]
) -> None:
    smsc.script = script
    answer = await submit(smsc, message(THREE), timeout=0.5)
    assert answer.outcome == outcome
    assert [(str(part.status), part.part) for part in answer.parts] == parts
    assert len(smsc.submits) == 3


async def test_parts_go_out_together_however_slow_the_answers(smsc: Smsc) -> None:
    smsc.script = [Says(delay=0.8)]
    answer = await submit(smsc, message(THREE), timeout=2)
    assert [str(part.status) for part in answer.parts] == ["accepted"] * 3


async def test_a_message_without_room_for_all_its_parts_is_not_begun(smsc: Smsc) -> None:
    smsc.script = [LOST]
    async with adapter(smsc.port, window=4, timeout=0.5) as made:
        first, second = await made.submit([message(THREE, id="m1"), message(THREE, id="m2")])
    assert (first.outcome, second.outcome, second.error_code) == ("unknown", "refused", "busy")
    assert len(smsc.submits) == 3


async def test_more_parts_than_the_window_has_follow_one_another(smsc: Smsc) -> None:
    smsc.script = [Says(delay=0.02)]
    answer = await submit(smsc, message(THREE), window=2)
    assert [str(part.status) for part in answer.parts] == ["accepted"] * 3
    assert smsc.most_at_once <= 2


async def test_throttled_parts_are_sent_again_once_others_were_taken(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(smpp_answers.WAITS, 0x58, 0.01)
    smsc.script = [Says(0x58), Says(), Says(0x58), Says(0x58), Says()]
    answer = await submit(smsc, message(THREE))
    assert [str(part.status) for part in answer.parts] == ["accepted"] * 3
    assert [sent.short_message[5] for sent in smsc.submits] == [1, 2, 3, 1, 3, 1]


@pytest.mark.parametrize(
    ("second", "error_class"), [(0x58, ErrorClass.RETRY), (0x0B, ErrorClass.RECIPIENT)]
)
async def test_a_message_of_which_nothing_was_taken_is_as_its_worst_part(
    smsc: Smsc, second: int, error_class: ErrorClass
) -> None:
    smsc.script = [Says(0x58), Says(second), Says(0x58)]
    answer = await submit(smsc, message(THREE))
    assert (answer.outcome, answer.error_class) == ("refused", error_class)
    assert len(smsc.submits) == 3


async def test_a_part_that_stays_throttled_fails_without_a_class(smsc: Smsc) -> None:
    smsc.script = [Says(), Says(0x58)]
    answer = await submit(smsc, message(THREE), timeout=0.5)
    failed = answer.parts[-1]
    assert (answer.outcome, failed.status, failed.error_class) == ("accepted", Status.FAILED, None)
    assert failed.error_code == "ESME_RTHROTTLED"
