"""The plan of a run: written once, proven complete, never made again."""

from typing import Any

import pandas as pd
from sqlalchemy import Connection, delete, func, select
from sqlmodel import col

from data import runs
from data.database import insert_frame, writing
from data.errors import SmsError
from data.tables import CampaignRun, Exclusion, Message


class PlanError(SmsError):
    """The plan of a run does not account for every record."""


def clear_plan(run_id: str) -> None:
    """Remove what an interrupted preparation left. Refused once the plan is complete."""
    with writing() as connection:
        run = col(CampaignRun.id) == run_id
        if connection.execute(select(col(CampaignRun.planned)).where(run)).scalar_one():
            raise PlanError(f"the plan of run {run_id} is complete and is never made again")
        connection.execute(delete(Message).where(col(Message.run_id) == run_id))
        connection.execute(delete(Exclusion).where(col(Exclusion.run_id) == run_id))


def add_to_plan(messages: pd.DataFrame, exclusions: pd.DataFrame) -> None:
    """Append planned messages and exclusions, columns as in their tables, in one transaction."""
    with writing() as connection:
        insert_frame(connection, "message", messages)
        insert_frame(connection, "exclusion", exclusions)


def complete_plan(run_id: str, state: str, **facts: Any) -> None:
    """Declare the plan complete, in one transaction with the proof that it is.

    Raises `PlanError` unless messages and exclusions together are the records read.
    """
    with writing() as connection:
        read = connection.execute(
            select(col(CampaignRun.records_read)).where(col(CampaignRun.id) == run_id)
        ).scalar_one()
        planned = _count(connection, Message, run_id)
        excluded = _count(connection, Exclusion, run_id)
        if read != planned + excluded:
            raise PlanError(
                f"run {run_id} read {read} records but planned {planned} messages and"
                f" {excluded} exclusions: nothing was sent; this is a fault of the program"
            )
        batches = connection.execute(
            select(func.max(col(Message.batch))).where(col(Message.run_id) == run_id)
        ).scalar()
        runs.move_within(connection, run_id, state, planned=True, batches=batches or 0, **facts)


def _count(connection: Connection, table: type[Message | Exclusion], run_id: str) -> int:
    statement = select(func.count()).where(col(table.run_id) == run_id)
    return int(connection.execute(statement).scalar_one())
