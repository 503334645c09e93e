"""From a file to a plan: every record becomes a message or an exclusion, once."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters.sources import CsvAudience, SourceError
from data import plan, runs
from data.database import reading
from data.rules import RulesError, daily_window
from data.settings import settings
from data.tables import CampaignRun, Exclusion, Message
from data.workspace import Workspace
from tasks import preparation
from tasks.preparation import Brief, batch_size
from tasks.routing import Route
from tasks.validation import TooManyBadRows
from tests import plans
from tests.data.ledger_model import Clock, told_by

HEADER = "name,mobile,country,opt_in"
SALE = "Hi {{ name }}, see us. Reply STOP to opt out"
NOON = datetime(2026, 3, 3, 17, tzinfo=UTC)
"""In New York, on a Tuesday in winter."""
Prepare = Callable[..., CampaignRun]


@pytest.fixture
def prepare(sqlite: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares a run of CSV lines under the usual header."""
    monkeypatch.setenv("SMS_AUDIENCE_FOLDERS", str(tmp_path))
    settings.cache_clear()

    def run_of(*lines: str, message: str = "Hi {{ name }}", **fields: object) -> CampaignRun:
        path = tmp_path / "audience.csv"
        path.write_text("\n".join([fields.pop("header", HEADER), *lines]))  # type: ignore[list-item]
        run = plans.open_run(str(fields.pop("key", "sale")), state=runs.PREPARING)
        brief = Brief(
            run_id=run.id,
            audience=CsvAudience(path=str(path), **fields.pop("audience", {})),  # type: ignore[arg-type]
            message=message,
            purpose=str(fields.pop("purpose", "transactional")),
            route=Route.single("sandbox", str(fields.pop("sender", "+15005550006"))),
            **fields,  # type: ignore[arg-type]
        )
        preparation.prepare(brief, {})
        return runs.get_run(run.id)

    return run_of


def exclusions(run: CampaignRun) -> dict[int, tuple[str, str]]:
    """The outcome and reason of the excluded records, by row."""
    table = Exclusion.__table__
    with reading() as connection:
        rows = connection.execute(select(table).where(table.c.run_id == run.id)).mappings()
        return {row["row"]: (row["outcome"], row["reason"]) for row in rows}


def test_every_record_is_a_message_or_an_exclusion(prepare: Prepare) -> None:
    run = prepare(
        "Ann,+12125550101,US,yes",
        "Bob,(212) 555-0101,US,yes",
        ",+12125550102,US,yes",
        "Cleo,nonsense,US,yes",
        "Dan,+12125550103,US,no",
        "",
        "Eve,+12125550104",
        "Fay,0171 3920001,DE,yes",
        max_invalid_share=1.0,
    )
    assert exclusions(run) == {
        2: ("duplicate", "same_number"),
        3: ("blocked", "missing_value:name"),
        4: ("invalid", "phone_not_a_number"),
        5: ("suppressed", "audience_opt_out"),
        6: ("invalid", "blank_row"),
        7: ("invalid", "ragged_row"),
    }
    sent = plans.messages(run)
    assert {number: message.text for number, message in sent.items()} == {
        "+12125550101": "Hi Ann",
        "+491713920001": "Hi Fay",
    }
    assert (run.records_read, run.planned, run.state) == (8, True, runs.SENDING)


