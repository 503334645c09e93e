"""What a batch for Sinch may ask for, and what Sinch says where it asks for something else.

Stricter than Sinch on purpose: what the sandbox does not know or do (groups, `send_at`, reports of
whole batches, parameters that a recipient lacks) is refused instead of passed over, and a value of
a parameter has 160 characters at most, as earlier editions of the reference had it.

Sources: developers.sinch.com/docs/sms/api-reference (Batches, status codes).
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from adapters.sandbox.callbacks import is_url
from adapters.sandbox.dialect import Reply
from adapters.sandbox.faults import Why

_MSISDN = re.compile(r"\+?[1-9]\d{6,14}")
_SENDER = re.compile(r"\+?[1-9]\d{6,14}|\d{3,6}|(?=.*[A-Za-z])[A-Za-z0-9 +\-_&]{1,11}")
_PLACEHOLDER = re.compile(r"\$\{([A-Za-z0-9._-]{1,16})\}")
_TAKEN = {
    "to",
    "from",
    "type",
    "body",
    "parameters",
    "delivery_report",
    "expire_at",
    "callback_url",
    "client_reference",
}
# Taken and without effect here.
_IGNORED = {"feedback_enabled", "flash_message", "truncate_concat", "max_number_of_message_parts"}
_MODES = ("none", "per_recipient", "per_recipient_final")
_LONGEST_BODY = 2000
_LONGEST_VALUE = 160
_LONGEST_REFERENCE = 2048


def error(code: str, text: str, status: int = 400) -> Reply:
    """Return an error as Sinch words it."""
    return Reply(status, {"code": code, "text": text})


def constraint(text: str) -> Reply:
    """Return the error for what the reference does not allow."""
    return error("syntax_constraint_violation", text)


def malformed(name: str, value: object) -> Reply:
    """Return the error for a value that is none of its kind."""
    text = f"The format of parameter '{name}' is invalid; value '{value}' is not valid"
    return error("syntax_invalid_parameter_format", text)


def refusal(why: Why, place: int, to: str) -> Reply:
    """Return the error for a recipient; Sinch has one code for whatever is wrong with a number."""
    if why is Why.CONTENT:
        text = "The campaign ID does not match the specified originator"
        return error("unknown_campaign", text, 403)
    return malformed(f"to[{place}]", to)


def first_problem(asked: Mapping[str, Any]) -> Reply | None:
    """Return what Sinch answers to a batch that it does not take, or None."""
    for checks in (_fields, _addresses, _reports, _expiry, _texts):
        for problem in checks(asked):
            return problem
    return None


def _fields(asked: Mapping[str, Any]) -> Iterator[Reply]:
    for name in asked:
        if name not in _TAKEN and name not in _IGNORED:
            yield constraint(f"The sandbox does not take the parameter '{name}'")
    if asked.get("type", "mt_text") != "mt_text":
        yield constraint("'type' must be mt_text")


def _addresses(asked: Mapping[str, Any]) -> Iterator[Reply]:
    to, sender = asked.get("to"), asked.get("from")
    if not isinstance(to, list) or not 1 <= len(to) <= 1000:
        yield constraint("'to' must have 1 to 1000 elements")
        return
    for place, number in enumerate(to):
        if not isinstance(number, str) or not _MSISDN.fullmatch(number):
            yield malformed(f"to[{place}]", number)
    if len({digits(str(number)) for number in to}) < len(to):
        yield constraint("'to' has a number twice")
    if sender is not None and not (isinstance(sender, str) and _SENDER.fullmatch(sender)):
        yield malformed("from", sender)


def _reports(asked: Mapping[str, Any]) -> Iterator[Reply]:
    mode, url = asked.get("delivery_report", "none"), asked.get("callback_url")
    if mode not in _MODES:
        yield constraint(f"'delivery_report' must be one of {', '.join(_MODES)}")
    if url is None and mode != "none":
        text = "Requesting delivery report without any callback URL."
        yield error("missing_callback_url", text, 403)
    if url is not None and not (is_url(str(url)) and len(str(url)) <= _LONGEST_REFERENCE):
        yield malformed("callback_url", url)
    reference = asked.get("client_reference", "")
    if not isinstance(reference, str) or len(reference) > _LONGEST_REFERENCE:
        yield constraint(f"'client_reference' must have {_LONGEST_REFERENCE} characters at most")


def _expiry(asked: Mapping[str, Any]) -> Iterator[Reply]:
    if (value := asked.get("expire_at")) is None:
        return
    try:
        left = datetime.fromisoformat(str(value)) - datetime.now(UTC)
    except (ValueError, TypeError):
        yield malformed("expire_at", value)
        return
    if not timedelta(0) < left <= timedelta(days=3):
        yield constraint("'expire_at' must be after send_at, by 3 days at most")


def _texts(asked: Mapping[str, Any]) -> Iterator[Reply]:
    body, parameters = asked.get("body"), asked.get("parameters", {})
    if not isinstance(body, str) or not 0 < len(body) <= _LONGEST_BODY:
        yield constraint(f"'body' must have 1 to {_LONGEST_BODY} characters")
        return
    if not isinstance(parameters, dict):
        yield constraint("'parameters' must be an object")
        return
    for name, values in parameters.items():
        if not _PLACEHOLDER.fullmatch("${" + name + "}") or not isinstance(values, dict):
            yield constraint(f"The parameter '{name}' cannot be read")
            return
        for value in values.values():
            if not isinstance(value, str) or _units(value) > _LONGEST_VALUE:
                yield constraint(f"A value of '{name}' has more than {_LONGEST_VALUE} characters")
    for name in _PLACEHOLDER.findall(body):
        if any(_value(parameters.get(name, {}), to) is None for to in asked["to"]):
            yield constraint(f"The parameter '{name}' has no value for some recipient")


def text_to(asked: Mapping[str, Any], to: str) -> str:
    """Return the text that a recipient gets. What is put in is not looked at again."""
    parameters = asked.get("parameters", {})
    return _PLACEHOLDER.sub(lambda found: _value(parameters[found[1]], to) or "", asked["body"])


def _value(values: Mapping[str, str], to: str) -> str | None:
    bare = digits(to)
    return next((values[key] for key in (bare, f"+{bare}", "default") if key in values), None)


def _units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def digits(number: str) -> str:
    """Return a number as Sinch writes it, without +."""
    return number.removeprefix("+")
