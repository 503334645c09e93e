"""What a request to Infobip may ask for, and Infobip's words where it asks for something else.

Stricter than Infobip on purpose: what the sandbox does not know or do (schedules, binary content,
delivery time windows) is refused instead of passed over.

Sources: infobip.com/docs/api/channels/sms (send SMS messages) and …/docs/developer-resources/
api-fundamentals/handling-errors.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Reply

_NUMBER = re.compile(r"\+?[1-9]\d{6,14}")
_SENDER = re.compile(r"\+?[1-9]\d{6,14}|\d{3,6}|(?=.*[A-Za-z])[A-Za-z0-9 +\-_&]{1,11}")
_KNOWN = {
    "": {"messages", "options"},
    "options": {"includeSmsCountInResponse"},
    "message": {"sender", "destinations", "content", "options", "webhooks"},
    "message.options": {"validityPeriod", "campaignReferenceId"},
    "destination": {"to", "messageId"},
    "content": {"text"},
    "webhooks": {"delivery", "contentType", "callbackData"},
    "delivery": {"url", "intermediateReport", "notify"},
    "validityPeriod": {"amount", "timeUnit"},
}
_WORDS = {
    400: ("Request cannot be processed.", "Check the syntax, violations and adjust the request."),
    401: (
        "The request lacks valid authentication credentials for the requested resource.",
        "Check the resources and adjust authentication credentials.",
    ),
    403: (
        "Insufficient permissions to access the requested resource.",
        "Repeat the request with new or different credentials.",
    ),
    404: ("Requested resource not found.", "Check the address of the request."),
    429: ("Too many requests sent.", "Check request rate limit of the API endpoint."),
}
_OTHER_WORDS = ("Something went wrong.", "Contact the support.")


def error(status: int, violations: list[dict[str, str]] | None = None) -> Reply:
    """Return an error as Infobip words it."""
    description, action = _WORDS.get(status, _OTHER_WORDS)
    content = {
        "errorCode": f"E{status}",
        "description": description,
        "action": action,
        "violations": violations or [],
        "resources": [],
    }
    return Reply(status, content)


def bad_request(name: str, violation: str) -> Reply:
    """Return the error for a request with something wrong in it."""
    return error(400, [{"property": name, "violation": violation}])


def first_problem(asked: Mapping[str, Any]) -> Reply | None:
    """Return what Infobip answers to a request that it does not take at all, or None."""
    for name, violation in _problems(asked):
        return bad_request(name, violation)
    return None


def _problems(asked: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield from _unknown("", asked, "")
    yield from _unknown("options", asked.get("options", {}), "options")
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        yield "messages", "must not be empty"
        return
    for place, message in enumerate(messages):
        at = f"messages[{place}]"
        problems = [*_unknown("message", message, at)]
        yield from problems or _message(message, at)


def _message(message: Mapping[str, Any], at: str) -> Iterator[tuple[str, str]]:
    sender = message.get("sender")
    if sender is not None and not (isinstance(sender, str) and _SENDER.fullmatch(sender)):
        yield f"{at}.sender", "is not valid"
    content = message.get("content")
    yield from _unknown("content", content, f"{at}.content")
    if isinstance(content, dict) and not (isinstance(text := content.get("text"), str) and text):
        yield f"{at}.content.text", "must not be empty"
    destinations = message.get("destinations")
    if not isinstance(destinations, list) or not destinations:
        yield f"{at}.destinations", "must not be empty"
        return
    for place, destination in enumerate(destinations):
        yield from _destination(destination, f"{at}.destinations[{place}]")
    yield from _options(message.get("options", {}), f"{at}.options")
    yield from _webhooks(message.get("webhooks", {}), f"{at}.webhooks")


def _destination(destination: object, at: str) -> Iterator[tuple[str, str]]:
    yield from _unknown("destination", destination, at)
    if isinstance(destination, dict):
        if not _NUMBER.fullmatch(str(destination.get("to", ""))):
            yield f"{at}.to", "is not valid"
        message_id = destination.get("messageId", "")
        if not isinstance(message_id, str) or len(message_id) > 200:
            yield f"{at}.messageId", "size must be between 0 and 200"


def _options(options: object, at: str) -> Iterator[tuple[str, str]]:
    yield from _unknown("message.options", options, at)
    validity = options.get("validityPeriod") if isinstance(options, dict) else None
    if validity is None:
        return
    yield from _unknown("validityPeriod", validity, f"{at}.validityPeriod")
    if isinstance(validity, dict):
        amount, unit = validity.get("amount"), validity.get("timeUnit", "MINUTES")
        if not isinstance(amount, int) or amount < 1:
            yield f"{at}.validityPeriod.amount", "must be a positive number"
        if unit not in {"SECONDS", "MINUTES", "HOURS"}:
            yield f"{at}.validityPeriod.timeUnit", "is not valid"


def _webhooks(webhooks: object, at: str) -> Iterator[tuple[str, str]]:
    yield from _unknown("webhooks", webhooks, at)
    if not isinstance(webhooks, dict):
        return
    delivery = webhooks.get("delivery", {})
    yield from _unknown("delivery", delivery, f"{at}.delivery")
    if isinstance(delivery, dict) and not is_url(str(delivery.get("url", "http://none"))):
        yield f"{at}.delivery.url", "must be a valid URL"
    if webhooks.get("contentType", "application/json") != "application/json":
        yield f"{at}.contentType", "must be application/json in the sandbox"
    if len(str(webhooks.get("callbackData", ""))) > 4000:
        yield f"{at}.callbackData", "size must be between 0 and 4000"


def _unknown(what: str, fields: object, at: str) -> Iterator[tuple[str, str]]:
    """What an object has that the sandbox does not know; or that it is none."""
    if not isinstance(fields, dict):
        yield at, "must be an object"
        return
    for name in fields:
        if name not in _KNOWN[what]:
            yield f"{at}.{name}".strip("."), "is not known to the sandbox"