def test_a_later_refusal_stops_the_first_record_of_a_number(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101,US,yes", "Ann,2125550101,US,no")
    assert exclusions(run)[1] == ("suppressed", "audience_opt_out")


def test_the_refusal_of_a_spoilt_record_counts_all_the_same(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101,US,yes", "Ann,+12125550101,Nowhere,no")
    assert exclusions(run) == {
        1: ("suppressed", "audience_opt_out"),
        2: ("invalid", "unknown_country"),
    }


def test_duplicates_are_found_across_partitions(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.sources.csv import CsvSource

    whole = CsvSource.partitions
    monkeypatch.setattr(CsvSource, "partitions", lambda self: whole(self, size=2))
    run = prepare(
        "Ann,+12125550101,US,yes",
        "Bob,+12125550102,US,yes",
        "Ann,+12125550101,US,yes",
        "Cleo,+12125550103,US,yes",
    )
    assert exclusions(run) == {3: ("duplicate", "same_number")}
    assert {message.row for message in plans.messages(run).values()} == {1, 2, 4}


def test_batches_are_numbered_through(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMS_BATCH_SIZE", "2")
    settings.cache_clear()
    run = prepare(*(f"Ann,+121255501{place:02},US,yes" for place in range(5)))
    batches = sorted((message.row, message.batch) for message in plans.messages(run).values())
    assert batches == [(1, 0), (2, 0), (3, 1), (4, 1), (5, 2)]


def test_a_great_audience_has_larger_batches_and_not_more() -> None:
    assert batch_size(10_000_000) == 10_000


def test_too_many_bad_rows_stop_it_before_a_plan(prepare: Prepare) -> None:
    with pytest.raises(TooManyBadRows, match="max_invalid_share"):
        prepare("Ann,x,US,yes", "Bob,y,US,yes", "Cleo,+12125550101,US,yes")
    (run,) = runs.list_runs()
    assert plans.messages(run) == {}


def test_a_source_that_fails_half_way_leaves_no_plan(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    from adapters.sources.csv import CsvSource

    whole = CsvSource.partitions

    def broken(self: CsvSource) -> object:
        yield next(iter(whole(self, size=1)))
        raise SourceError("audience.csv: the disk went away")

    monkeypatch.setattr(CsvSource, "partitions", broken)
    with pytest.raises(SourceError):
        prepare("Ann,+12125550101,US,yes", "Bob,+12125550102,US,yes")
    (run,) = runs.list_runs()
    assert (run.records_read, run.planned, plans.messages(run)) == (None, False, {})


def test_a_plan_is_never_made_again(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101,US,yes")
    with pytest.raises(plan.PlanError, match="never made again"):
        plan.clear_plan(run.id)


def test_an_incomplete_plan_is_not_declared_complete(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101,US,yes")
    runs.store(run.id, records_read=2, planned=False)
    with pytest.raises(plan.PlanError, match="read 2 records but planned 1 messages and 0"):
        plan.complete_plan(run.id, runs.SENDING)


def test_the_audience_is_forgotten_when_the_plan_is_complete(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101,US,yes")
    assert Workspace(run.id).numbers("pulled") == []


def test_what_judged_a_run_is_stored_with_it(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101,US,yes")
    assert set(run.versions) == {"phonenumbers", "tzdata", "holidays", "rules", "expectations"}


def test_marketing_without_a_column_of_consent_says_so(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101", header="name,mobile", message=SALE, purpose="marketing")
    assert exclusions(run) == {1: ("blocked", "no_consent")}
    assert any(note.startswith("opt_in: no column says who agreed") for note in run.counts["notes"])


def test_a_second_campaign_of_the_same_file_comes_to_the_same(prepare: Prepare) -> None:
    lines = ["Ann,+12125550101,US,yes", "Bob,x1,US,yes", "Cleo,+12125550103,US,no"]
    first = prepare(*lines, max_invalid_share=1.0)
    second = prepare(*lines, key="again", max_invalid_share=1.0)
    assert exclusions(first) == exclusions(second)
    ids = [{message.id for message in plans.messages(run).values()} for run in (first, second)]
    assert ids[0].isdisjoint(ids[1])


# --- consent ----------------------------------------------------------------------------------


@pytest.fixture
def advertise(prepare: Prepare, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares a marketing run at noon in New York; the lines are of name, number and state."""
    clock = Clock()
    clock.at = NOON
    told_by(clock, monkeypatch)

    def run_of(*lines: str, **fields: object) -> CampaignRun:
        given = {
            "header": "name,mobile,state,opt_in",
            "message": SALE,
            "purpose": "marketing",
            "audience": {"default_country": "US"},
            **fields,
        }
        return prepare(*lines, **given)

    return run_of


def only(run: CampaignRun) -> Message:
    assert exclusions(run) == {}
    (message,) = plans.messages(run).values()
    return message


@pytest.mark.parametrize(
    ("phone", "state", "subdivisions", "caps"),
    [
        ("+13055550101", "", "FL", ",us-fl/cap,"),
        ("+12125550101", "Florida", "FL,NY", ",us-fl/cap,"),
        ("+12125550101", "", "NY", ""),
    ],
)
def test_the_rules_of_the_address_and_of_the_area_code_apply(
    advertise: Prepare, phone: str, state: str, subdivisions: str, caps: str
) -> None:
    run = advertise(f"Ann,{phone},{state},yes", subject="spring")
    message = only(run)
    assert (message.subdivisions, message.caps, message.state) == (subdivisions, caps, "queued")
    assert run.caps == ([plans.cap(3)] if caps else [])
    assert run.subject == "spring"


@pytest.mark.parametrize(
    ("line", "fields", "told"),
    [
        ("Ann,+12125550101,Atlantis,yes", {}, "unknown_subdivision"),
        ("Ann,+37366901234,,yes", {}, "unknown_country"),
        ("Ann,+12125550101,,", {}, "no_consent"),
        ("Ann,+12125550101,,yes", {"basis": "soft_opt_in"}, "no_consent"),
        ("Ann,+12125550101,,yes", {"message": "Hi {{ name }}"}, "opt_out_text"),
        ("Ann,+12125550101,,yes", {"content": ("gambling",)}, "age_gate"),
        ("Ann,+12125550101,,yes", {"content": ("rockets",)}, "content_prohibited"),
        ("Ann,+12125550101,,yes", {"sender": "Shop"}, "sender_id"),
    ],
)
def test_marketing_that_no_rule_allows_is_not_planned(
    advertise: Prepare, line: str, fields: dict[str, object], told: str
) -> None:
    run = advertise(line, **fields)
    assert exclusions(run) == {1: ("blocked", told)}


def test_the_opt_out_text_is_part_of_the_message(advertise: Prepare) -> None:
    long = "x" * 150
    run = advertise("Ann,+12125550101,,yes", message=long, opt_out_text="Reply STOP to opt out")
    message = only(run)
    assert (message.text, message.segments) == (f"{long} Reply STOP to opt out", 2)


def test_promotional_content_makes_a_message_marketing(advertise: Prepare) -> None:
    run = advertise(
        "Ann,+12125550101,,", purpose="transactional", message="Ready. 20% off today, STOP to end"
    )
    assert run.purpose == "marketing"
    assert exclusions(run) == {1: ("blocked", "no_consent")}
    assert any(note.startswith("purpose: sent as marketing") for note in run.counts["notes"])


def test_who_heard_enough_of_a_subject_is_planned_for_later(advertise: Prepare) -> None:
    number, first = "+13055550101", NOON - timedelta(hours=20)
    for key in ("one", "two", "three"):
        before = plans.open_run(key, purpose="marketing", subject="spring")
        plans.add_messages(before, [number], state="accepted", submitted_at=first)
    message = only(advertise(f"Ann,{number},,yes", subject="spring"))
    assert (message.state, message.reason, message.rule) == (
        "deferred",
        "frequency_cap",
        "us-fl/cap",
    )
    assert message.opens_at == first + timedelta(days=1)


def test_who_sent_an_unclear_reply_is_not_planned_for(advertise: Prepare) -> None:
    plans.unclear_reply("+12125550101")
    assert exclusions(advertise("Ann,+12125550101,,yes"))[1][1] == "reply_review"


def test_a_campaign_keeps_its_own_hours(advertise: Prepare) -> None:
    run = advertise("Ann,+12125550101,,yes", window=daily_window("14:00", "15:00"))
    message = only(run)
    assert (message.state, message.reason) == ("deferred", "campaign_window")
    assert message.opens_at == NOON + timedelta(hours=2)


def test_the_end_of_the_consent_is_stored(advertise: Prepare) -> None:
    """In Canada that of a question lasts six months."""
    run = advertise(
        "Ann,+14165550101,ON,yes,2025-10-01T00:00:00Z",
        header="name,mobile,state,opt_in,opt_in_at",
        audience={"default_country": "CA"},
        basis="implied_inquiry",
    )
    assert only(run).consent_ends_at == datetime(2026, 4, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("profile", "own", "zones"),
    [
        ("standard", "", "America/Chicago,America/New_York"),
        ("standard", "America/Chicago", "America/Chicago"),
        ("strict", "America/Denver", "America/Chicago,America/Denver,America/New_York"),
        ("strict", "", "America/Chicago,America/New_York"),
    ],
)
def test_a_persons_own_zone_stands_for_those_of_the_number_but_for_the_strict(
    advertise: Prepare, monkeypatch: pytest.MonkeyPatch, profile: str, own: str, zones: str
) -> None:
    monkeypatch.setenv("SMS_RULES_PROFILE", profile)
    settings.cache_clear()
    run = advertise(
        f"Ann,+18505550101,,yes,2026-01-01T00:00:00Z,{own}",
        header="name,mobile,state,opt_in,opt_in_at,timezone",
    )
    assert only(run).zones == zones


def test_rules_that_cannot_be_read_are_refused_before_the_audience(
    advertise: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.yaml").write_text("rules:\n  - id: own\n")
    monkeypatch.setenv("SMS_RULES", str(tmp_path / "own.yaml"))
    settings.cache_clear()
    with pytest.raises(RulesError):
        advertise("Ann,+12125550101,,yes")
    (run,) = runs.list_runs()
    assert run.records_read is None
