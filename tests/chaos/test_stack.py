"""Trials with the whole stack. SMS_CHAOS_SEED repeats a run; `python -m tests.chaos` makes more."""

import os
import random

import pytest

from tests.chaos.runner import run_all
from tests.chaos.stack import Stack

SEED = int(os.environ.get("SMS_CHAOS_SEED", random.SystemRandom().randrange(10**6)))
TRIALS = 1

pytestmark = [pytest.mark.chaos, pytest.mark.heavy, pytest.mark.timeout(240)]


def test_nobody_gets_it_twice_or_not_at_all_whatever_service_is_killed() -> None:
    with Stack() as stack:
        plans = (stack.draw(SEED, number) for number in range(1, TRIALS + 1))
        outcomes = run_all(stack, plans, lambda _: None)

    assert [outcome.failure for outcome in outcomes if outcome.failure] == []
