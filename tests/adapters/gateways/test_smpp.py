"""SMPP: what a submit_sm carries, and what each end that it can come to is called."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from adapters.gateways import make_gateway, smpp, smpp_session, smpp_text
from adapters.gateways.base import (
    UNREACHABLE,
    Answer,
    Callback,
    CallbackError,
    ErrorClass,
    Listener,
    Outgoing,
    Status,
    Timeouts,
)
from adapters.gateways.smpp import Smpp, SmppSettings
from tasks.segments import GSM7_BASIC, GSM7_EXTENSION, count_segments
from tests.adapters.gateways import smsc as server
from tests.adapters.gateways.smsc import Leave, Reset, Silence, Smsc

pytestmark = pytest.mark.anyio

Says = server.Answer
LOOPBACK = IPv4Address("127.0.0.1")
THREE = "x" * 400  # as a text, three parts


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with Smsc() as running:
        yield running


def adapter(port: int, *, timeout: float = 5, **settings: object) -> Smpp:
    values = {"host": "127.0.0.1", "port": port, "system_id": "me", "password": "pass"}
    made = make_gateway(
        "main",
        SmppSettings.model_validate(values | {"sender": "+15005550006"} | settings),
        receiver_url="http://127.0.0.1:8780",
        timeouts=Timeouts(timeout, timeout),
    )
    assert isinstance(made, Smpp)
    return made


def message(text: str = "Hello", **fields: object) -> Outgoing:
    encoding, segments = count_segments(text)
    values = {
        "id": "m1",
        "to": "+12125550101",
        "text": text,
        "sender": "+15005550006",
        "encoding": encoding,
        "segments": segments,
    }
    return Outgoing(**(values | fields))  # type: ignore[arg-type]


async def submit(smsc: Smsc, sent: Outgoing | None = None, **more: object) -> Answer:
    async with adapter(smsc.port, **more) as made:  # type: ignore[arg-type]
        [answer] = await made.submit([sent or message()])
    return answer


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
    smsc.script = [Says(0x02, nack=True)]
    assert (await submit(smsc)).outcome == "refused"


async def test_an_acceptance_without_an_id_is_one(smsc: Smsc) -> None:
    smsc.script = [Says(message_id="")]
    answer = await submit(smsc)
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", None)


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


async def test_nobody_listening_is_a_refusal_for_now(free_port: Callable[[], int]) -> None:
    async with adapter(free_port()) as made:
        answers = await made.submit([message(id=f"m{i}") for i in range(5)])
    assert {(a.outcome, a.error_class, a.error_code) for a in answers} == {
        ("refused", ErrorClass.RETRY, UNREACHABLE)
    }


@pytest.mark.parametrize(
    ("status", "error_class", "code"),
    [
        (0x0E, ErrorClass.ACCOUNT, "ESME_RINVPASWD"),
        (0x0F, ErrorClass.ACCOUNT, "ESME_RINVSYSID"),
        (0x05, ErrorClass.RETRY, UNREACHABLE),
        (0x0D, ErrorClass.RETRY, UNREACHABLE),
    ],
)
async def test_a_refused_bind_is_the_account_or_waited_for(
    smsc: Smsc, status: int, error_class: ErrorClass, code: str
) -> None:
    smsc.bind_status = status
    answer = await submit(smsc)
    assert (answer.outcome, answer.error_class, answer.error_code) == ("refused", error_class, code)
    assert "pass" not in answer.error_text.replace("RINVPASWD", "")
    assert smsc.submits == []


async def test_a_server_that_answers_no_bind_got_nothing(free_port: Callable[[], int]) -> None:
    port = free_port()
    mute = await asyncio.start_server(lambda _, __: asyncio.sleep(9), "127.0.0.1", port)
    async with adapter(port, timeout=0.3) as made:
        [answer] = await made.submit([message()])
    mute.close()
    assert (answer.outcome, answer.error_code) == ("refused", UNREACHABLE)


# Parts


@pytest.mark.parametrize(
    ("script", "outcome", "parts", "sent"),
    [
        ([Says(0x0B)], "refused", [], 1),
        ([Reset()], "unknown", [], 1),
        ([Says(), Says(0x0B)], "accepted", [("accepted", "1"), ("failed", "2")], 2),
        ([Says(), Says(), Reset()], "accepted", [("accepted", "1"), ("accepted", "2")], 3),
        ([Says(), Reset()], "accepted", [("accepted", "1"), ("failed", "3")], 2),
    ],
    ids=["first_refused", "first_lost", "second_refused", "last_lost", "second_lost"],
)
async def test_what_becomes_of_three_parts(
    smsc: Smsc,
    script: list[server.Reaction],
    outcome: str,
    parts: list[tuple[str, str]],
    sent: int,
) -> None:
    smsc.script = [*script, Says(0x0B)]
    answer = await submit(smsc, message(THREE))
    assert answer.outcome == outcome
    assert [(str(part.status), part.part) for part in answer.parts] == parts
    assert len(smsc.submits) == sent


async def test_a_throttled_part_is_sent_again_once_others_were_taken(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(smpp.WAITS, 0x58, 0.01)
    smsc.script = [Says(), Says(0x58), Says(0x58), Says()]
    answer = await submit(smsc, message(THREE))
    assert [str(part.status) for part in answer.parts] == ["accepted"] * 3
    assert [sent.short_message[5] for sent in smsc.submits] == [1, 2, 2, 2, 3]


async def test_a_part_that_stays_throttled_fails_without_a_class(smsc: Smsc) -> None:
    smsc.script = [Says(), Says(0x58)]
    answer = await submit(smsc, message(THREE), timeout=0.5)
    failed = answer.parts[-1]
    assert (answer.outcome, failed.status, failed.error_class) == ("accepted", Status.FAILED, None)


# The bind


async def test_a_window_is_kept_and_one_bind_serves_all(smsc: Smsc) -> None:
    smsc.script = [Says(delay=0.02)]
    async with adapter(smsc.port, window=4) as made:
        answers = await made.submit([message(id=f"m{i}") for i in range(30)])
    assert {answer.outcome for answer in answers} == {"accepted"}
    assert len({answer.gateway_message_id for answer in answers}) == 30
    assert (smsc.most_at_once, len(smsc.binds), smsc.unbinds) == (4, 1, 1)


async def test_senders_in_loops_of_their_own_share_a_bind_until_the_last_leaves(
    smsc: Smsc,
) -> None:
    def send_alone(number: int) -> Answer:
        async def send() -> Answer:
            async with adapter(smsc.port) as made:
                [answer] = await made.submit([message(id=f"m{number}")])
                return answer

        return asyncio.run(send())

    async with adapter(smsc.port) as made:
        await made.submit([message()])
        answers = await asyncio.gather(*(asyncio.to_thread(send_alone, n) for n in range(5)))
        assert {answer.outcome for answer in answers} == {"accepted"}
        assert (len(smsc.binds), smsc.unbinds) == (1, 0)
    assert smsc.unbinds == 1


async def test_another_login_has_a_bind_of_its_own(smsc: Smsc) -> None:
    async with adapter(smsc.port) as mine, adapter(smsc.port, password="other") as theirs:
        await mine.submit([message(id="m1")])
        await theirs.submit([message(id="m2")])
    assert [login[1] for _, login in smsc.binds] == [b"pass", b"other"]


async def test_a_submit_after_the_bind_was_dropped_binds_again(smsc: Smsc) -> None:
    async with adapter(smsc.port) as made:
        await made.submit([message(id="m1")])
        smsc.drop()
        await asyncio.sleep(0.05)
        [answer] = await made.submit([message(id="m2")])
    assert (answer.outcome, len(smsc.binds), len(smsc.submits)) == ("accepted", 2, 2)


async def test_a_full_window_refuses_for_now(smsc: Smsc) -> None:
    smsc.script = [Silence()]
    async with adapter(smsc.port, window=1, timeout=0.2) as made:
        first, second = await made.submit([message(id="m1"), message(id="m2")])
    assert (first.outcome, second.outcome, second.error_code) == ("unknown", "refused", UNREACHABLE)
    assert len(smsc.submits) == 1


@pytest.mark.parametrize("answers", [True, False])
async def test_an_smsc_that_answers_no_enquiry_is_given_up(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    monkeypatch.setattr(smpp_session, "ENQUIRE_EVERY", 0.05)
    smsc.answers_enquiries = answers
    async with adapter(smsc.port, timeout=0.2) as made:
        await made.submit([message(id="m1")])
        await asyncio.sleep(0.5)
        await made.submit([message(id="m2")])
    assert smsc.enquiries >= (3 if answers else 1)
    assert len(smsc.binds) == (1 if answers else 2)


async def test_rubbish_from_the_smsc_ends_the_bind(smsc: Smsc) -> None:
    async with adapter(smsc.port) as made:
        await made.submit([message(id="m1")])
        smsc.bound[-1].write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await asyncio.sleep(0.05)
        [answer] = await made.submit([message(id="m2")])
    assert (answer.outcome, len(smsc.binds)) == ("accepted", 2)


async def test_unknown_requests_are_nacked_and_enquiries_answered(smsc: Smsc) -> None:
    async with adapter(smsc.port) as made:
        await made.submit([message(id="m1")])
        server.write(smsc.bound[-1], 0x0103, 0, 7, b"data_sm")
        server.write(smsc.bound[-1], server.ENQUIRE_LINK, 0, 8)
        [answer] = await made.submit([message(id="m2")])
    assert (answer.outcome, len(smsc.binds)) == ("accepted", 1)


# TLS


@pytest.mark.parametrize("trusted", [True, False])
async def test_tls_needs_a_certificate_that_is_trusted(
    smsc: Smsc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    certificate, key = own_certificate(tmp_path)
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    smsc.stop()
    await smsc.start(0, context)
    answer = await submit(smsc, use_tls=True)
    assert (answer.outcome, answer.error_code) == (
        ("accepted", None) if trusted else ("refused", UNREACHABLE)
    )


def own_certificate(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smsc")])
    public, at = key.public_key(), datetime.now(UTC)
    usage = dict.fromkeys(
        [
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    made = (
        x509.CertificateBuilder(name, name, public, x509.random_serial_number())
        .not_valid_before(at - timedelta(days=1))
        .not_valid_after(at + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(LOOPBACK)]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.KeyUsage(digital_signature=True, key_cert_sign=True, **usage), critical=True
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


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
