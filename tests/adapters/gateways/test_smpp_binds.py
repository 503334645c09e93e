"""SMPP: the bind that senders share, its window, and what it is when it cannot be made."""

import asyncio
import ssl
from collections import Counter
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

from adapters.gateways import smpp_session, smpp_sharing
from adapters.gateways.base import UNREACHABLE, Answer, ErrorClass, Timeouts
from adapters.gateways.http import NotSentError
from tests.adapters.gateways import smsc as server
from tests.adapters.gateways.smpp_account import THREE, adapter, message, submit
from tests.adapters.gateways.smsc import Reset, Silence, Smsc

pytestmark = pytest.mark.anyio

Says = server.Answer
LOOPBACK = IPv4Address("127.0.0.1")


@pytest.fixture
async def smsc() -> AsyncIterator[Smsc]:
    async with Smsc() as running:
        yield running


# The bind


async def test_a_window_is_kept_and_one_bind_serves_all(smsc: Smsc) -> None:
    smsc.script = [Says(delay=0.02)]
    async with adapter(smsc.port, window=4) as made:
        answers = await made.submit([message(id=f"m{i}") for i in range(30)])
    assert {answer.outcome for answer in answers} == {"accepted"}
    assert len({answer.gateway_message_id for answer in answers}) == 30
    assert (smsc.most_at_once, len(smsc.binds)) == (4, 1)


async def test_senders_in_loops_of_their_own_share_a_bind_until_the_last_leaves(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpp_sharing, "KEEP", 0.0)

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
    await unbound(smsc)


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


async def test_a_full_window_is_busy_and_not_away(smsc: Smsc) -> None:
    smsc.script = [Silence()]
    async with adapter(smsc.port, window=1, timeout=0.2) as made:
        first, second = await made.submit([message(id="m1"), message(id="m2")])
    assert (first.outcome, second.outcome, second.error_code) == ("unknown", "refused", "busy")
    assert second.error_class is ErrorClass.RETRY
    assert len(smsc.submits) == 1


async def test_who_gave_up_waiting_holds_no_place(smsc: Smsc) -> None:
    lost, last = Silence(), Says()
    smsc.script = [lost, lost, lost, last]
    async with adapter(smsc.port, window=4, timeout=0.4) as made:
        both = [message(THREE, id="m1"), message(THREE, id="m2")]
        assert [a.outcome for a in await made.submit(both)] == ["unknown", "refused"]
        answers = await made.submit([message("x" * 600, id="m3")])  # four
    assert [answer.outcome for answer in answers] == ["accepted"]


async def test_nothing_is_written_that_has_no_time_left_for_its_answer(smsc: Smsc) -> None:
    smsc.script = [Says(delay=0.4)]
    async with adapter(smsc.port, window=4, timeout=2) as made:
        answers = await made.submit([message(id=f"m{i}") for i in range(40)])
    assert {(a.outcome, a.error_code) for a in answers} == {("accepted", None), ("refused", "busy")}
    assert len(smsc.submits) == [a.outcome for a in answers].count("accepted")


async def test_an_smsc_that_binds_nobody_is_away_and_not_busy(free_port: Callable[[], int]) -> None:
    port = free_port()
    mute = await asyncio.start_server(lambda _, __: asyncio.sleep(9), "127.0.0.1", port)
    async with adapter(port, window=1, timeout=0.3) as made:
        answers = await made.submit([message(id=f"m{i}") for i in range(5)])
    mute.close()
    assert {(a.outcome, a.error_code) for a in answers} == {("refused", UNREACHABLE)}


async def test_those_who_wait_while_the_bind_is_lost_get_another(smsc: Smsc) -> None:
    smsc.script = [Says(), Reset(), Says()]
    async with adapter(smsc.port, window=1) as made:
        answers = await made.submit([message(id=f"m{i}") for i in range(20)])
    assert Counter(answer.outcome for answer in answers) == {"accepted": 19, "unknown": 1}
    assert len(smsc.binds) == 2


# Binds that fail


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


async def test_after_a_refused_bind_all_get_its_error_at_once(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpp_sharing, "FIRST_WAIT", 60.0)
    monkeypatch.setattr(smpp_sharing, "KEEP", 0.0)
    smsc.bind_status = 0x0E
    for _ in range(2):
        async with adapter(smsc.port, window=2) as made:
            answers = await made.submit([message(id=f"m{i}") for i in range(50)])
        assert {answer.error_code for answer in answers} == {"ESME_RINVPASWD"}
    assert len(smsc.binds) == 1


async def test_attempts_to_bind_become_rarer_until_one_succeeds(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpp_sharing, "FIRST_WAIT", 0.05)
    smsc.bind_status = 0x0D
    async with adapter(smsc.port) as made:
        for _ in range(100):
            await made.submit([message()])
            await asyncio.sleep(0.01)
        # After 0.05, 0.1, 0.2, 0.4, 0.8 s: a steady wait would have made twenty.
        assert 2 <= len(smsc.binds) <= 8
        smsc.bind_status = 0
        async with asyncio.timeout(10):
            while (await made.submit([message()]))[0].outcome != "accepted":
                await asyncio.sleep(0.01)


async def test_an_smsc_that_drops_each_bind_is_not_stormed(free_port: Callable[[], int]) -> None:
    binds = 0

    async def take_and_drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal binds
        binds += 1
        await reader.read(100)
        server.write(writer, server.BIND_TRANSMITTER | server.RESPONSE, 0, 1, b"smsc\0")
        writer.close()

    port = free_port()
    listening = await asyncio.start_server(take_and_drop, "127.0.0.1", port)
    async with adapter(port) as made:
        for _ in range(30):
            [answer] = await made.submit([message()])
            assert answer.outcome in {"refused", "unknown"}
    listening.close()
    assert binds < 20


async def test_a_host_that_nobody_can_look_up_is_no_connection() -> None:
    login = smpp_session.Login("a..b", 2775, "me", "pass")
    with pytest.raises(NotSentError, match="no connection to the SMSC"):
        await smpp_session.Session.bind(login, server.BIND_TRANSMITTER, Timeouts(1, 1))


async def test_a_session_whose_connection_closes_is_not_usable(smsc: Smsc) -> None:
    login = smpp_session.Login("127.0.0.1", smsc.port, "me", "pass")
    session = await smpp_session.Session.bind(login, server.BIND_TRANSMITTER, Timeouts(1, 1))
    # Before anybody has read that it was lost.
    session._writer.transport.abort()
    assert not session.usable
    session.end()


# Keeping it


async def test_a_bind_serves_one_batch_after_the_other(
    smsc: Smsc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smpp_sharing, "KEEP", 0.2)
    for number in range(5):
        await submit(smsc, message(id=f"m{number}"))
    assert (len(smsc.binds), smsc.unbinds) == (1, 0)
    await unbound(smsc)
    await submit(smsc)
    assert len(smsc.binds) == 2


async def test_the_end_of_the_process_unbinds(smsc: Smsc) -> None:
    await submit(smsc)
    assert smsc.unbinds == 0
    await asyncio.to_thread(smpp_sharing.unbind_all)
    assert smsc.unbinds == 1


async def unbound(smsc: Smsc) -> None:
    async with asyncio.timeout(5):
        while not smsc.unbinds:
            await asyncio.sleep(0.01)


# Its life


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
