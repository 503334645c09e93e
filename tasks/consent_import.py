"""`sms consent import`: a file of consent into the ledger, piece by piece.

Here: making E.164 of its numbers, recording, and telling what could not be. What a column means is
in data.consent_import.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from adapters.sources.base import Partition
from data import consent_ledger
from data.consent_import import read_import
from data.database import writing
from tasks import phones


@dataclass
class Imported:
    """What became of a file's records: read = recorded + rejected."""

    read: int = 0
    recorded: int = 0
    rejected: int = 0


def import_consent(
    partitions: Iterable[Partition],
    *,
    default_country: str,
    name: str,
    reject: Callable[[pd.DataFrame], None],
) -> Imported:
    """Add a file's events to the ledger; one partition is in memory, and one transaction.

    The frames have the columns of `data.consent_import.read_import` and optionally country; `name`
    is the source of records that name none. `reject` hears of each partition's rejects: row,
    column, reason; a record of an unusable number is one. Importing a file twice, or again after
    half of it, changes no verdict. Raises `ConsentError` where a column is missing.
    """
    done = Imported()
    for partition in partitions:
        events, rejects = _events(partition.frame, default_country, name)
        rejects = pd.concat([partition.rejects.fillna(""), rejects]).sort_values("row")
        with writing() as connection:
            consent_ledger.append(connection, events)
        done.read += len(partition.frame) + len(partition.rejects)
        done.recorded += len(events)
        done.rejected += len(rejects)
        if not rejects.empty:
            reject(rejects)
    return done


def _events(frame: pd.DataFrame, country: str, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    events, faults = read_import(frame)
    of_row: pd.Series | str = country
    if "country" in frame:
        of_row = frame["country"].loc[events.index].fillna(country)
    found = phones.normalise(events["recipient"], of_row)
    bad = pd.DataFrame(
        {
            "row": events.index[~found["valid"]],
            "column": "recipient",
            "reason": "no valid number of its country; write it as +12015550123",
        }
    )
    events = events.assign(
        recipient=found["e164"], source=events["source"].where(events["source"] != "", name)
    )[found["valid"]]
    return events, pd.concat([faults, bad])
