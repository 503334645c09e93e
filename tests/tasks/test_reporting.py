"""What people are shown: sums that add up, words for codes, and nothing that names a person."""

import base64
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from data import results, runs
from data.database import insert_frame, writing
from data.deliveries import FINAL
from data.tables import CampaignRun
from tasks import reporting
from tasks.preparation import Planned
from tasks.preview import preview_markdown, rejects_table
from tasks.pricing import PriceTable
from tasks.validation import Totals

MESSAGE = "Hi {{ first_name | default('there') }}, 20% off 🎉 until Sunday. Reply STOP"
AT = datetime(2026, 11, 24, 8, tzinfo=UTC)
NAMES = ["Zerlina", "Иоланта", "Quirin|Pipe", "Ottokar\nBreak"]
NUMBERS = ["+12025550101", "+12025550102", "+4917139200", "+442079460003"]

pytestmark = pytest.mark.usefixtures("sqlite")


def a_run(**columns: Any) -> CampaignRun:
    run = runs.open_run(
        key="sale",
        name="Sale | of the *year*",
        purpose="marketing",
        parameters={"message": MESSAGE},
        gateway="main",
        sender="ACME",
        not_after=None,
        flow_run_id=None,
    )
    runs.store(run.id, note="", **columns)
    return runs.get_run(run.id)


def add_messages(run: CampaignRun, **columns: Any) -> None:
    """Four messages in rows 1 to 4; a list gives each its own value."""
    values = {
        "id": [f"{run.id}{n}" for n in range(4)],
        "run_id": run.id,
        "kind": "campaign",
        "request_key": NUMBERS,
        "row": [1, 2, 3, 4],
        "batch": 0,
        "recipient": NUMBERS,
        "number_key": NUMBERS,
        "country": ["US", "US", "DE", "GB"],
        "zones": "UTC",
        "text": [f"Hi {name}, 20% off 🎉 until Sunday. Reply STOP" for name in NAMES],
        "encoding": "UCS-2",
        "segments": 1,
        "sender": "ACME",
        "gateway": "main",
        "state": "queued",
        "reason": "",
        "rule": "",
        "attempt": 0,
        "status_rank": 0,
        "conflict": False,
    }
    with writing() as connection:
        insert_frame(connection, "message", pd.DataFrame({**values, **columns}))


def add_exclusions(run: CampaignRun, *rows: tuple[int, str, str, str]) -> None:
    """Rows of row number, outcome, reason, rule."""
    frame = pd.DataFrame(rows, columns=["row", "outcome", "reason", "rule"])
    frame = frame.assign(
        run_id=run.id, recipient="0800 123 45 67", column="phone", detail="also +1 202 555 0199"
    )
    with writing() as connection:
        insert_frame(connection, "exclusion", frame)


def planned(messages: int = 4) -> Planned:
    countries = pd.Series(["US", "DE", "TO", "US"][:messages], dtype="str")
    return Planned(
        messages=messages,
        excluded=0,
        summary=PriceTable.load().summary(countries, pd.Series([1] * messages)),
        encodings=pd.DataFrame(
            {"encoding": ["UCS-2"], "segments": [1], "forcing": ["🎉"], "messages": [messages]}
        ),
    )


def finished_run() -> CampaignRun:
    """Six records: two delivered, one undelivered, one in doubt, one invalid, one duplicate."""
    run = a_run(records_read=6)
    price = [Decimal("0.0083")] * 3 + [None]
    add_messages(
        run,
        state=["accepted", "accepted", "accepted", "in_doubt"],
        status=["delivered", "delivered", "undelivered", None],
        status_rank=[FINAL, FINAL, FINAL, 0],
        reason=["", "", "", "no_clear_answer"],
        error_code=[None, None, "30003", None],
        submitted_at=pd.Series([AT] * 4),
        final_at=pd.Series([AT + timedelta(seconds=n) for n in (1, 2, 9)] + [pd.NaT]),
        planned_price=["0.0100"] * 4,
        planned_currency="USD",
        price=[None if each is None else str(each) for each in price],
        currency=["USD", "USD", "USD", None],
    )
    add_exclusions(
        run, (5, "invalid", "missing_phone", "validation"), (6, "duplicate", "same_number", "")
    )
    with writing() as connection:
        results.rebuild(connection, run.id)
    return run


