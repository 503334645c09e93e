"""The JSON that Twilio answers with: errors and the Message resource.

Sources: the Messages API reference and the error dictionary (twilio.com/docs/api/errors). Not
here: requests, callbacks and signatures (twilio.py), lists (twilio_lookups.py).
"""

from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache
from typing import Any

from adapters.sandbox.dialect import Reply
from adapters.sandbox.faults import Fate, Why
from adapters.sandbox.journal import Message
from adapters.sandbox.segments import count_segments

API = "/2010-04-01/Accounts"
POOL_SENDER = "+15005550006"
"""What a messaging service sends from."""
PRICE_PER_SEGMENT = 0.0079

REPORT_CODES = {
    Why.UNREACHABLE: 30003,
    Why.UNKNOWN_NUMBER: 30005,
    Why.LANDLINE: 30006,
    Why.OTHER: 30008,
    Why.OPTED_OUT: 21610,
}
"""Codes of what ends a message, in reports and look-ups."""

_TEXTS = {
    20001: "Unknown parameters",
    20003: "Authenticate",
    20004: "Method not allowed",
    20005: "Account not active",
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
_STATUSES = {20003: 401, 20004: 405, 20005: 403, 20404: 404, 20429: 429, 20500: 500}
_REPORT_TEXTS = {
    30003: "Unreachable destination handset",
    30005: "Unknown destination handset",
    30006: "Landline or unreachable carrier",
    30008: "Unknown error",
}


def error(code: int, text: str = "", status: int | None = None) -> Reply:
    """Return an error, with the HTTP status that belongs to its code."""
    status = status or _STATUSES.get(code, 400)
    return Reply(
        status,
        {
            "code": code,
            "message": text or _TEXTS.get(code, "Service error"),
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        },
    )


def status_at(message: Message, fate: Fate, now: float) -> str:
    """Return the status that a look-up shows."""
    status = fate.status_at(message, now)
    return "accepted" if status == "queued" and message.extra else status


def resource(message: Message, fate: Fate, account_sid: str, now: float) -> dict[str, Any]:
    """Return the Message resource as it is at `now`."""
    status = status_at(message, fate, now)
    waiting = status in ("queued", "accepted")
    final = status == fate.status and not waiting
    segments = count_segments(message.body)
    error_code = REPORT_CODES[fate.why] if final and fate.why else None
    uri = f"{API}/{account_sid}/Messages/{message.sid}"
    updated = now if waiting else fate.sent_at(message)
    if final:
        updated = fate.final_at(message)
    return {
        "account_sid": account_sid,
        "api_version": "2010-04-01",
        "body": message.body,
        "date_created": rfc2822(int(message.time)),
        "date_sent": None if waiting else rfc2822(int(fate.sent_at(message))),
        "date_updated": rfc2822(int(min(updated, now))),
        "direction": "outbound-api",
        "error_code": error_code,
        "error_message": _REPORT_TEXTS.get(error_code) if error_code else None,
        "from": message.sender or (None if waiting else POOL_SENDER),
        "messaging_service_sid": message.extra.get("service"),
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
