"""What an answer means for its message."""

from datetime import UTC, datetime, timedelta

import pytest

from adapters.gateways.base import Answer, ErrorClass
from data.ledger import Claimed
from tasks.settling import settle

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
MESSAGE = Claimed(
    id="m1",
    recipient="+12125550101",
    text="t",
    sender="",
    encoding="GSM-7",
    segments=1,
    attempt=1,
    closes_at=None,
    lease_until=NOW,
    submission=None,
    resend_until=None,
)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        (0, 0),
        (7.5, 7.5),
        (3600, 3600),
        (86_400, 3600),
        (99_999_999_999_999, 3600),
        (float("inf"), 1),
        (float("nan"), 1),
        (-5, 1),
    ],
)
def test_a_wait_is_an_hour_at_most_and_never_no_number(said: float, seconds: float) -> None:
    answer = Answer("m1", "refused", error_class=ErrorClass.RETRY, retry_after=said)
    assert settle(answer, MESSAGE, NOW).retry_at == NOW + timedelta(seconds=seconds)
