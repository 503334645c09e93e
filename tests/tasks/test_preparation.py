"""From a file to a plan: every record becomes a message or an exclusion, once."""

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters.sources import CsvAudience, SourceError
from data import plan, runs
from data.database import reading
from data.settings import settings
from data.tables import CampaignRun, Exclusion
from data.workspace import Workspace
from tasks import preparation
from tasks.preparation import Brief, batch_size
from tasks.routing import Route
from tasks.validation import TooManyBadRows
from tests import plans

HEADER = "name,mobile,country,opt_in"
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
            audience=CsvAudience(path=str(path)),
            message=message,
            purpose=str(fields.pop("purpose", "transactional")),
            route=Route.single("sandbox", "+15005550006"),
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
    assert set(run.versions) == {"phonenumbers", "tzdata", "rules", "expectations"}


def test_marketing_without_a_column_of_consent_says_so(prepare: Prepare) -> None:
    run = prepare("Ann,+12125550101", header="name,mobile", purpose="marketing")
    assert exclusions(run) == {1: ("blocked", "no_consent")}
    assert any(note.startswith("opt_in: no column says who agreed") for note in run.counts["notes"])


def test_a_second_campaign_of_the_same_file_comes_to_the_same(prepare: Prepare) -> None:
    lines = ["Ann,+12125550101,US,yes", "Bob,x1,US,yes", "Cleo,+12125550103,US,no"]
    first = prepare(*lines, max_invalid_share=1.0)
    second = prepare(*lines, key="again", max_invalid_share=1.0)
    assert exclusions(first) == exclusions(second)
    ids = [{message.id for message in plans.messages(run).values()} for run in (first, second)]
    assert ids[0].isdisjoint(ids[1])
