"""Adding events to the consent ledger."""

import hashlib
from datetime import timedelta

import pytest
from sqlalchemy import select

from data.consent_ledger import ConsentError
from data.database import now, reading
from data.identity import number_keys
from data.tables import ConsentEvent
from tests.data.consent_events import NOON, A, events, opt_in, opt_out, record

EVENTS = ConsentEvent.metadata.tables["consent_event"]


def test_events_are_kept_with_key_digest_and_evidence(database: str) -> None:
    record(
        events(
            opt_in(NOON, evidence={"form": "summer", "text": 'say "yes",\nplease'}),
            opt_out(None, scope=None, evidence=None),
        )
    )
    with reading() as connection:
        first, second = connection.execute(select(EVENTS).order_by(EVENTS.c.id)).all()
    assert (first.number_key, first.recipient) == (number_keys([A])[0], A)
    assert first.occurred_at == NOON
    assert first.evidence == {"form": "summer", "text": 'say "yes",\nplease'}
    assert (second.scope, second.occurred_at, second.evidence) == ("*", None, {})
    assert len(first.payload_digest) == 64
    assert first.payload_digest != second.payload_digest
    assert (first.previous_seal, first.seal) == (None, None)


def test_an_instant_in_the_future_becomes_the_present(sqlite: str) -> None:
    record(events(opt_in(now() + timedelta(days=400))))
    with reading() as connection:
        row = connection.execute(select(EVENTS)).one()
    assert row.occurred_at == row.recorded_at <= now()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"type": "optin"}, r"consent event 1: its type .* use one of opt_in,"),
        ({"recipient": "2015550100"}, "consent event 1: its recipient .* E.164"),
        ({"recipient": None}, "consent event 1: its recipient"),
        ({"scope": "newsletter"}, "consent event 1: its scope .* marketing"),
    ],
)
def test_events_that_mean_nothing_are_refused(
    sqlite: str, fault: dict[str, object], words: str
) -> None:
    with pytest.raises(ConsentError, match=words) as caught:
        record(events(opt_out(NOON), opt_out(NOON, **fault)))
    assert "5550100" not in str(caught.value)


def test_the_wording_is_kept_as_its_hash(database: str) -> None:
    wording = "Yes, send me offers by SMS."
    given = hashlib.sha256(b"other").hexdigest()
    record(
        events(
            opt_in(NOON, wording=wording, wording_version="2026-01"),
            opt_in(NOON, text_hash=given.upper()),
            opt_in(NOON),
        )
    )
    with reading() as connection:
        kept = connection.execute(select(EVENTS).order_by(EVENTS.c.id)).all()
    hashed = hashlib.sha256(wording.encode()).hexdigest()
    assert [row.text_hash for row in kept] == [hashed, given, ""]
    assert [row.wording_version for row in kept] == ["2026-01", "", ""]


@pytest.mark.parametrize(
    ("source", "method", "kept"),
    [
        ("shop", "Web_Form", "web_form"),
        ("csv_upload", "web_form", "import:web_form"),
        ("shop", "bulk", "import:bulk"),
        ("old_list", "", "import:"),
        ("list.csv", "import:keyword", "import:keyword"),
    ],
)
def test_what_smells_of_bulk_is_kept_as_an_import(
    sqlite: str, source: str, method: str, kept: str
) -> None:
    record(events(opt_in(NOON, source="shop"), opt_in(NOON, source=source, method=method)))
    with reading() as connection:
        rows = connection.execute(select(EVENTS).order_by(EVENTS.c.id)).all()
    assert [row.method for row in rows] == ["web_form", kept]


def test_a_nul_is_not_kept(database: str) -> None:
    record(events(opt_in(NOON, source="sh\0op")))
    with reading() as connection:
        assert connection.execute(select(EVENTS)).one().source == "shop"
