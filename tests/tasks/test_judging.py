"""When a gateway is said to fail, by its last answers; and when not."""

from collections.abc import Iterator

import pytest

from adapters.gateways.base import UNREACHABLE, Answer, ErrorClass
from tasks import judging
from tasks.judging import Trouble
from tasks.settling import not_started

ACCEPTED = Answer("m", "accepted")
UNKNOWN = Answer("m", "unknown")
AWAY = Answer("m", "refused", error_class=ErrorClass.RETRY, error_code=UNREACHABLE)
BUSY = Answer("m", "refused", error_class=ErrorClass.RETRY, error_code="429")
NUMBER = Answer("m", "refused", error_class=ErrorClass.RECIPIENT, error_code="21211")
CONTENT = Answer("m", "refused", error_class=ErrorClass.CONTENT, error_code="30007")
ACCOUNT = Answer("m", "refused", error_class=ErrorClass.ACCOUNT, error_code="20003")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    yield
    judging.forget("run")


def judge(*requests: list[Answer]) -> Trouble | None:
    return judging.judge("run", "main", requests)


def single(answer: Answer, times: int) -> list[list[Answer]]:
    return [[answer]] * times


@pytest.mark.parametrize("answer", [UNKNOWN, AWAY])
def test_half_of_twenty_answers_are_too_many_failures(answer: Answer) -> None:
    assert judge(*single(ACCEPTED, 10), *single(answer, 9)) is None
    trouble = judge([answer])
    assert trouble is not None
    assert trouble.switches


def test_fewer_than_twenty_say_nothing() -> None:
    assert judge(*single(AWAY, 19)) is None


@pytest.mark.parametrize(("answer", "stops"), [(UNKNOWN, True), (AWAY, False)])
def test_only_what_puts_messages_in_doubt_stops_at_once(answer: Answer, stops: bool) -> None:
    trouble = judge(*single(answer, 20))
    assert trouble is not None
    assert trouble.stops is stops


def test_the_kind_of_failure_that_is_most_frequent_counts() -> None:
    trouble = judge(*single(UNKNOWN, 50), *single(AWAY, 1))
    assert trouble is not None
    assert (trouble.answer.outcome, trouble.stops) == ("unknown", True)


def test_one_request_of_many_messages_is_one_failure() -> None:
    good, lost = [ACCEPTED] * 500, [UNKNOWN] * 500
    assert judge(good, good, lost) is None
    assert judge(good, lost) is None
    assert judge(lost) is not None


@pytest.mark.parametrize("answer", [BUSY, NUMBER])
def test_throttling_and_recipients_do_not_speak_against_a_gateway(answer: Answer) -> None:
    assert judge(*single(ACCEPTED, 1), *single(answer, 200)) is None


def test_what_was_not_sent_does_not_count() -> None:
    assert judge(*[[not_started("m")]] * 200) is None


def test_old_failures_are_forgotten() -> None:
    assert judge(*single(UNKNOWN, 19), *single(ACCEPTED, 100)) is None
    assert judge(*single(UNKNOWN, 19)) is None


def test_an_account_that_is_refused_is_trouble_at_once() -> None:
    trouble = judge([ACCOUNT])
    assert trouble is not None
    assert (trouble.switches, trouble.stops) == (True, True)


@pytest.mark.parametrize(
    ("seconds", "switches", "stops"), [(29, None, None), (31, True, False), (301, True, True)]
)
def test_a_single_message_finds_another_way_in_time(
    monkeypatch: pytest.MonkeyPatch, seconds: float, switches: bool | None, stops: bool | None
) -> None:
    at = judging.time.monotonic()
    monkeypatch.setattr(judging.time, "monotonic", lambda: at)
    assert judge([AWAY]) is None
    at += seconds
    trouble = judge([AWAY])
    assert (trouble and trouble.switches, trouble and trouble.stops) == (switches, stops)


def test_a_text_that_is_refused_for_everybody_stops_the_run() -> None:
    assert judge(*single(CONTENT, 19)) is None
    trouble = judge([CONTENT])
    assert trouble is not None
    assert (trouble.what, trouble.stops) == ("refuses this text or sender for everybody", True)


def test_refusals_of_recipients_are_none_of_the_text() -> None:
    assert judge(*single(NUMBER, 40), [CONTENT]) is None


def test_a_gateway_that_refuses_a_hundred_and_takes_nobody_stops_the_run() -> None:
    assert judge(*single(NUMBER, 99)) is None
    trouble = judge([NUMBER])
    assert trouble is not None
    assert (trouble.what, trouble.switches, trouble.stops) == ("refuses everybody", False, True)


def test_resuming_begins_anew() -> None:
    judge(*single(NUMBER, 99))
    judging.forget("run")
    assert judge([NUMBER]) is None
