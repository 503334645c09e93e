"""The plan of a trial: replayable, and every kind of fault has its turn."""

from collections import Counter

import pytest

from adapters.sandbox.faults import RULES
from tests.chaos.faults import BARE, POSTGRESQL, SQLITE, rules
from tests.chaos.plan import draw

PLANS = [draw(7, number) for number in range(1, 301)]


def test_a_trial_is_the_same_whenever_it_is_drawn():
    assert draw(7, 123) == PLANS[122]
    assert draw(8, 123) != PLANS[122]


def test_half_of_the_trials_are_on_each_database():
    assert Counter(plan.database for plan in PLANS) == {SQLITE: 150, POSTGRESQL: 150}


def test_a_trial_has_one_to_three_faults_and_each_kind_once():
    assert {len(plan.faults) for plan in PLANS} == {1, 2, 3}
    assert all(len({fault.kind for fault in plan.faults}) == len(plan.faults) for plan in PLANS)


def test_every_kind_of_fault_comes_up_as_often_as_the_others():
    times = Counter(fault.kind for plan in PLANS for fault in plan.faults)

    both = {kind.name: times[kind.name] for kind in BARE if len(kind.databases) == 2}
    assert len(both) == 22
    # Pause and cancel give way to each other where they meet.
    assert min(both.values()) >= 20
    assert max(both.values()) <= 28


def test_a_fault_strikes_only_the_database_that_it_is_for():
    databases = {kind.name: kind.databases for kind in BARE}

    assert all(plan.database in databases[fault.kind] for plan in PLANS for fault in plan.faults)


def test_absence_is_never_proven_where_a_lease_may_be_wrong():
    """The one case that the documentation names as not excluded."""
    proven = [plan for plan in PLANS if plan.proves_absence]

    assert len(proven) > 30
    assert not any(plan.has("sender frozen beyond its lease") for plan in proven)
    assert not any(plan.has("clock set in the sender") for plan in proven)


@pytest.mark.parametrize("kind", [kind.name for kind in BARE if "gateway " in kind.name])
def test_the_sandbox_takes_the_rules_of_every_fault(kind):
    ordered = [rules(fault) for plan in PLANS for fault in plan.faults if fault.kind == kind]

    assert all(RULES.validate_python(each) for each in ordered if kind != "gateway killed")
