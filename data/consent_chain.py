"""The seals of the consent ledger: a hash chain in which every later change shows.

Here: the digests of an event, sealing what is committed, verifying the chain. All are keyed with
the installation's secret, which is not in the database: who can write there cannot forge a seal.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any

import pandas as pd
from sqlalchemy import Connection, Row, Text, bindparam, cast, func, select, text, update

from data.database import is_sqlite, reading, writing
from data.settings import settings
from data.tables import ConsentEvent

CHUNK = 5_000
"""Events that are sealed in one transaction, or in memory while the chain is verified."""

_LOCK = 7_735_005  # any number: PostgreSQL's advisory lock that every sealer takes
_EVENTS = ConsentEvent.metadata.tables["consent_event"]
_FIXED = [
    "type",
    "number_key",
    "scope",
    "basis",
    "occurred_at",
    "recorded_at",
    "source",
    "method",
    "wording_version",
    "text_hash",
    "evidence_digest",
]
"""The columns that are never changed, in the order in which they are digested."""
_BEFORE_SEALS = [*_FIXED[:8], "evidence"]
"""Those that were digested before there were seals."""
_NOTHING = "{}"


# ------------------------------------------------------------------ digests


def evidence_digests(rows: pd.DataFrame) -> list[str]:
    """Return the digest of each row's personal columns: recipient, evidence (JSON text).

    It stays when they are erased; keyed, so that nobody can guess what was erased.
    """
    return _digests(b"consent-evidence", rows, ["recipient", "evidence"])


def payload_digests(rows: pd.DataFrame) -> list[str]:
    """Return the digest of each row's columns that never change, `evidence_digest` included.

    Instants (UTC) in microseconds. The number takes part as its fingerprint only.
    """
    return _digests(b"consent-event", rows, _FIXED)


def _digests(purpose: bytes, rows: pd.DataFrame, columns: list[str]) -> list[str]:
    texts = (
        _microseconds(rows[name]) if name.endswith("_at") else rows[name].tolist()
        for name in columns
    )
    return list(_keyed(purpose, zip(*texts, strict=True)))


def _keyed(purpose: bytes, rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    base = hashlib.blake2b(digest_size=32, key=settings().key[:64], person=purpose)
    # A keyed hash has no column operation.
    for row in rows:
        state = base.copy()
        state.update("\0".join(row).encode())
        yield state.hexdigest()


def _microseconds(column: pd.Series) -> list[str]:
    instants = pd.to_datetime(column, utc=True).astype("datetime64[us, UTC]")
    written: list[str] = instants.astype("int64").astype("str").where(instants.notna(), "").tolist()
    return written


def _seals(previous: str, payloads: Iterable[str], first: int) -> Iterator[str]:
    """Return the seals of events in their order, each over the one before it."""
    for number, payload in enumerate(payloads, start=first):
        (previous,) = _keyed(b"consent-seal", [(previous, payload, str(number))])
        yield previous


# ------------------------------------------------------------------ the end of the chain


@dataclass(frozen=True)
class Head:
    """The newest sealed event, as it is also kept outside the database, on each host that seals.

    Else nobody would see that the newest events were removed.
    """

    number: int
    seal: str


def head_file() -> Path:
    """Return where the end of the chain is kept outside the database."""
    return settings().home / "consent-head.json"


def _kept_head() -> Head | None:
    try:
        return Head(**json.loads(head_file().read_bytes()))
    except FileNotFoundError:
        return None


def _keep(head: Head) -> None:
    path = head_file()
    fresh = path.with_suffix(f".{os.getpid()}-{get_ident()}")
    with fresh.open("w") as file:
        json.dump({"number": head.number, "seal": head.seal}, file)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def _holds(connection: Connection, head: Head | None) -> bool:
    if head is None:
        return True
    of_number = select(_EVENTS.c.seal).where(_EVENTS.c.seal_number == head.number)
    return bool(connection.execute(of_number).scalar() == head.seal)


# ------------------------------------------------------------------ seal


def seal() -> int:
    """Seal what is committed and unsealed, in the order of recording; return how many events.

    Numbers are given from 1 without gaps. Several may call it at one time: one of them seals, the
    others wait for it and find nothing left.
    """
    sealed, last_id = 0, 0
    while True:
        done, last_id = _seal_chunk(last_id)
        if not done:
            return sealed
        sealed += done


def _seal_chunk(after: int) -> tuple[int, int]:
    with writing() as connection:
        if not is_sqlite(connection):
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        columns = (_EVENTS.c.id, _EVENTS.c.payload_digest, _EVENTS.c.evidence_digest)
        rows = connection.execute(
            select(*columns)
            # Beside `after`, which spares PostgreSQL sorting all that waits for each chunk.
            .where(_EVENTS.c.seal_number.is_(None), _EVENTS.c.id > after)
            .order_by(_EVENTS.c.id)
            .limit(CHUNK)
        ).all()
        if not rows:
            return 0, after
        renewed = _renew(connection, [row.id for row in rows if not row.evidence_digest])
        last = connection.execute(
            select(_EVENTS.c.seal_number, _EVENTS.c.seal)
            .where(_EVENTS.c.seal_number.is_not(None))
            .order_by(_EVENTS.c.seal_number.desc())
            .limit(1)
        ).first()
        number, previous = (last.seal_number, last.seal or "") if last else (0, "")
        payloads = [renewed.get(row.id, row.payload_digest) for row in rows]
        seals = list(_seals(previous, payloads, number + 1))
        _write(connection, [row.id for row in rows], number + 1, [previous, *seals])
        # One that this chain does not hold is left for `verify` to tell.
        is_ours = _holds(connection, _kept_head())
    if is_ours:
        _keep(Head(number + len(rows), seals[-1]))
    return len(rows), rows[-1].id


def _write(connection: Connection, ids: list[int], first: int, seals: list[str]) -> None:
    if is_sqlite(connection):
        numbers = range(first, first + len(ids))
        connection.exec_driver_sql(
            "UPDATE consent_event SET seal_number = ?, previous_seal = ?, seal = ? WHERE id = ?",
            list(zip(numbers, seals[:-1], seals[1:], ids, strict=True)),
        )
    else:
        connection.exec_driver_sql(
            "UPDATE consent_event SET seal_number = given.number, previous_seal = given.previous,"
            " seal = given.seal FROM (SELECT ordinality + %s - 1 AS number, id, previous, seal"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[])"
            " WITH ORDINALITY AS rows(id, previous, seal, ordinality)) AS given"
            " WHERE consent_event.id = given.id",
            (first, ids, seals[:-1], seals[1:]),
        )


def _renew(connection: Connection, ids: list[int]) -> dict[int, str]:
    """Digest anew what was recorded before there were seals; return the digests by id.

    One that was changed since keeps its old digest, which `verify` finds.
    """
    renewed: dict[int, str] = {}
    if not ids:
        return renewed
    rows = _frame(connection.execute(_stored().where(_EVENTS.c.id.in_(ids))).all())
    unchanged = pd.Series(_digests(b"consent", rows, _BEFORE_SEALS), index=rows.index)
    rows = rows[unchanged == rows["payload_digest"]]
    if rows.empty:
        return renewed
    rows = rows.assign(evidence_digest=evidence_digests(rows))
    rows = rows.assign(payload_digest=payload_digests(rows))
    connection.execute(
        update(_EVENTS)
        .where(_EVENTS.c.id == bindparam("of"))
        .values(evidence_digest=bindparam("proof"), payload_digest=bindparam("whole")),
        [
            {"of": id, "proof": evidence, "whole": payload}
            for id, evidence, payload in zip(
                rows["id"].tolist(), rows["evidence_digest"], rows["payload_digest"], strict=True
            )
        ],
    )
    return dict(zip(rows["id"].tolist(), rows["payload_digest"].tolist(), strict=True))


def renew(connection: Connection, number_key: str) -> None:
    """Digest anew the events of a number that were recorded before there were seals.

    Before they are erased: from then on nobody can.
    """
    old = select(_EVENTS.c.id).where(
        _EVENTS.c.number_key == number_key, _EVENTS.c.evidence_digest == ""
    )
    _renew(connection, list(connection.execute(old).scalars()))


def _stored() -> Any:
    columns = [column for column in _EVENTS.c if column.name != "evidence"]
    # As it is written: its digest is over that text.
    return select(*columns, cast(_EVENTS.c.evidence, Text).label("evidence"))


def _frame(rows: Iterable[Row[Any]]) -> pd.DataFrame:
    names = [column.name for column in _EVENTS.c if column.name != "evidence"] + ["evidence"]
    frame = pd.DataFrame([tuple(row) for row in rows], columns=pd.Index(names))
    frame["recipient"] = frame["recipient"].fillna("")
    return frame


# ------------------------------------------------------------------ verify


@dataclass(frozen=True)
class Verified:
    """What the chain is made of, and the first place where it is broken."""

    sealed: int
    unsealed: int
    erased: int
    """Sealed events whose personal columns were erased."""
    broken: str = ""
    """In words; empty: everything is as it was recorded."""
    outside: bool = True
    """Whether the end of the chain is kept on this host: else removed newest events do not show."""


def verify() -> Verified:
    """Compute every digest and seal again, chunk by chunk, and compare."""
    with reading() as connection:
        if not is_sqlite(connection):
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        # Read before the snapshot it would be newer than the events of which it speaks.
        waiting = select(func.count()).where(_EVENTS.c.seal_number.is_(None))
        unsealed = int(connection.execute(waiting).scalar_one())
        sealed, erased, previous, broken = 0, 0, "", ""
        while not broken:
            following = _EVENTS.c.seal_number > sealed
            chosen = _stored().where(following).order_by(_EVENTS.c.seal_number).limit(CHUNK)
            rows = connection.execute(chosen).all()
            if not rows:
                break
            frame = _frame(rows)
            broken = _first_break(frame, sealed, previous)
            sealed, previous = int(frame["seal_number"].iloc[-1]), str(frame["seal"].iloc[-1])
            erased += int(frame["erased_at"].notna().sum())
        head = _kept_head()
        if not broken and not _holds(connection, head):
            broken = _cut(head, sealed)
        counted = select(func.count()).where(_EVENTS.c.seal_number.is_not(None))
        total = int(connection.execute(counted).scalar_one())
        if broken:
            gone = select(func.count()).where(
                _EVENTS.c.seal_number.is_not(None), _EVENTS.c.erased_at.is_not(None)
            )
            erased = int(connection.execute(gone).scalar_one())
    return Verified(total, unsealed, erased, broken, outside=head is not None or not total)


def _first_break(rows: pd.DataFrame, sealed: int, previous: str) -> str:
    numbers = rows["seal_number"].astype("int64").tolist()
    payloads = payload_digests(rows)
    seals = rows["seal"].tolist()
    links = [previous, *seals[:-1]]
    is_erased = rows["erased_at"].notna()
    emptied = rows["recipient"].eq("") & rows["evidence"].eq(_NOTHING)
    evidence = pd.Series(evidence_digests(rows), index=rows.index)
    proven = (evidence == rows["evidence_digest"]).where(~is_erased, emptied)
    expected = [
        made
        for link, payload, number in zip(links, rows["payload_digest"], numbers, strict=True)
        for made in _seals(str(link), [payload], number)
    ]
    faults = pd.DataFrame(
        {
            "missing": [at != number for at, number in enumerate(numbers, start=sealed + 1)],
            "changed": rows["payload_digest"] != pd.Series(payloads, index=rows.index),
            "evidence": ~proven,
            "link": (rows["seal"] != pd.Series(expected, index=rows.index))
            | (rows["previous_seal"] != pd.Series(links, index=rows.index)),
        }
    )
    if not faults.to_numpy().any():
        return ""
    place = int(faults.any(axis=1).to_numpy().argmax())
    number, id = numbers[place], rows["id"].iloc[place]
    fault = faults.columns[int(faults.iloc[place].to_numpy().argmax())]
    return {
        "missing": f"{_events(sealed + place + 1, number - 1)} missing",
        "changed": f"event {number} (id {id}) is not as it was recorded",
        "evidence": f"the number or evidence of event {number} (id {id}) is not as it was recorded",
        "link": f"event {number} (id {id}) does not follow the event before it: one of them was"
        " exchanged, or sealed with another key",
    }[fault]


def _events(first: int, last: int) -> str:
    return f"event {first} is" if first == last else f"events {first} to {last} are"


def _cut(head: Head | None, sealed: int) -> str:
    number = head.number if head else 0
    if number > sealed:
        return (
            f"{_events(sealed + 1, number)} missing: {head_file()} says that they were sealed;"
            " where an older backup was restored on purpose, delete that file"
        )
    return (
        f"event {number} is not the one that {head_file()} says was sealed: the chain was made"
        " anew; where an older backup was restored on purpose, delete that file"
    )
