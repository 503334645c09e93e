"""What a gateway's answer means for its message. Does not import Prefect.

Not here: sending (`sending`), and the statements that store it (`data.ledger`, `data.deliveries`).
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from adapters.gateways import values
from adapters.gateways.base import Answer, ErrorClass
from data import ledger
from data.ledger import Claimed, Settled

NOT_STARTED = "not_started"


def not_started(message_id: str) -> Answer:
    """The answer for a message of which no request was made."""
    return Answer(
        message_id,
        "refused",
        error_class=ErrorClass.RETRY,
        error_code=NOT_STARTED,
        retry_after=0,
    )


def settle(answer: Answer, message: Claimed, at: datetime) -> Settled:
    """Say what an answer means for its message. `at` is the present."""
    state, reason = _meaning(answer)
    if message.resend_until is not None and state not in (ledger.ACCEPTED, ledger.QUEUED):
        # Refused the second time: that says nothing of the first.
        state, reason = ledger.IN_DOUBT, "no_clear_answer"
    if answer.retry_after is None:
        delay = min(30.0, 0.5 * 2 ** min(message.attempt, 6))
    else:
        # Whatever an adapter read: a date beyond the calendar would lose the window's answers.
        delay = values.wait(answer.retry_after)
    return Settled(
        id=message.id,
        attempt=message.attempt,
        state=state,
        reason=reason,
        gateway_message_id=answer.gateway_message_id,
        error_code=answer.error_code,
        retry_at=at + timedelta(seconds=delay) if state == ledger.QUEUED else None,
        segments=answer.segments,
        price=None if answer.price is None else format(answer.price, "f"),
        currency=answer.currency,
    )


def _meaning(answer: Answer) -> tuple[str, str]:
    """The state and reason that an answer puts its message in."""
    if answer.outcome == "accepted":
        return ledger.ACCEPTED, ""
    if answer.outcome == "unknown":
        return ledger.IN_DOUBT, "no_clear_answer"
    code = f"gateway_{answer.error_code}" if answer.error_code else "gateway_refused"
    match answer.error_class:
        case ErrorClass.RETRY | ErrorClass.ACCOUNT:
            return ledger.QUEUED, code
        case ErrorClass.OPTOUT:
            return "suppressed", "gateway_opted_out"
        case _:
            return "rejected", code


def part_events(answers: Iterable[Answer], gateway: str, at: datetime) -> list[dict[str, Any]]:
    """What answers said of the parts of long messages, as events that `data.deliveries` keeps."""
    return [
        {
            "gateway": gateway,
            "source": "answer",
            "reference": answer.id,
            "gateway_message_id": part.gateway_message_id,
            "part": part.part,
            "status": str(part.status),
            "error_code": part.error_code,
            "received_at": at,
        }
        for answer in answers
        for part in answer.parts
    ]


def gateway_opt_outs(numbers: Sequence[str], gateway: str) -> pd.DataFrame:
    """Opt-outs that a gateway told us of, as consent events."""
    return pd.DataFrame(
        {
            "type": "opt_out",
            "recipient": list(numbers),
            "scope": "*",
            "basis": "",
            "occurred_at": pd.Timestamp(datetime.now(UTC)),
            "source": f"gateway {gateway}",
            "method": "gateway_block",
        }
    )
