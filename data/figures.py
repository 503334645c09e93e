"""What people are shown of a run: counts of its plan, samples, money, times and places.

Every figure is one set-based statement, and its answer is small whatever the audience. Not here:
the account of every record (`data/results`), and what a report looks like (`tasks/reporting`).
"""

from collections import defaultdict
from datetime import datetime
from decimal import Decimal

import pandas as pd
from sqlalchemy import Connection, text

from data.database import is_sqlite
from data.results import MESSAGE_OUTCOME, SETTLED
from data.tables import DecimalText, UtcDateTime

SUBMITTED = "submitted"
"""What `timeline` calls handing a message to the gateway; no outcome."""


def _frame(connection: Connection, statement: str, columns: str, **values: object) -> pd.DataFrame:
    """Return the answer with these columns, named in order and separated by blanks."""
    rows = [tuple(row) for row in connection.execute(text(statement), values)]
    return pd.DataFrame(rows, columns=columns.split())


# ------------------------------------------------------------------ the plan


def planned(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return the records of a plan by what is to become of them; most frequent first.

    Columns outcome, reason, rule, rows, and of deferred messages the first and the last opening
    (UTC). The outcome of a message is its state: queued or deferred.
    """
    return _by_rule(
        connection,
        """
        SELECT outcome, reason, rule, COUNT(*) AS "rows", NULL AS first, NULL AS last
        FROM exclusion WHERE run_id = :run_id GROUP BY outcome, reason, rule
        UNION ALL
        SELECT state, reason, rule, COUNT(*), MIN(opens_at), MAX(opens_at) FROM message
        WHERE run_id = :run_id AND kind <> 'test' GROUP BY state, reason, rule
        ORDER BY 4 DESC, 1, 2, 3
        """,
        run_id,
    )


def stopped(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return the blocked, suppressed and deferred records of the results by reason and rule.

    Columns as of `planned`; most frequent first.
    """
    return _by_rule(
        connection,
        """
        SELECT result.outcome, result.reason, result.rule, COUNT(*) AS "rows",
            MIN(message.opens_at) AS first, MAX(message.opens_at) AS last
        FROM result LEFT JOIN message
            ON message.id = result.message_id AND result.outcome = 'deferred'
        WHERE result.run_id = :run_id AND result.outcome IN ('blocked', 'suppressed', 'deferred')
        GROUP BY result.outcome, result.reason, result.rule ORDER BY 4 DESC, 1, 2, 3
        """,
        run_id,
    )


def _by_rule(connection: Connection, statement: str, run_id: str) -> pd.DataFrame:
    asked = text(statement).columns(first=UtcDateTime(), last=UtcDateTime())
    rows = [tuple(row) for row in connection.execute(asked, {"run_id": run_id})]
    found = pd.DataFrame(rows, columns=["outcome", "reason", "rule", "rows", "first", "last"])
    return found.astype({"first": "datetime64[us, UTC]", "last": "datetime64[us, UTC]"})


def without_opt_out_text(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return the records of a plan whose place wants to be told how to opt out: rule, recipient,
    rows.

    `recipient` is one number for all that begin alike, far enough to tell countries apart.
    """
    statement = """
        SELECT rule, MIN(recipient), COUNT(*) FROM exclusion
        WHERE run_id = :run_id AND reason = 'opt_out_text'
        GROUP BY rule, SUBSTR(recipient, 1, 8) ORDER BY 3 DESC, 1, 2
    """
    return _frame(connection, statement, "rule recipient rows", run_id=run_id)


def openings(connection: Connection, run_id: str) -> tuple[datetime | None, datetime | None]:
    """Return when the first and the last of the deferred messages may go (UTC)."""
    statement = text("""
        SELECT MIN(opens_at) AS first, MAX(opens_at) AS last FROM message
        WHERE run_id = :run_id AND state = 'deferred'
    """).columns(first=UtcDateTime(), last=UtcDateTime())
    first, last = connection.execute(statement, {"run_id": run_id}).one()
    return first, last


_SAMPLE = '"row" recipient sender text encoding segments'


def sample_messages(connection: Connection, run_id: str, limit: int) -> pd.DataFrame:
    """Return up to `limit` messages of a plan: one of each encoding and length, then the first.

    Columns row, recipient, sender, text, encoding, segments; by row.
    """
    wanted = ", ".join(f"message.{name}" for name in _SAMPLE.split())
    # A group's representative is its lowest request key: the unique index finds it at once.
    each_kind = f"""
        SELECT {wanted} FROM message JOIN (
            SELECT MIN(request_key) AS request_key, segments AS length FROM message
            WHERE run_id = :run_id AND kind <> 'test' GROUP BY encoding, segments
            ORDER BY segments DESC LIMIT :kinds
        ) AS kinds ON kinds.request_key = message.request_key
        WHERE message.run_id = :run_id AND message.kind <> 'test'
    """  # noqa: S608 - the column names are above
    first = f"""
        SELECT {wanted} FROM message
        WHERE run_id = :run_id AND state IN ('queued', 'deferred') AND batch = 0
            AND kind <> 'test'
        ORDER BY "row" LIMIT :limit
    """  # noqa: S608
    columns = _SAMPLE.replace('"', "")
    kinds = _frame(connection, each_kind, columns, run_id=run_id, kinds=-(-limit // 2))
    others = _frame(connection, first, columns, run_id=run_id, limit=limit)
    both = pd.concat([kinds, others], ignore_index=True).drop_duplicates("row").head(limit)
    return both.sort_values("row", ignore_index=True)


def ucs2_texts(connection: Connection, run_id: str, limit: int) -> pd.Series:
    """Return up to `limit` texts that are not GSM-7, in no particular order."""
    statement = """
        SELECT text FROM message
        WHERE run_id = :run_id AND kind <> 'test' AND encoding = 'UCS-2' LIMIT :limit
    """
    return _frame(connection, statement, "text", run_id=run_id, limit=limit)["text"].astype("str")


def sample_rejects(connection: Connection, run_id: str, limit: int) -> pd.DataFrame:
    """Return up to `limit` invalid records, of every reason the first ones: row, column, reason,
    recipient, detail; by row."""
    statement = """
        SELECT "row", "column", reason, recipient, detail FROM (
            SELECT *, ROW_NUMBER() OVER (PARTITION BY reason ORDER BY "row") AS place
            FROM exclusion WHERE run_id = :run_id AND outcome = 'invalid'
        ) AS placed
        ORDER BY place, "row" LIMIT :limit
    """
    columns = "row column reason recipient detail"
    found = _frame(connection, statement, columns, run_id=run_id, limit=limit)
    return found.sort_values("row", ignore_index=True)


# ------------------------------------------------------------------ what became of it


def costs(connection: Connection, run_id: str) -> pd.DataFrame:
    """Compare estimate and price of the messages that a gateway took; one row a currency.

    Columns currency, messages and estimate (of the plan, exact `Decimal`), priced (messages whose
    price the gateway has told) and charged (their prices, exact `Decimal`).
    """
    # SQLite adds up text as floats. Distinct prices are few: they are added up here, exactly.
    statement = text("""
        SELECT planned_currency, planned_price, currency, price, COUNT(*) AS messages FROM message
        WHERE run_id = :run_id AND kind <> 'test'
            AND (state = 'accepted' OR (state = 'expired' AND reason = 'no_report'))
        GROUP BY planned_currency, planned_price, currency, price
    """).columns(planned_price=DecimalText(), price=DecimalText())
    sums: dict[str, list[int | Decimal]] = defaultdict(lambda: [0, Decimal(0), 0, Decimal(0)])
    for kind in connection.execute(statement, {"run_id": run_id}):
        if kind.planned_price is not None:
            planned = sums[kind.planned_currency or ""]
            planned[0] += kind.messages
            planned[1] += kind.planned_price * kind.messages
        if kind.price is not None:
            real = sums[kind.currency or kind.planned_currency or ""]
            real[2] += kind.messages
            real[3] += kind.price * kind.messages
    rows = [(currency, *columns) for currency, columns in sorted(sums.items())]
    return pd.DataFrame(rows, columns=["currency", "messages", "estimate", "priced", "charged"])


def latencies(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return how long final reports took from submission: seconds, rows; shortest first.

    To a tenth of a second below a minute, above it to a second: few rows for any number of them.
    """
    took = f"{_epoch(connection, 'final_at')} - {_epoch(connection, 'submitted_at')}"
    statement = f"""
        SELECT CASE WHEN took < 60 THEN ROUND(took * 10) / 10 ELSE ROUND(took) END, COUNT(*)
        FROM (
            SELECT {took} AS took FROM message
            WHERE run_id = :run_id AND kind <> 'test' AND {SETTLED}
                AND submitted_at IS NOT NULL AND final_at IS NOT NULL
        ) AS finals
        GROUP BY 1 ORDER BY 1
    """  # noqa: S608 - the expressions are ours
    return _frame(connection, statement, "seconds rows", run_id=run_id)


def countries(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return the messages of a run by country and outcome: country, outcome, rows."""
    statement = f"""
        SELECT COALESCE(country, ''), {MESSAGE_OUTCOME}, COUNT(*) FROM message
        WHERE run_id = :run_id AND kind <> 'test' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
    """  # noqa: S608 - the expression is ours
    return _frame(connection, statement, "country outcome rows", run_id=run_id)


def gateways(connection: Connection, run_id: str) -> pd.DataFrame:
    """Return the messages of a run by gateway and outcome: gateway, outcome, rows."""
    statement = f"""
        SELECT gateway, {MESSAGE_OUTCOME}, COUNT(*) FROM message
        WHERE run_id = :run_id AND kind <> 'test' GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2
    """  # noqa: S608 - the expression is ours
    return _frame(connection, statement, "gateway outcome rows", run_id=run_id)


def in_doubt(connection: Connection, run_id: str, limit: int) -> pd.DataFrame:
    """Return the first records in doubt: row, recipient, reason, submitted_at."""
    statement = text("""
        SELECT "row", recipient, reason, submitted_at FROM result
        WHERE run_id = :run_id AND outcome = 'in_doubt' ORDER BY "row" LIMIT :limit
    """).columns(submitted_at=UtcDateTime())
    rows = connection.execute(statement, {"run_id": run_id, "limit": limit})
    columns = ["row", "recipient", "reason", "submitted_at"]
    return pd.DataFrame([tuple(row) for row in rows], columns=columns)


def timeline(connection: Connection, run_id: str, steps: int = 240) -> pd.DataFrame:
    """Return when messages were submitted and came to their outcomes: at (UTC), outcome, rows.

    The time of the run is cut into `steps`; `rows` are those of one step. `SUBMITTED` stands
    beside the outcomes. Records that never became a message have no time and are not in it.
    """
    submitted, final = _epoch(connection, "submitted_at"), _epoch(connection, "final_at")
    spans = f"""
        SELECT MIN(COALESCE({submitted}, {final})), MAX(COALESCE({final}, {submitted}))
        FROM result WHERE run_id = :run_id
    """  # noqa: S608 - the expressions are ours
    start, end = connection.execute(text(spans), {"run_id": run_id}).one()
    if start is None:
        return pd.DataFrame(columns=["at", "outcome", "rows"])
    width = max((end - start) / steps, 0.001)
    statement = f"""
        SELECT '{SUBMITTED}', ROUND(({submitted} - :start) / :width) AS step, COUNT(*) FROM result
        WHERE run_id = :run_id AND submitted_at IS NOT NULL GROUP BY step
        UNION ALL
        SELECT outcome, ROUND(({final} - :start) / :width) AS step, COUNT(*) FROM result
        WHERE run_id = :run_id AND final_at IS NOT NULL GROUP BY outcome, step
    """  # noqa: S608
    found = _frame(
        connection, statement, "outcome step rows", run_id=run_id, start=start, width=width
    )
    seconds = start + found["step"].astype("float64") * width
    found["at"] = pd.to_datetime((seconds * 1_000).round().astype("int64"), unit="ms", utc=True)
    ordered = found.sort_values(["at", "outcome"], ignore_index=True)
    return ordered[["at", "outcome", "rows"]]


def _epoch(connection: Connection, column: str) -> str:
    """SQL: an instant in seconds of Unix time."""
    if is_sqlite(connection):
        return f"((julianday({column}) - 2440587.5) * 86400.0)"
    return f"CAST(EXTRACT(EPOCH FROM {column}) AS double precision)"
