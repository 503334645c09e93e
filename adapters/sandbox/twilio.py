"""Twilio's wire format, seen from Twilio's side: requests, resources, errors and signatures.

Sources: the Messages API reference, the error dictionary (twilio.com/docs/api/errors) and the
webhook security page of Twilio's documentation. Not here: HTTP serving, storage, faults.
"""

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from adapters.sandbox.faults import Fate
from adapters.sandbox.journal import Message

API = "/2010-04-01/Accounts"
POOL_SENDER = "+15005550006"
"""What a messaging service sends from."""
PRICE_PER_SEGMENT = 0.0079

_E164 = re.compile(r"\+[1-9]\d{6,14}")
_ALPHANUMERIC = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 +\-_&]{1,11}")
_SHORT_CODE = re.compile(r"\d{3,6}")
_SERVICE = re.compile(r"MG[0-9a-fA-F]{32}")

# Taken and without effect here.
_IGNORED = {
    "ProvideFeedback",
    "MaxPrice",
    "Attempt",
    "ForceDelivery",
    "ContentRetention",
    "AddressRetention",
    "SmartEncoded",
    "ShortenUrls",
    "RiskCheck",
    "TrafficType",
}
_TAKEN = {"To", "From", "MessagingServiceSid", "Body", "StatusCallback", "ValidityPeriod"}

_TEXTS = {
    20001: "Unknown parameters",
    20003: "Authenticate",
    20004: "Method not allowed",
    20404: "The requested resource was not found",
    20429: "Too Many Requests",
    20500: "Internal server error",
    21211: "Invalid 'To' Phone Number",
    21212: "Invalid From Number (caller ID)",
    21266: "'To' and 'From' number cannot be the same",
    21408: "Permission to send an SMS has not been enabled for the region of the 'To' number",
    21602: "Message body is required.",
    21603: "A 'From' or 'MessagingServiceSid' parameter is required.",
    21604: "A 'To' phone number is required.",
    21606: "The 'From' phone number is not a valid, SMS-capable number of your account",
    21609: "The 'StatusCallback' URL is not a valid URL.",
    21610: "Attempt to send to unsubscribed recipient",
    21611: "This 'From' number has exceeded the maximum number of queued messages",
    21612: "The 'To' phone number is not currently reachable via SMS",
    21614: "'To' number is not a valid mobile number",
    21617: "The concatenated message body exceeds the 1600 character limit",
    21624: "Validity period can only be set to integers between 1 and 36,000 seconds.",
}
_STATUSES = {20003: 401, 20004: 405, 20404: 404, 20429: 429, 20500: 500}
_REPORT_TEXTS = {
    30003: "Unreachable destination handset",
    30005: "Unknown destination handset",
    30006: "Landline or unreachable carrier",
    30008: "Unknown error",
}


def error(code: int, text: str = "", status: int | None = None) -> tuple[int, dict[str, object]]:
    """Return the HTTP status and the JSON of an error."""
    status = status or _STATUSES.get(code, 400)
    return status, {
        "code": code,
        "message": text or _TEXTS.get(code, "Service error"),
        "more_info": f"https://www.twilio.com/docs/errors/{code}",
        "status": status,
    }


def check_submission(form: Mapping[str, str]) -> tuple[int, str] | None:
    """Return code and text of what is wrong with a submission, or None.

    A parameter that Twilio would pass over in silence is refused, and so is one that asks for what
    the sandbox does not do: both would otherwise hide a mistake of the sender.
    """
    for name in form:
        if name not in _TAKEN and name not in _IGNORED:
            return 20001, f"The sandbox does not take the parameter {name!r}"
    to, sender, body = form.get("To", ""), form.get("From", ""), form.get("Body", "")
    callback = form.get("StatusCallback")
    code = _check_parties(to, sender, form.get("MessagingServiceSid", ""))
    if code is None and not body:
        code = 21602
    elif code is None and len(body) > 1600:
        code = 21617
    elif code is None and callback is not None and not is_url(callback):
        code = 21609
    elif code is None and not _is_validity(form.get("ValidityPeriod", "36000")):
        code = 21624
    return None if code is None else (code, "")


def _check_parties(to: str, sender: str, service: str) -> int | None:
    if not to:
        return 21604
    if not _E164.fullmatch(to):
        return 21211
    if not sender and not service:
        return 21603
    if service and not _SERVICE.fullmatch(service):
        return 21603
    if sender and not any(p.fullmatch(sender) for p in (_E164, _SHORT_CODE, _ALPHANUMERIC)):
        return 21212
    return 21266 if to == sender else None


