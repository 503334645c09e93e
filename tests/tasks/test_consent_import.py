"""`import_consent`: numbers, rejects and pieces of a file of consent."""

from collections.abc import Iterator

import pandas as pd
from sqlalchemy import select

from adapters.sources.base import Partition
from data.database import reading
from data.tables import ConsentEvent
from tasks.consent_import import Imported, import_consent

EVENTS = ConsentEvent.metadata.tables["consent_event"]
NONE = pd.DataFrame({"row": [], "column": [], "reason": []})


def brought(*partitions: Partition) -> tuple[Imported, list[list[object]]]:
    """What was imported, and row and column of the rejects."""
    told: list[list[object]] = []

    def reject(rejects: pd.DataFrame) -> None:
        told.extend(rejects[["row", "column"]].to_numpy().tolist())

    return import_consent(partitions, default_country="US", name="list.csv", reject=reject), told


def part(first: int, **columns: list[str | None]) -> Partition:
    length = len(next(iter(columns.values())))
    index = pd.RangeIndex(first, first + length, name="row")
    return Partition(pd.DataFrame(columns, index=index, dtype="str"), NONE)


def recorded() -> list[tuple[str, ...]]:
    with reading() as connection:
        kept = connection.execute(select(EVENTS).order_by(EVENTS.c.id)).all()
    return [(row.type, row.recipient, row.scope, row.source, row.method) for row in kept]


def test_an_import_records_what_it_can_and_tells_the_rest(database: str) -> None:
    told, rejects = brought(
        part(
            1,
            phone=["(201) 555-0123", "0171 123"],
            type=["opt_in", "opt_out"],
            country=[None, "DE"],
            occurred_at=["2026-03-01T12:00:00Z", None],
        ),
        part(3, phone=["+447911123456", None], type=["opt_out", "opt_out"]),
    )
    assert (told.read, told.recorded, told.rejected) == (4, 2, 2)
    assert rejects == [[2, "recipient"], [4, "recipient"]]
    assert recorded() == [
        ("opt_in", "+12015550123", "marketing", "list.csv", "import"),
        ("opt_out", "+447911123456", "*", "list.csv", "import"),
    ]


def test_records_that_could_not_be_read_are_told_with_the_others(sqlite: str) -> None:
    unread = pd.DataFrame({"row": [1], "column": [None], "reason": ["ragged_row"]})
    frame = part(2, phone=["12", "+447911123456"], type=["opt_out", "opt_out"]).frame
    told, rejects = brought(Partition(frame, unread))
    assert (told.read, told.recorded, told.rejected) == (3, 1, 2)
    assert rejects == [[1, ""], [2, "recipient"]]


def test_each_piece_is_recorded_before_the_next_is_read(sqlite: str) -> None:
    seen = []

    def pieces() -> Iterator[Partition]:
        for row in (1, 2):
            seen.append(len(recorded()))
            yield part(row, phone=["+447911123456"], type=["opt_out"])

    import_consent(pieces(), default_country="", name="list.csv", reject=lambda _: None)
    assert seen == [0, 1]


def test_an_import_of_nothing_records_nothing(sqlite: str) -> None:
    told, rejects = brought()
    assert (told.read, told.recorded, told.rejected, rejects) == (0, 0, 0, [])