def table(markdown: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its head."""
    below = markdown.split(f"{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert lines is not None
    rows = [re.split(r"(?<!\\)\|", line.strip("|"))[0:] for line in lines[0].splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in rows]


def assert_impersonal(text: str) -> None:
    for word in ["Zerlina", "Иоланта", "Quirin", "Pipe", "Ottokar", "Break"]:
        assert word not in text
    for number in [*NUMBERS, "0800 123 45 67", "+1 202 555 0199"]:
        digits = re.sub(r"\D", "", number)
        assert number not in text
        assert digits not in re.sub(r"[\s().-]", "", text)


# ------------------------------------------------------------------ preview


def test_the_funnel_of_the_preview_adds_up_to_the_messages_of_now() -> None:
    run = a_run(records_read=9)
    opens = pd.Series([pd.NaT, AT, AT + timedelta(hours=5), pd.NaT])
    add_messages(run, state=["queued", "deferred", "deferred", "queued"], opens_at=opens)
    add_exclusions(
        run,
        (5, "invalid", "missing_phone", "validation"),
        (6, "duplicate", "same_number", ""),
        (7, "suppressed", "opted_out", "opt_out"),
        (8, "blocked", "no_consent", "consent_basis"),
        (9, "blocked", "line_type", "line_type"),
    )
    steps = table(preview_markdown(run, [], []), "## From the audience to the messages")
    numbers = [int(re.sub(r"[^\d−]", "", rows).replace("−", "-")) for _, rows in steps]
    assert numbers == [9, -1, -1, -1, -2, -2, 2]
    assert sum(numbers[:-1]) == numbers[-1]


def test_the_preview_gives_every_exclusion_its_rule_and_source() -> None:
    run = a_run(records_read=5)
    add_messages(run)
    add_exclusions(run, (5, "blocked", "no_consent", "consent_basis"))
    (row,) = table(preview_markdown(run, [], []), "## Who gets none, or later, and why")
    words = "No opt-in of a kind that is enough there"
    assert row[:5] == ["blocked", words, "1", "", "consent_basis"]
    assert row[5].startswith("Marketing needs")
    assert row[6] in ("high", "medium", "low")
    assert "](<https://" in row[7]


def test_deferred_people_are_told_by_rule_with_their_first_and_last_opening() -> None:
    run = a_run(records_read=4)
    opens = pd.Series([pd.NaT, AT, AT + timedelta(hours=5), AT])
    add_messages(
        run,
        state=["queued", "deferred", "deferred", "deferred"],
        opens_at=opens,
        reason=["", "quiet_hours", "quiet_hours", "campaign_window"],
        rule=["", "sending_window", "sending_window", "campaign_window"],
    )
    expected = {
        "Outside the recipient's hours": ["2", "2026-11-24 08:00 UTC to 2026-11-24 13:00 UTC"],
        "Outside the campaign's own hours": ["1", "2026-11-24 08:00 UTC"],
    }
    rows = table(preview_markdown(run, [], []), "## Who gets none, or later, and why")
    assert {row[1]: row[2:4] for row in rows} == expected
    with writing() as connection:
        results.rebuild(connection, run.id)
    rows = table(reporting.campaign_markdown(run), "## Stopped or waiting, by rule")
    assert {row[1]: row[2:4] for row in rows} == expected


def test_the_report_says_by_which_rule_and_how_to_ask_about_one_number() -> None:
    run = a_run(records_read=6)
    add_messages(run)
    add_exclusions(
        run, (5, "suppressed", "opted_out", "opt_out"), (6, "duplicate", "same_number", "")
    )
    with writing() as connection:
        results.rebuild(connection, run.id)
    markdown = reporting.campaign_markdown(run)
    (row,) = table(markdown, "## Stopped or waiting, by rule")
    assert row[:5] == ["suppressed", "Opted out, says the consent ledger", "1", "", "opt_out"]
    assert "[govinfo.gov](<https://www.govinfo.gov/" in row[7]
    assert f"`sms consent explain NUMBER --run {run.id}`" in markdown
    assert "no legal advice" in markdown


def test_the_preview_says_what_to_write_for_which_countries() -> None:
    run = a_run(records_read=8)
    add_messages(run)
    numbers = ["+12025550101", "+12025550102", "+14165550101", "+525512345678"]
    frame = pd.DataFrame(
        {
            "run_id": run.id,
            "row": [5, 6, 7, 8],
            "recipient": numbers,
            "outcome": "blocked",
            "reason": "opt_out_text",
            "column": "",
            "rule": ["opt_out_text"] * 3 + ["mx/opt_out_text"],
            "detail": "",
        }
    )
    with writing() as connection:
        insert_frame(connection, "exclusion", frame)
    rows = table(
        preview_markdown(run, [], []).replace("behind it:\n", "behind it\n"),
        "message, or into the field *opt_out_text*, which is put behind it",
    )
    assert [row[0] for row in rows] == ["US 2, CA 1", "MX 1"]
    assert rows[0][1] == "STOP"


def test_the_preview_says_why_a_purpose_was_raised_and_what_was_added() -> None:
    named = {"purpose": "alert", "message": "Hi, 20% off", "opt_out_text": " Reply STOP to end "}
    run = a_run(records_read=4, parameters=named)
    add_messages(run, text="Hi, 20% off Reply STOP to end")
    markdown = preview_markdown(run, [], [])
    assert "**alert was named, and it is sent as marketing: promotional" in markdown
    assert "“20% off”" in markdown
    assert "Put behind the message: Reply STOP to end" in markdown
    assert table(markdown, "## How it reads")[0][2] == "Hi, 20% off Reply STOP to end"


@pytest.mark.parametrize(
    ("purpose", "message"), [("marketing", "Hi. Reply STOP to end"), ("transactional", "Ready")]
)
def test_a_purpose_as_named_and_a_message_as_written_need_no_words(
    purpose: str, message: str
) -> None:
    named = {"purpose": purpose, "message": message, "opt_out_text": "STOP: x"}
    run = a_run(records_read=4, purpose=purpose, parameters=named)
    add_messages(run)
    markdown = preview_markdown(run, [], [])
    assert "was named" not in markdown
    assert "Put behind" not in markdown


def test_the_preview_says_cost_time_and_first_and_last_opening() -> None:
    run = a_run(records_read=4)
    opens = pd.Series([pd.NaT, AT, AT + timedelta(hours=5), pd.NaT])
    add_messages(run, state=["queued", "deferred", "deferred", "queued"], opens_at=opens)
    markdown = preview_markdown(run, ["phone: guessed column “tel”"], [planned(2), planned(2)], 0.1)
    assert table(markdown, "## Cost") == [["USD", "4", "4", "USD 0.2406", "0"]]
    assert "take about 20.0 s" in markdown
    assert "at 2026-11-24 08:00 UTC, the last at 2026-11-24 13:00 UTC" in markdown
    assert "- phone: guessed column “tel”" in markdown


def test_the_preview_flags_messages_that_the_price_table_knows_no_price_for() -> None:
    run = a_run(records_read=4)
    add_messages(run)
    assert "no price for the countries of 1 messages" in preview_markdown(run, [], [planned(3)])


def test_the_preview_says_what_an_emoji_of_the_message_costs() -> None:
    run = a_run(records_read=4)
    long = "Hi Zerlina, 🎉 " + "x" * 100
    add_messages(run, text=long, segments=2)
    kinds = planned()
    kinds.encodings["segments"] = 2
    (row,) = table(
        preview_markdown(run, [], [kinds]),
        "of 160 characters. These are the first such characters of the texts:",
    )
    assert row[0].startswith("🎉 (U+1F389 PARTY POPPER)")
    assert row[2] == "the message itself: it costs about 4 extra segments"


def test_no_preview_names_a_person_or_a_number() -> None:
    run = a_run(records_read=6)
    add_messages(run)
    add_exclusions(
        run, (5, "invalid", "missing_phone", "validation"), (6, "duplicate", "same_number", "")
    )
    markdown = preview_markdown(run, ["odd: +12025550101"], [planned()])
    assert_impersonal(markdown)
    samples = table(markdown, "## How it reads")
    assert samples[0][1:3] == ["+1•••••••101", "Hi Z•••, 20% off 🎉 until Sunday. Reply STOP"]
    assert_impersonal(str(rejects_table(run.id)))


def test_rejects_are_a_masked_sample_in_words() -> None:
    run = a_run(records_read=300)
    add_exclusions(
        run,
        *((row, "invalid", "missing_phone", "validation") for row in range(1, 200)),
        (200, "invalid", "ragged_row", "validation"),
        (201, "duplicate", "same_number", ""),
    )
    rows = rejects_table(run.id)
    assert len(rows) == 100
    assert rows[0]["reason"] == "The phone is empty"
    assert rows[-1] == {
        "row": 200,
        "column": "phone",
        "reason": "The row has more or fewer cells than the header",
        "recipient": "•" * 14,
        "detail": "also +1•••••••199",
    }


# ------------------------------------------------------------------ report


def test_the_report_accounts_for_every_row_in_its_last_line() -> None:
    markdown = reporting.campaign_markdown(finished_run())
    assert markdown.rstrip().endswith("Accounted for 6 of 6 rows")
    outcomes = table(markdown, "# Report: Sale \\| of the \\*year\\*")
    assert {row[0]: row[1:3] for row in outcomes} == {
        "delivered": ["2", "33.3 %"],
        "duplicate": ["1", "16.7 %"],
        "in doubt": ["1", "16.7 %"],
        "invalid": ["1", "16.7 %"],
        "undelivered": ["1", "16.7 %"],
    }


def test_the_report_compares_cost_and_tells_times_countries_and_doubts() -> None:
    markdown = reporting.campaign_markdown(finished_run())
    assert table(markdown, "## Cost") == [["USD", "3", "USD 0.0300", "3", "USD 0.0249"]]
    latency = table(markdown, "## From submission to the final report")
    assert latency == [["3", "2.0 s", "9.0 s", "9.0 s"]]
    assert table(markdown, "## By country") == [
        ["US", "2", "2", "100.0 %", "0", "0"],
        ["DE", "1", "0", "0.0 %", "1", "0"],
        ["GB", "1", "0", "0.0 %", "0", "1"],
    ]
    (doubt,) = table(markdown, "## In doubt")
    assert doubt == [
        *("4", "+4••••••••003", "The gateway did not answer clearly", "2026-11-24 08:00 UTC")
    ]
    assert ["undelivered", "The gateway's error 30003", "1", "16.7 %"] in table(markdown, "## Why")


def test_the_report_is_small_impersonal_and_holds_its_pictures() -> None:
    markdown = reporting.campaign_markdown(finished_run())
    pictures = re.findall(r"!\[[^\]]+\]\(data:image/png;base64,([A-Za-z0-9+/=]+)\)", markdown)
    assert [base64.b64decode(each)[:4] for each in pictures] == [b"\x89PNG"] * 2
    assert len(markdown) < 300_000
    assert_impersonal(re.sub(r"base64,[^)]+", "", markdown))


def test_a_report_before_anything_was_sent_still_reads() -> None:
    run = a_run(records_read=0)
    markdown = reporting.campaign_markdown(run)
    assert "**0 of 0 rows delivered (0.0 %).**" in markdown
    assert markdown.rstrip().endswith("Accounted for 0 of 0 rows")


def test_the_saved_report_lies_beside_its_picture(tmp_path: Path) -> None:
    run = finished_run()
    path = reporting.save_report(run)
    assert path.read_text(encoding="utf-8") == reporting.campaign_markdown(run)
    with Image.open(path.with_suffix(".png")) as picture:
        assert picture.width > 900
    assert reporting.save_report(run, tmp_path / "other.md").with_suffix(".png").exists()


def test_the_outcome_table_puts_reasons_in_words() -> None:
    assert reporting.outcome_table(finished_run().id) == [
        ("delivered", "The phone has it", 2),
        ("duplicate", "An earlier row has the same number", 1),
        ("in_doubt", "The gateway did not answer clearly", 1),
        ("invalid", "The phone is empty", 1),
        ("undelivered", "The gateway's error 30003", 1),
    ]


# ------------------------------------------------------------------ validation


def test_the_validation_says_shares_words_and_where_the_page_lies() -> None:
    totals = Totals(records=4, good=2)
    totals.rejects.update({"missing_phone": 1, "ragged_row": 1})
    totals.rules["missing_phone"] = {
        "reason": "missing_phone",
        "column": "phone",
        "words": "The phone | is empty",
        "checked": 3,
        "failing": 1,
    }
    run = a_run()
    markdown = reporting.validation_markdown(run, totals)
    assert "**2 of 4 rows (50.0 %) cannot be used.** 2 can." in markdown
    assert table(markdown, "## What was checked") == [
        [r"The phone \| is empty", "3", "1", "33.3 %"]
    ]
    assert table(markdown, "## Why rows were rejected") == [
        [r"The phone \| is empty", "1", "25.0 %"],
        ["The row has more or fewer cells than the header", "1", "25.0 %"],
    ]
    assert markdown.rstrip().endswith(f"{run.id}/validation.html")


def test_artifact_keys_are_what_prefect_allows() -> None:
    run = CampaignRun(
        id="20261124_080000-AbC",
        name="",
        key="",
        purpose="",
        state="",
        parameters={},
        gateway="",
        sender="",
        created_at=AT,
    )
    assert reporting._key("report", run) == "report-20261124-080000-abc"