def is_url(text: str) -> bool:
    """Whether Twilio would take this as the address of a callback."""
    if len(text) > 4000 or not text.isascii() or not text.isprintable() or " " in text:
        return False
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _is_validity(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= 36_000


_GSM7_BASIC = (
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?"
    "¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM7_EXTENDED = "\f^{}\\[~]|€"
_NOT_GSM7 = re.compile(f"[^{re.escape(_GSM7_BASIC + _GSM7_EXTENDED)}]")
_EXTENDED = re.compile(f"[{re.escape(_GSM7_EXTENDED)}]")


def count_segments(body: str) -> int:
    """Count SMS segments: 160/153 GSM-7 septets or 70/67 UTF-16 units, no character split."""
    if _NOT_GSM7.search(body):
        # Characters outside the BMP are two units, a surrogate pair.
        return _pack([2 if char > "\uffff" else 1 for char in body], 70, 67)
    if not _EXTENDED.search(body):
        return 1 if len(body) <= 160 else -(-len(body) // 153)
    return _pack([2 if char in _GSM7_EXTENDED else 1 for char in body], 160, 153)


def _pack(widths: list[int], alone: int, part: int) -> int:
    if sum(widths) <= alone:
        return 1
    segments, room = 1, part
    for width in widths:
        if width > room:
            segments, room = segments + 1, part
        room -= width
    return segments


def status_at(message: Message, fate: Fate, now: float) -> str:
    """Return the status that a look-up shows."""
    # Strictly after, so that the answer to the submission itself always says queued.
    if now > message.time + (0 if message.hastened else fate.final_after):
        return fate.status
    if now > message.time + fate.sent_after:
        return "sent"
    return "accepted" if message.service else "queued"


def sent_at(message: Message, fate: Fate) -> float:
    """Return when the message was or will be sent."""
    return message.time if message.hastened else message.time + fate.sent_after


def resource(message: Message, fate: Fate, account_sid: str, now: float) -> dict[str, Any]:
    """Return the Message resource as it is at `now`."""
    status = status_at(message, fate, now)
    waiting = status in ("queued", "accepted")
    final = status == fate.status and not waiting
    segments = count_segments(message.body)
    error_code = fate.error_code if final else None
    uri = f"{API}/{account_sid}/Messages/{message.sid}"
    updated = now if waiting else sent_at(message, fate)
    if final and not message.hastened:
        updated = message.time + fate.final_after
    return {
        "account_sid": account_sid,
        "api_version": "2010-04-01",
        "body": message.body,
        "date_created": rfc2822(int(message.time)),
        "date_sent": None if waiting else rfc2822(int(sent_at(message, fate))),
        "date_updated": rfc2822(int(min(updated, now))),
        "direction": "outbound-api",
        "error_code": error_code,
        "error_message": _REPORT_TEXTS.get(error_code) if error_code else None,
        "from": message.sender or (None if waiting else POOL_SENDER),
        "messaging_service_sid": message.service or None,
        "num_media": "0",
        "num_segments": "0" if status == "accepted" else str(segments),
        "price": (
            f"{-PRICE_PER_SEGMENT * segments:.5f}"
            if status in ("delivered", "undelivered")
            else None
        ),
        "price_unit": "USD",
        "sid": message.sid,
        "status": status,
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": message.to,
        "uri": f"{uri}.json",
    }


@lru_cache(8192)
def rfc2822(seconds: int) -> str:
    """Return a time as Twilio writes it: `Tue, 24 Nov 2026 08:00:00 +0000`."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


def signature(auth_token: str, url: str, form: Mapping[str, str]) -> str:
    """Return X-Twilio-Signature: HMAC-SHA1 over the address and the sorted parameters."""
    signed = url + "".join(name + form[name] for name in sorted(form))
    return base64.b64encode(hmac.digest(auth_token.encode(), signed.encode(), "sha1")).decode()


def report_form(
    message: Message, status: str, error_code: int | None, account_sid: str, now: float
) -> dict[str, str]:
    """Return the parameters of a status callback."""
    form = {
        "ApiVersion": "2010-04-01",
        "AccountSid": account_sid,
        "From": message.sender or POOL_SENDER,
        "To": message.to,
        "MessageSid": message.sid,
        "MessageStatus": status,
        "SmsSid": message.sid,
        "SmsStatus": status,
    }
    if message.service:
        form["MessagingServiceSid"] = message.service
    if error_code is not None:
        form["ErrorCode"] = str(error_code)
    if status in ("delivered", "undelivered", "failed"):
        form["RawDlrDoneDate"] = datetime.fromtimestamp(now, UTC).strftime("%y%m%d%H%M")
    return form


def inbound_form(sid: str, sender: str, to: str, body: str, account_sid: str) -> dict[str, str]:
    """Return the parameters of the webhook for an inbound message (MO)."""
    return {
        "ApiVersion": "2010-04-01",
        "AccountSid": account_sid,
        "Body": body,
        "From": sender,
        "To": to,
        "MessageSid": sid,
        "SmsMessageSid": sid,
        "SmsSid": sid,
        "SmsStatus": "received",
        "NumMedia": "0",
        "NumSegments": str(count_segments(body)),
    }
