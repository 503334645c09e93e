"""Reading deliver_sm: delivery receipts and inbound messages (SMPP 3.4, 4.6, 5.3.2 and Appendix B).

Not here: when one is acknowledged (`smpp`, `smpp_session`).
"""

import re
import uuid
from typing import Literal

import smpp34

from adapters.gateways import smpp_text
from adapters.gateways.base import CallbackError, Inbound, Report, Status

STATES = {
    1: Status.SENT,
    2: Status.DELIVERED,
    3: Status.EXPIRED,
    4: Status.FAILED,
    5: Status.UNDELIVERED,
    6: Status.SENT,
    7: Status.UNKNOWN,
    8: Status.REJECTED,
}
"""`message_state` (5.2.28): ENROUTE, DELIVERED, EXPIRED, DELETED, UNDELIVERABLE, ACCEPTED, …"""
STATS = {
    "ENROUTE": Status.SENT,
    "DELIVRD": Status.DELIVERED,
    "EXPIRED": Status.EXPIRED,
    "DELETED": Status.FAILED,
    "UNDELIV": Status.UNDELIVERED,
    "ACCEPTD": Status.SENT,
    "UNKNOWN": Status.UNKNOWN,
    "REJECTD": Status.REJECTED,
}
"""`stat` in the text of a receipt (Appendix B)."""

_RECEIPT, _INTERMEDIATE, _HAS_HEADER = 0x04, 0x20, 0x40  # in esm_class, 5.2.12
# Tags of optional parameters, 5.3.2.
_MESSAGE_ID, _NETWORK_ERROR, _PAYLOAD, _STATE = 0x001E, 0x0423, 0x0424, 0x0427
# What follows "text:" is the message's own, and may look like a receipt.
_TEXT = re.compile(r"(?<!\S)text:", re.IGNORECASE)
# A field without a value is followed by the next field's name.
_NAMES = r"(?:id|sub|dlvrd|submit date|done date|stat|err):"
_FIELD = re.compile(rf"(?<!\S)(id|stat|err):(?:\s*(?!{_NAMES})(\S+))?", re.IGNORECASE)
# message_id has at most 65 octets with the NUL (5.2.23).
_HEXADECIMAL, _DECIMAL = re.compile(r"[0-9A-Fa-f]{1,64}"), re.compile(r"[0-9]+")
_INTERNATIONAL = re.compile(r"[1-9]\d{7,14}")

ReceiptIds = Literal["same", "decimal"]


def message_id(answered: str, ids: ReceiptIds) -> str:
    """Return an id from a submit_sm_resp as receipts will name it.

    Some SMSCs answer in hexadecimal and report in decimal.
    """
    converts = ids == "decimal" and _HEXADECIMAL.fullmatch(answered)
    return str(int(answered, 16)) if converts else answered


def read(pdu: bytes, ids: ReceiptIds) -> tuple[list[Report], list[Inbound]]:
    """Read a deliver_sm. Raises `CallbackError` where it is none, or a receipt of no message."""
    try:
        found = smpp34.decode(pdu)
    except (smpp34.SmppError, ValueError):
        raise CallbackError("a deliver_sm that cannot be read") from None
    if not isinstance(found, smpp34.DeliverSm):
        raise CallbackError("no deliver_sm")
    extras = {tlv.tag: tlv.value for tlv in found.tlvs}
    octets = found.short_message or extras.get(_PAYLOAD, b"")
    if found.esm_class & (_RECEIPT | _INTERMEDIATE) or _is_receipt(extras):
        return [_report(found, extras, octets.decode("latin-1"), ids)], []
    text = smpp_text.read(octets, found.data_coding, has_header=bool(found.esm_class & _HAS_HEADER))
    # An inbound message has no id in SMPP. One that comes again is stored again: twice is harmless.
    name = _string(extras, _MESSAGE_ID) or uuid.uuid4().hex
    sender = _number(found.source_addr, found.source_addr_ton)
    recipient = _number(found.destination_addr, found.dest_addr_ton)
    return [], [Inbound(name, sender, recipient, text)]


def _report(
    found: smpp34.DeliverSm, extras: dict[int, bytes], text: str, ids: ReceiptIds
) -> Report:
    told: dict[str, str] = {}
    for field, value in _FIELD.findall(_TEXT.split(text, maxsplit=1)[0]):
        told.setdefault(field.lower(), value)
    name = _name(told.get("id", ""), _string(extras, _MESSAGE_ID), ids)
    if not name:
        raise CallbackError("a receipt that names no message")
    state = int.from_bytes(extras.get(_STATE, b""), "big")
    status = STATES.get(state) or STATS.get(told.get("stat", "").upper(), Status.UNKNOWN)
    if found.esm_class & _INTERMEDIATE:
        # Of an attempt, which may be followed by others: whatever it says is not the end.
        status = Status.SENT
    fine = status in {Status.DELIVERED, Status.SENT}
    return Report(
        status=status,
        gateway_message_id=name,
        part=name,
        recipient=_number(found.source_addr, found.source_addr_ton),
        error_code=None if fine else _error(told.get("err", ""), extras),
        # "done date" is in the SMSC's own time, of which nothing is said.
    )


def _name(in_text: str, in_tlv: str, ids: ReceiptIds) -> str:
    """Return the id of a receipt: by the optional parameter, which is the submit_sm_resp's own."""
    if ids == "same" or not in_text:
        return message_id(in_tlv or in_text, ids)
    # Without the zeros in front.
    return (in_text.lstrip("0") or "0") if _DECIMAL.fullmatch(in_text) else in_text


def _error(told: str, extras: dict[int, bytes]) -> str | None:
    if told.strip("0"):
        return told
    network = extras.get(_NETWORK_ERROR, b"")
    code = int.from_bytes(network[1:3], "big")
    # The type says whose code it is: 3 is GSM (5.3.2.31).
    return f"{network[0]}-{code}" if code else None


def _is_receipt(extras: dict[int, bytes]) -> bool:
    return {_MESSAGE_ID, _STATE} <= extras.keys()


def _string(extras: dict[int, bytes], tag: int) -> str:
    return extras.get(tag, b"").split(b"\0")[0].decode("latin-1")


def _number(address: str, ton: int) -> str:
    """Write an international number as E.164; SMSCs often call its type unknown."""
    return f"+{address}" if ton in {0, 1} and _INTERNATIONAL.fullmatch(address) else address
