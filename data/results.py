"""The results table: one row and one outcome for each audience record, built from the ledger.

Rebuilding, accounting, counting and exporting. Not here: how messages came to their states
(`data/ledger`, `data/deliveries`), and what else people are shown (`data/figures`).
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, Literal

import orjson
import pandas as pd
from sqlalchemy import Connection, Select, bindparam, select, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import col

from data.database import reading
from data.deliveries import FINAL
from data.errors import SmsError
from data.tables import CampaignRun, Exclusion, Result, UtcDateTime

COLUMNS = (
    "row",
    "recipient",
    "outcome",
    "reason",
    "gateway",
    "gateway_message_id",
    "segments",
    "price",
    "currency",
    "attempts",
    "submitted_at",
    "final_at",
)
"""The columns of an export; people and scripts rely on their names and order."""

_CHUNK = 50_000  # rows in memory at one time


class NotAccounted(SmsError):  # noqa: N818 - what people call it
    """A run whose outcomes do not add up to the records that were read."""


@dataclass(frozen=True, slots=True)
class Account:
    """Records read, and what became of them."""

    read: int | None
    """What the source reader counted before validation; None: it has not finished."""
    outcomes: dict[str, int]
    accounted: int


def rebuild(connection: Connection, run_id: str) -> int:
    """Write the run's results anew from its messages and exclusions; return how many rows.

    Raises `NotAccounted` where a record has two outcomes.
    """
    run = {"run_id": run_id}
    # One at a time: two would each delete what they see, and both insert. (SQLite's are.)
    connection.execute(
        select(col(CampaignRun.id)).where(col(CampaignRun.id) == run_id).with_for_update()
    )
    try:
        with connection.begin_nested():
            connection.execute(text("DELETE FROM result WHERE run_id = :run_id"), run)
            excluded = connection.execute(_FROM_EXCLUSIONS, run).rowcount
            sent = connection.execute(_FROM_RUN, run).rowcount
    except IntegrityError as error:
        _refuse_doubles(connection, run_id)
        raise NotAccounted(
            f"run {run_id}: a campaign message has no row of the audience;"
            " the stored plan is damaged: start the campaign again under a new key"
        ) from error
    return excluded + sent


def refresh_reported(connection: Connection) -> None:
    """Bring the rows up to date of the messages that `deliveries.apply` has just changed.

    In its transaction. Unlike `rebuild` it costs what changed, not the size of the run, and so
    does not keep senders from the database.
    """
    connection.execute(_REFRESH_REPORTED)


def refresh_expired(connection: Connection, run_ids: Collection[str], at: datetime) -> None:
    """Bring the rows up to date of the messages of these runs that expired at this instant."""
    connection.execute(_REFRESH_EXPIRED, {"run_ids": list(run_ids), "at": at})


def is_behind(connection: Connection, run_id: str) -> bool:
    """Whether results of a run are missing, or open although the message's outcome is another."""
    return bool(connection.execute(_BEHIND, {"run_id": run_id}).scalar_one())


def account(connection: Connection, run_id: str) -> Account:
    """Compare the records read with the outcomes in the results table."""
    outcomes = outcome_counts(connection, run_id)
    read = connection.execute(_READ, {"run_id": run_id}).scalar_one_or_none()
    return Account(read, outcomes, sum(outcomes.values()))


def check(connection: Connection, run_id: str) -> Account:
    """Return the account of a run whose every record has exactly one outcome.

    Raises `NotAccounted` on any other.
    """
    found = account(connection, run_id)
    if found.read is None:
        raise NotAccounted(
            f"run {run_id}: nobody stored how many records its audience has;"
            " the source was not read to its end: start the campaign again under a new key"
        )
    _refuse_doubles(connection, run_id)
    first, last = connection.execute(_ROWS, {"run_id": run_id}).one()
    if found.accounted != found.read or (found.read and (first < 1 or last > found.read)):
        raise NotAccounted(
            f"run {run_id}: {found.accounted} of {found.read} records have an outcome"
            f" (rows {first} to {last}); run `sms reconcile`; if it stays, it is a fault"
        )
    return found


def outcome_counts(connection: Connection, run_id: str) -> dict[str, int]:
    """Return records by outcome, only those that occur, most frequent first."""
    counted = connection.execute(_OUTCOMES, {"run_id": run_id})
    return {outcome: records for outcome, records in counted}  # noqa: C416 - rows are no pairs


