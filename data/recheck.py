"""What a planned message must still meet at the moment it is claimed, as SQL.

Here: the conditions of the message alone, for the claim (data.ledger) and for settling what fails
them (data.deferral). Not here: why it fails, which the rules say (tasks.deferring).
"""

from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, true
from sqlmodel import col

from data import frequency
from data.consent_standing import opt_out_stands
from data.inbound import is_held
from data.rules import rules
from data.tables import CampaignRun, Message

LEAVES_WITHIN = timedelta(seconds=1)
"""A window leaves so soon after its claim: hours that end sooner have ended."""


def may_leave(run: CampaignRun, at: datetime) -> list[ColumnElement[bool]]:
    """Conditions, none of them NULL: still allowed, since the plan, to be sent at an instant.

    Inside the recipient's hours, consent not ended, no opt-out or deactivation, no reply of theirs
    that waits for a person (marketing only), and under every cap that applies.
    """
    leaves = at + LEAVES_WITHIN
    number_key = col(Message.number_key)
    conditions = [
        col(Message.closes_at).is_(None) | (col(Message.closes_at) > leaves),
        col(Message.consent_ends_at).is_(None) | (col(Message.consent_ends_at) > leaves),
        col(Message.resend_until).is_(None) | (col(Message.resend_until) > leaves),
        ~opt_out_stands(number_key, run.purpose, _revokes_all(run.purpose, at)),
    ]
    if run.purpose == "marketing":
        conditions.append(~is_held(number_key))
    return conditions + frequency.within_caps(run, at)


def _revokes_all(purpose: str, at: datetime) -> ColumnElement[bool] | None:
    """Where an opt-out of any purpose counts for this one as well; None: nowhere."""
    countries = {
        country
        for row in rules().rows
        if row.step == "revoke_all" and purpose in row.purposes and row.in_force(at)
        for country in row.countries
    }
    if "*" in countries:
        return true()
    return func.coalesce(col(Message.country), "").in_(sorted(countries)) if countries else None
