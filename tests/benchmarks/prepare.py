"""From a messy CSV to stored messages and exclusions: column by column, beside row by row."""

import csv
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import phonenumbers
from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment
from phonenumbers import timezone
from sqlmodel import Session

from adapters.sources import CsvAudience
from data.database import engine
from data.tables import Exclusion, Message
from tasks import phones, preparation
from tasks.routing import Route
from tests import plans
from tests.benchmarks import audience
from tests.benchmarks.bench import GATEWAY, SENDER, Figure, Report, fresh_home, timed

MESSAGE = (
    "Hi {{ first_name | default('there') }}, our spring sale is on: 20% off everything until"
    " Sunday at example.com/spring. Reply STOP to opt out"
)
CHUNK = 1_000


def run(rows: int = 100_000, sample: int = 5_000) -> Report:
    """Measure `tasks.preparation.prepare`, start-up excluded and reported in the notes."""
    with timed() as library:
        import great_expectations  # noqa: F401
    with timed() as tables:
        phones.normalise(pd.Series(["+12025550123"], dtype="str"), "US")
    with fresh_home() as home:
        path = audience.write(home / "audiences" / "audience.csv", rows)
        campaign = plans.open_run(state="preparing", purpose="marketing", gateway=GATEWAY)
        brief = preparation.Brief(
            campaign.id,
            CsvAudience(kind="csv", path=str(path), default_country="US"),
            MESSAGE,
            "marketing",
            Route.single(GATEWAY, SENDER),
        )
        with timed() as ours:
            planned = preparation.prepare(brief, {})
    messages = sum(part.messages for part in planned)
    assert messages + sum(part.excluded for part in planned) == rows
    with fresh_home() as home:
        path = audience.write(home / "audiences" / "audience.csv", sample)
        with timed() as plain:
            outcomes = row_by_row(path)
    assert outcomes.total() == sample
    return Report(
        "prepare",
        "rows",
        20_000,
        Figure("tasks.preparation.prepare", rows, ours),
        [Figure("csv, phonenumbers, Jinja2 and ORM, row by row", sample, plain)],
        [
            f"{messages / rows:.1%} of the rows became messages",
            f"left out: importing Great Expectations, {library.seconds:.1f} s, and compiling the"
            f" numbering plans, {tables.seconds:.1f} s, once a process",
        ],
    )


def row_by_row(path: Path) -> Counter[str]:
    """Prepare as most people write it first; no consent rules, hours, prices or segments."""
    template = ImmutableSandboxedEnvironment().from_string(MESSAGE.replace("')", "', true)"))
    seen: set[str] = set()
    outcomes: Counter[str] = Counter()
    with path.open(newline="", encoding="utf-8") as file, Session(engine()) as session:
        for number, record in enumerate(csv.DictReader(file), start=1):
            outcome, stored = _row(number, record, template, seen)
            session.add(stored)
            outcomes[outcome] += 1
            if number % CHUNK == 0:
                session.commit()
        session.commit()
    return outcomes


def _row(
    number: int, record: dict[str, str], template: Template, seen: set[str]
) -> tuple[str, Message | Exclusion]:
    def excluded(reason: str) -> tuple[str, Exclusion]:
        return reason, Exclusion(run_id="plain", row=number, outcome="invalid", reason=reason)

    try:
        phone = phonenumbers.parse(record["mobile"], (record["country"] or "US").upper())
    except phonenumbers.NumberParseException:
        return excluded("unreadable")
    if not phonenumbers.is_valid_number(phone):
        return excluded("invalid_number")
    if phonenumbers.number_type(phone) == phonenumbers.PhoneNumberType.FIXED_LINE:
        return excluded("landline")
    e164 = phonenumbers.format_number(phone, phonenumbers.PhoneNumberFormat.E164)
    if e164 in seen:
        return excluded("duplicate")
    seen.add(e164)
    if (record["marketing_opt_in"] or "").lower() not in ("yes", "true", "1", "ja", "y"):
        return excluded("no_consent")
    message = Message(
        id=f"{number:032x}",
        run_id="plain",
        request_key=e164,
        row=number,
        batch=number // 500,
        recipient=e164,
        number_key=e164,
        country=phonenumbers.region_code_for_number(phone),
        zones=record["timezone"] or ",".join(timezone.time_zones_for_number(phone)),
        text=template.render(record),
        encoding="GSM-7",
        segments=1,
        sender=SENDER,
        gateway=GATEWAY,
        state="queued",
        submitted_at=datetime.now(UTC),
    )
    return "message", message