def reasons(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return columns outcome, reason, rule, rows; most frequent first."""
    rows = [tuple(row) for row in connection.execute(_REASONS, {"run_id": run_id})]
    return pd.DataFrame(rows, columns=["outcome", "reason", "rule", "rows"])


def funnel(connection: Connection, run_id: str) -> dict[str, int]:
    """Return how many records came through each step, in order.

    Keys: read, valid, unique, allowed (neither held out, suppressed nor blocked), submitted
    (a gateway took them), delivered.
    """
    found = account(connection, run_id)
    lost = found.outcomes
    read = found.read or found.accounted
    valid = read - lost.get("invalid", 0)
    unique = valid - lost.get("duplicate", 0)
    kept_back = sum(lost.get(name, 0) for name in ("held_out", "suppressed", "blocked"))
    submitted = connection.execute(_SUBMITTED, {"run_id": run_id}).scalar_one()
    return {
        "read": read,
        "valid": valid,
        "unique": unique,
        "allowed": unique - kept_back,
        "submitted": submitted,
        "delivered": lost.get("delivered", 0),
    }


def export(run_id: str, format: Literal["csv", "json", "parquet"], out: BinaryIO) -> int:
    """Write the results of a run, by row, with the columns `COLUMNS`; return how many rows.

    CSV and JSON (an array of objects) have instants in ISO 8601, UTC, with `Z`, and prices as
    exact decimal text; Parquet has typed columns. In CSV a cell that a spreadsheet would take
    for a formula gets an apostrophe in front (OWASP, CSV injection); an E.164 number begins with
    `+` and is left as it is, because digits alone can do nothing there and scripts read them.
    JSON and Parquet change no value.
    """
    write = {"csv": _write_csv, "json": _write_json, "parquet": _write_parquet}[format]
    columns = [getattr(Result, name) for name in COLUMNS]
    query = select(*columns).where(col(Result.run_id) == run_id).order_by(col(Result.row))
    return write(_chunks(query, COLUMNS), out)


def rejects(run_id: str, out: BinaryIO) -> int:
    """Write the invalid records of a run as CSV: row, column, reason, detail; by row."""
    names = ("row", "column", "reason", "detail")
    query = (
        select(*(getattr(Exclusion, name) for name in names))
        .where(col(Exclusion.run_id) == run_id, col(Exclusion.outcome) == "invalid")
        .order_by(col(Exclusion.row))
    )
    return _write_csv(_chunks(query, names), out)


def _refuse_doubles(connection: Connection, run_id: str) -> None:
    double = connection.execute(_DOUBLES, {"run_id": run_id}).first()
    if double is not None:
        raise NotAccounted(
            f"run {run_id}, row {double.row}: {double.times} outcomes for one record;"
            " the stored plan is damaged: start the campaign again under a new key"
        )


def _chunks(query: Select[Any], names: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """Yield at least one frame, so that an export without rows still has its columns."""
    with reading() as connection:
        rows = connection.execution_options(yield_per=_CHUNK).execute(query)
        empty = True
        for part in rows.partitions():
            empty = False
            yield _typed(pd.DataFrame([tuple(row) for row in part], columns=list(names)))
        if empty:
            yield _typed(pd.DataFrame([], columns=list(names), dtype="object"))


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    for name in frame.columns.intersection(["segments", "attempts"]):
        frame[name] = frame[name].astype("Int64")
    for name in frame.columns.intersection(["submitted_at", "final_at"]):
        frame[name] = pd.to_datetime(frame[name], utc=True).astype("datetime64[us, UTC]")
    return frame


def _spoken(frame: pd.DataFrame) -> pd.DataFrame:
    """Instants and money as text, missing as None."""
    for name in frame.columns.intersection(["submitted_at", "final_at"]):
        frame[name] = frame[name].dt.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if "price" in frame:
        frame["price"] = frame["price"].map(lambda price: format(price, "f"), na_action="ignore")
    return frame


def _write_csv(chunks: Iterator[pd.DataFrame], out: BinaryIO) -> int:
    written = 0
    for chunk in chunks:
        frame = _spoken(chunk)
        for name in frame.columns.difference(["row", "segments", "attempts", "price"]):
            frame[name] = _harmless(frame[name])
        frame.to_csv(out, index=False, header=written == 0, lineterminator="\n", encoding="utf-8")
        written += len(frame)
    return written


def _harmless(column: pd.Series) -> pd.Series:
    cells = column.astype("str")
    formula = cells.str.match(r"[=+\-@\t\r]").fillna(False)
    number = cells.str.fullmatch(r"\+[1-9][0-9]{6,14}").fillna(False)
    return cells.mask(formula & ~number, "'" + cells)


def _write_json(chunks: Iterator[pd.DataFrame], out: BinaryIO) -> int:
    written = 0
    out.write(b"[")
    for chunk in chunks:
        frame = _spoken(chunk).astype("object")
        records = frame.where(frame.notna(), None).to_dict("records")
        lines = [orjson.dumps(record) for record in records]
        out.write((b",\n" if written and lines else b"\n") + b",\n".join(lines))
        written += len(lines)
    out.write(b"\n]\n")
    return written


def _write_parquet(chunks: Iterator[pd.DataFrame], out: BinaryIO) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "row": pa.int64(),
        "segments": pa.int32(),
        "attempts": pa.int32(),
        "price": pa.decimal128(38, 18),
        "submitted_at": pa.timestamp("us", tz="UTC"),
        "final_at": pa.timestamp("us", tz="UTC"),
    }
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in COLUMNS])
    written = 0
    with pq.ParquetWriter(out, schema) as writer:
        for chunk in chunks:
            table = pa.Table.from_pandas(chunk, schema=schema, preserve_index=False)
            writer.write_table(table)
            written += len(chunk)
    return written


RECORD = "kind <> 'test'"
"""SQL: a message that is a record of its run: of an audience, or one that came by itself."""

SETTLED = f"state = 'accepted' AND status_rank = {FINAL}"
"""SQL: a message whose gateway has sent its final report."""

MESSAGE_OUTCOME = f"""CASE WHEN {SETTLED} THEN status
            WHEN state IN ('accepted', 'queued', 'sending') THEN 'pending'
            ELSE state END"""
"""SQL: the outcome of a message's record."""

_FROM_MESSAGES = f"""
    INSERT INTO result (run_id, "row", recipient, outcome, reason, rule, message_id, gateway,
        gateway_message_id, segments, price, currency, attempts, submitted_at, final_at)
    SELECT run_id, "row", recipient,
        {MESSAGE_OUTCOME},
        CASE WHEN {SETTLED} AND status = 'delivered' THEN status
            WHEN {SETTLED} THEN COALESCE('gateway_' || NULLIF(error_code, ''), status)
            WHEN state = 'accepted' THEN COALESCE(status, state)
            ELSE COALESCE(NULLIF(reason, ''), 'gateway_' || NULLIF(error_code, ''), state) END,
        rule, id, gateway, gateway_message_id, segments, price, currency, attempt, submitted_at,
        final_at
    FROM message WHERE {RECORD}
"""  # noqa: S608 - the condition is above

_FROM_RUN = text(f"""{_FROM_MESSAGES} AND run_id = :run_id ORDER BY "row" """)

_REPLACED = ", ".join(
    f"{name} = excluded.{name}"
    for name in (
        *("recipient", "outcome", "reason", "rule", "message_id", "gateway", "gateway_message_id"),
        *("segments", "price", "currency", "attempts", "submitted_at", "final_at"),
    )
)
_REFRESH = f"""ON CONFLICT (run_id, "row") DO UPDATE SET {_REPLACED}"""
_REFRESH_REPORTED = text(
    f"""{_FROM_MESSAGES} AND "row" IS NOT NULL
    AND id IN (SELECT message_id FROM folded_event) {_REFRESH}"""  # noqa: S608 - parts above
)
_REFRESH_EXPIRED = text(f"""{_FROM_MESSAGES} AND "row" IS NOT NULL
    AND run_id IN :run_ids AND state = 'expired' AND final_at = :at {_REFRESH}""").bindparams(
    bindparam("run_ids", expanding=True), bindparam("at", type_=UtcDateTime())
)

_BEHIND = text(f"""
    SELECT (SELECT COUNT(*) FROM result WHERE run_id = :run_id)
            <> (SELECT COALESCE(records_read, 0) FROM campaign_run WHERE id = :run_id)
        OR EXISTS (
            SELECT 1 FROM result JOIN message ON message.id = result.message_id
            WHERE result.run_id = :run_id AND outcome IN ('pending', 'in_doubt', 'deferred')
                AND outcome <> {MESSAGE_OUTCOME}
        )
""")  # noqa: S608 - the outcome is above

_FROM_EXCLUSIONS = text("""
    INSERT INTO result (run_id, "row", recipient, outcome, reason, rule)
    SELECT run_id, "row", recipient, outcome, COALESCE(NULLIF(reason, ''), outcome), rule
    FROM exclusion WHERE run_id = :run_id
    ORDER BY "row"
""")

_READ = text("SELECT records_read FROM campaign_run WHERE id = :run_id")

_ROWS = text('SELECT MIN("row"), MAX("row") FROM result WHERE run_id = :run_id')

_OUTCOMES = text("""
    SELECT outcome, COUNT(*) FROM result WHERE run_id = :run_id
    GROUP BY outcome ORDER BY 2 DESC, 1
""")

_REASONS = text("""
    SELECT outcome, reason, rule, COUNT(*) FROM result WHERE run_id = :run_id
    GROUP BY outcome, reason, rule ORDER BY 4 DESC, 1, 2, 3
""")

_SUBMITTED = text(f"""
    SELECT COUNT(*) FROM message
    WHERE run_id = :run_id AND {RECORD} AND submitted_at IS NOT NULL
        AND (state = 'accepted' OR (state = 'expired' AND reason = 'no_report'))
""")  # noqa: S608 - the condition is above

_DOUBLES = text(f"""
    SELECT "row", COUNT(*) AS times FROM (
        SELECT "row" FROM exclusion WHERE run_id = :run_id
        UNION ALL
        SELECT "row" FROM message WHERE run_id = :run_id AND {RECORD} AND "row" IS NOT NULL
    ) AS records
    GROUP BY "row" HAVING COUNT(*) > 1 ORDER BY "row" LIMIT 1
""")  # noqa: S608 - the condition is above
