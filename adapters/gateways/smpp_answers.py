"""What the answers to submit_sm mean, and what those to the parts of one message mean together.

Not here: how they come about (`smpp_sharing`, `smpp_session`).
"""

from collections.abc import Sequence

from adapters.gateways import smpp_delivery
from adapters.gateways.base import UNREACHABLE, Answer, ErrorClass, Report, Status
from adapters.gateways.http import NoAnswerError, NotSentError
from adapters.gateways.smpp_session import ROK, BindRefusedError
from adapters.gateways.smpp_sharing import BusyError, Result

# command_status of a submit_sm_resp: SMPP 3.4, 5.1.3. Vendors have 0x400 to 0x4FF to themselves.
STATUSES: dict[int, tuple[str, ErrorClass | None]] = {
    0x01: ("ESME_RINVMSGLEN", ErrorClass.CONTENT),
    0x04: ("ESME_RINVBNDSTS", ErrorClass.ACCOUNT),
    0x06: ("ESME_RINVPRTFLG", ErrorClass.ACCOUNT),
    0x07: ("ESME_RINVREGDLVFLG", ErrorClass.ACCOUNT),
    # "System error" and "unknown error" do not say whether the message was kept: in doubt.
    0x08: ("ESME_RSYSERR", None),
    0x0A: ("ESME_RINVSRCADR", ErrorClass.CONTENT),
    0x0B: ("ESME_RINVDSTADR", ErrorClass.RECIPIENT),
    0x0D: ("ESME_RBINDFAIL", ErrorClass.ACCOUNT),
    0x0E: ("ESME_RINVPASWD", ErrorClass.ACCOUNT),
    0x0F: ("ESME_RINVSYSID", ErrorClass.ACCOUNT),
    0x14: ("ESME_RMSGQFUL", ErrorClass.RETRY),
    0x15: ("ESME_RINVSERTYP", ErrorClass.ACCOUNT),
    0x43: ("ESME_RINVESMCLASS", ErrorClass.CONTENT),
    0x45: ("ESME_RSUBMITFAIL", ErrorClass.RECIPIENT),
    0x48: ("ESME_RINVSRCTON", ErrorClass.CONTENT),
    0x49: ("ESME_RINVSRCNPI", ErrorClass.CONTENT),
    0x50: ("ESME_RINVDSTTON", ErrorClass.RECIPIENT),
    0x51: ("ESME_RINVDSTNPI", ErrorClass.RECIPIENT),
    0x53: ("ESME_RINVSYSTYP", ErrorClass.ACCOUNT),
    0x58: ("ESME_RTHROTTLED", ErrorClass.RETRY),
    0x62: ("ESME_RINVEXPIRY", ErrorClass.RECIPIENT),
    0xFE: ("ESME_RDELIVERYFAILURE", None),
    0xFF: ("ESME_RUNKNOWNERR", None),
}
WAITS = {0x14: 10.0, 0x58: 1.0}
"""Seconds to wait after a RETRY."""

LOGIN_REFUSED = {0x0E, 0x0F, 0x53}
"""command_status of a bind that speaks of the login. Others, ESME_RBINDFAIL among them, are also
what too many binds are refused with, so they are waited for as an SMSC that cannot be reached."""

BUSY = "busy"
"""Error code of a refusal because the window stayed full: nothing was sent, but the SMSC is there,
so this does not speak for another gateway as `UNREACHABLE` does."""


def of_result(message_id: str, result: Result, ids: smpp_delivery.ReceiptIds) -> Answer:
    """Return the answer to one submit_sm."""
    if isinstance(result, NoAnswerError):
        return Answer(message_id, "unknown", error_text=str(result))
    if isinstance(result, NotSentError):
        return _not_sent(message_id, result)
    status, told = result
    if status == ROK:
        name = told.split(b"\0")[0].decode("latin-1")
        named = smpp_delivery.message_id(name, ids) or None
        return Answer(message_id, "accepted", named, segments=1)
    # RECIPIENT for what nobody knows, vendors' own among it, costs one message.
    code, error_class = STATUSES.get(status, (f"0x{status:08X}", ErrorClass.RECIPIENT))
    text = f"submit_sm was answered with {code} (0x{status:X})"
    if error_class is None:
        return Answer(message_id, "unknown", error_code=code, error_text=text)
    wait = WAITS.get(status) if error_class is ErrorClass.RETRY else None
    return refused(message_id, error_class, code, text, wait)


def _not_sent(message_id: str, error: NotSentError) -> Answer:
    if isinstance(error, BusyError):
        return refused(message_id, ErrorClass.RETRY, BUSY, str(error))
    if not isinstance(error, BindRefusedError):
        return refused(message_id, ErrorClass.RETRY, UNREACHABLE, str(error))
    code = name_of(error.status)
    if error.status in LOGIN_REFUSED:
        return refused(message_id, ErrorClass.ACCOUNT, code, str(error))
    return refused(message_id, ErrorClass.RETRY, UNREACHABLE, f"{error}: {code}")


def name_of(status: int) -> str:
    """Return the name of a command_status, or its number."""
    return STATUSES.get(status, (f"0x{status:X}", None))[0]


def refused(
    message_id: str, error_class: ErrorClass, code: str, text: str, wait: float | None = None
) -> Answer:
    """Return the answer for what was not taken."""
    return Answer(
        message_id,
        "refused",
        error_class=error_class,
        error_code=code,
        error_text=text,
        retry_after=wait,
    )


def wait_for_the_rest(answers: Sequence[Answer]) -> float | None:
    """Seconds until the throttled parts are sent again, because others were or may be taken.

    None: there are no such parts; or no part was taken, and the whole message waits.
    """
    waits = [answer.retry_after for answer in answers if answer.retry_after is not None]
    if not waits or all(answer.outcome == "refused" for answer in answers):
        return None
    return max(waits)


def together(message_id: str, answers: Sequence[Answer]) -> Answer:
    """Make one answer of those to the parts.

    With one part taken the message is, and the parts that were refused have failed. A part without
    a clear answer has no report: its receipt may still come.
    """
    taken = [answer for answer in answers if answer.outcome == "accepted"]
    if not taken:
        return _none_taken(answers)
    if len(answers) == 1:
        return taken[0]
    parts = tuple(
        _part(message_id, place, answer)
        for place, answer in enumerate(answers, 1)
        if answer.outcome != "unknown"
    )
    first = taken[0].gateway_message_id
    return Answer(message_id, "accepted", first, segments=len(answers), parts=parts)


def _none_taken(answers: Sequence[Answer]) -> Answer:
    """Return the answer that says most: one in doubt, else a refusal for good, else the first."""
    unknown = [answer for answer in answers if answer.outcome == "unknown"]
    final = [answer for answer in answers if answer.error_class is not ErrorClass.RETRY]
    return [*unknown, *final, *answers][0]


def _part(message_id: str, place: int, answer: Answer) -> Report:
    named = answer.gateway_message_id
    if answer.outcome == "accepted":
        return Report(Status.ACCEPTED, message_id, named, part=named or str(place))
    of_part = answer.error_class if answer.error_class is not ErrorClass.RETRY else None
    return Report(
        Status.FAILED,
        message_id,
        part=str(place),
        error_code=answer.error_code,
        error_class=of_part,
    )
