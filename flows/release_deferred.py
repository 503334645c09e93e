"""Has runs gone on with that are past their sending and have something to send, on a schedule.

Deferred messages whose recipients' hours have opened, and those that a slow sender gave back when
everybody else had left.
"""

from prefect import flow

from data import ledger, runs, standing_runs
from data.database import now
from data.migrate import migrate
from data.privacy import impersonal
from flows.handover import hand_over


@flow(name="release-deferred")
@impersonal
def release_deferred() -> list[str]:
    """Start `resume-campaign` for every run with messages that are due; return the runs' ids.

    Each has a run of its own: a slow campaign must not make another miss its hours.
    """
    migrate()
    return [
        run.id
        for run in runs.list_runs((runs.RECONCILING,))
        if not standing_runs.is_standing(run) and _due(run.id) and hand_over(run.id)
    ]


def _due(run_id: str) -> bool:
    opening = ledger.next_opening(run_id)
    return (opening is not None and opening <= now()) or ledger.is_unsent(run_id)
