"""A request for many messages that is refused for one of them, and answers that cannot be read."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from adapters.gateways import halving
from adapters.gateways.base import Answer, ErrorClass, Outgoing, Timeouts
from adapters.gateways.http import Client, NoAnswerError, NotSentError, Reply, submit_each
from tests.adapters.gateways.example import messages
from tests.adapters.gateways.wire import Respond, Wire

pytestmark = pytest.mark.anyio


class Gateway:
    """Takes groups in which no message is bad, and refuses the others whole."""

    def __init__(self, is_bad: Callable[[Outgoing], bool], seconds: float = 0) -> None:
        self.is_bad = is_bad
        self.seconds = seconds
        self.groups: list[list[str]] = []
        self.left: list[float] = []
        self.at_once = self.most_at_once = 0

    async def send(self, group: Sequence[Outgoing], until: float) -> Reply:
        self.groups.append([message.id for message in group])
        self.left.append(until - time.monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(min(self.seconds, until - time.monotonic()))
        self.at_once -= 1
        return Reply(400 if any(map(self.is_bad, group)) else 202, httpx.Headers(), b"")

    async def submit(self, group: Sequence[Outgoing], within: float = 5) -> dict[str, Answer]:
        answers = await halving.submit_group(group, self.send, read, within)
        assert sorted(a.id for a in answers) == sorted(m.id for m in group)
        return {answer.id: answer for answer in answers}


def read(group: Sequence[Outgoing], reply: Reply) -> list[Answer]:
    if reply.status == 202:
        return [Answer(message.id, "accepted") for message in group]
    return [Answer(m.id, "refused", error_class=ErrorClass.RECIPIENT) for m in group]


def outcomes(answers: dict[str, Answer]) -> Counter[tuple[str, str | None]]:
    return Counter((answer.outcome, answer.error_code) for answer in answers.values())


LEFT_OVER = ("refused", halving.REFUSED_TOGETHER)


async def test_halves_are_made_one_after_the_other_until_the_bad_one_is_alone() -> None:
    gateway = Gateway(lambda message: message.id == "m5", seconds=0.001)
    answers = await gateway.submit(messages(16))
    assert [id_ for id_, answer in answers.items() if answer.outcome == "refused"] == ["m5"]
    assert outcomes(answers)["accepted", None] == 15
    assert gateway.most_at_once == 1


async def test_all_requests_of_a_group_end_within_the_time_of_one() -> None:
    gateway = Gateway(lambda message: message.id == "m0", seconds=0.3)
    answers = await gateway.submit(messages(64), within=1.5)
    assert gateway.left[0] <= 1.5
    assert gateway.left == sorted(gateway.left, reverse=True)
    assert gateway.left[-1] > 0.3
    assert outcomes(answers) == {LEFT_OVER: 64}


async def test_no_half_is_begun_when_less_is_left_than_a_request_took() -> None:
    gateway = Gateway(lambda message: message.id == "m0", seconds=0.7)
    answers = await gateway.submit(messages(8), within=1.3)
    assert len(gateway.groups) == 1
    assert outcomes(answers) == {LEFT_OVER: 8}


async def test_what_is_left_over_may_be_sent_again_and_the_suspicious_apart() -> None:
    gateway = Gateway(lambda message: message.id == "m0", seconds=0.4)
    answers = await gateway.submit(messages(8), within=1.2)
    assert {answer.error_class for answer in answers.values()} == {ErrorClass.RETRY}
    suspicious, other = answers["m0"].retry_after, answers["m7"].retry_after
    assert suspicious is not None
    assert other == 1 < suspicious


async def test_a_wrong_setting_is_charged_to_twenty_and_not_to_all() -> None:
    gateway = Gateway(lambda message: True)
    answers = await gateway.submit(messages(500))
    assert outcomes(answers) == {("refused", None): 20, LEFT_OVER: 480}
    assert len(gateway.groups) < 60


async def test_many_bad_numbers_are_found_where_others_are_accepted() -> None:
    gateway = Gateway(lambda message: int(message.id[1:]) % 2 == 1)
    answers = await gateway.submit(messages(80))
    assert outcomes(answers) == {("refused", None): 40, ("accepted", None): 40}


async def test_a_half_whose_deadline_has_passed_meanwhile_is_not_sent() -> None:
    gateway = Gateway(lambda message: message.id == "m0", seconds=0.2)
    soon = datetime.now(UTC) + timedelta(seconds=0.1)
    group = [replace(m, deadline=soon) if m.id == "m3" else m for m in messages(4)]
    answers = await gateway.submit(group)
    assert outcomes(answers) == {("refused", None): 1, ("accepted", None): 2, LEFT_OVER: 1}
    assert [group for group in gateway.groups if "m3" in group] == [["m0", "m1", "m2", "m3"]]


@pytest.mark.parametrize(
    ("error", "expected"),
    [(NotSentError("x"), ("refused", "unreachable")), (NoAnswerError("x"), ("unknown", None))],
)
async def test_a_group_without_a_reply_is_not_made_again(
    error: Exception, expected: tuple[str, str | None]
) -> None:
    calls = 0

    async def send(group: Sequence[Outgoing], until: float) -> Reply:
        nonlocal calls
        calls += 1
        raise error

    answers = await halving.submit_group(messages(4), send, read, 5)
    assert (calls, outcomes({a.id: a for a in answers})) == (1, {expected: 4})


async def test_a_request_ends_at_its_instant_whatever_the_time_out(wire: Wire) -> None:
    wire.script = [Respond(delay=2)]
    async with Client(
        wire.url, headers={}, timeouts=Timeouts(5, 5), requests_in_flight=1
    ) as client:

        async def send(group: Sequence[Outgoing], until: float) -> Reply:
            return await client.post_json("/", [], until)

        began = time.monotonic()
        answers = await halving.submit_group(messages(1), send, read, 0.2)
        assert time.monotonic() - began < 2
        assert answers[0].outcome == "unknown"
        # No time is left when its turn comes.
        answers = await halving.submit_group(messages(1), send, read, 0)
    assert (answers[0].outcome, answers[0].error_code) == LEFT_OVER
    assert len(wire.requests) == 1


ODD = [
    ValueError(),
    KeyError(),
    IndexError(),
    TypeError(),
    AttributeError(),
    OverflowError(),
    RecursionError(),
]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_an_answer_that_cannot_be_read_is_in_doubt_and_loses_no_other(
    error: Exception,
) -> None:
    async def send(message: Outgoing) -> Reply:
        return Reply(201, httpx.Headers(), b"")

    def read_each(message_id: str, reply: Reply) -> Answer:
        if message_id == "m1":
            raise error
        return Answer(message_id, "accepted")

    answers = await submit_each(messages(3), send, read_each)
    assert [answer.outcome for answer in answers] == ["accepted", "unknown", "accepted"]


@pytest.mark.parametrize("error", ODD, ids=lambda error: type(error).__name__)
async def test_a_groups_answer_that_cannot_be_read_is_in_doubt(error: Exception) -> None:
    def broken(group: Sequence[Outgoing], reply: Reply) -> list[Answer]:
        raise error

    gateway = Gateway(lambda message: True)
    answers = await halving.submit_group(messages(3), gateway.send, broken, 5)
    assert [answer.outcome for answer in answers] == ["unknown"] * 3
    assert len(gateway.groups) == 1


async def test_an_id_too_long_for_an_index_is_none() -> None:
    async def send(message: Outgoing) -> Reply:
        return Reply(201, httpx.Headers(), b"")

    def read_each(message_id: str, reply: Reply) -> Answer:
        return Answer(message_id, "accepted", "S" * 256)

    [answer] = await submit_each(messages(1), send, read_each)
    assert (answer.outcome, answer.gateway_message_id) == ("accepted", None)
