"""`sms consent …` on files and single numbers: what is printed, and what is not."""

import csv
import io
import json
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select, update
from typer.testing import CliRunner, Result

from data.consent_chain import head_file
from data.database import reading, writing
from data.errors import SmsError
from data.rule_files import RulesError
from data.settings import settings
from data.tables import ConsentEvent
from flows.cli import app

EVENTS = ConsentEvent.metadata.tables["consent_event"]
NUMBER = "+12015550199"


def sms(*words: object, input: str | None = None) -> Result:
    return CliRunner().invoke(app, ["consent", *map(str, words)], input=input)


def imported(folder: Path, *lines: str) -> Result:
    file = folder / "list.csv"
    file.write_text("phone,type,occurred_at,basis,scope\n" + "".join(f"{x}\n" for x in lines))
    return sms("import", file)


def events() -> list[tuple[str, str | None, str]]:
    with reading() as connection:
        rows = connection.execute(select(EVENTS).order_by(EVENTS.c.id)).all()
    return [(row.type, row.recipient, row.scope) for row in rows]


OPT_IN = f"{NUMBER},opt_in,2026-03-01T12:00:00Z,express_written,marketing"
OPT_OUT = "+447911123456,opt_out,,,"


def test_a_file_is_imported_and_its_rejects_are_told_by_row_and_column(
    sqlite: str, tmp_path: Path
) -> None:
    done = imported(tmp_path, OPT_IN, OPT_OUT, "12,opt_out,,,", f"{NUMBER},perhaps,,,")
    assert done.exit_code == 1
    assert "list.csv: 2 records were rejected" in str(done.exception)
    assert "4 records read, 2 recorded, 2 rejected" in done.output
    assert "row 3: recipient: " in done.output
    assert "row 4: type: use one of opt_in" in done.output
    assert "5550199" not in done.output
    assert events() == [("opt_in", NUMBER, "marketing"), ("opt_out", "+447911123456", "*")]


def test_a_parquet_file_is_imported(sqlite: str, tmp_path: Path) -> None:
    file = tmp_path / "list.parquet"
    pd.DataFrame({"phone": [NUMBER], "type": ["deactivated"]}).to_parquet(file)
    assert "1 recorded" in sms("import", file).output
    assert events() == [("deactivated", NUMBER, "*")]


def test_the_ledger_is_sealed_and_verified(sqlite: str, tmp_path: Path) -> None:
    imported(tmp_path, OPT_IN, OPT_OUT)
    done = sms("verify")
    assert done.output == "2 consent events sealed, 0 unsealed, 0 erased\nnothing was changed\n"


def test_a_change_makes_verify_fail(sqlite: str, tmp_path: Path) -> None:
    imported(tmp_path, OPT_IN, OPT_OUT)
    sms("verify")
    with writing() as connection:
        connection.execute(update(EVENTS).where(EVENTS.c.id == 2).values(scope="marketing"))
    done = sms("verify")
    assert done.exit_code == 1
    assert isinstance(done.exception, SmsError)
    assert "event 2 (id 2) is not as it was recorded" in str(done.exception)


def test_without_the_end_of_the_chain_outside_the_database_verify_says_so(
    sqlite: str, tmp_path: Path
) -> None:
    imported(tmp_path, OPT_IN)
    sms("verify")
    head_file().unlink()
    assert "consent-head.json is missing" in sms("verify").output


def test_the_history_of_a_number_is_exported_whole(sqlite: str, tmp_path: Path) -> None:
    imported(tmp_path, OPT_IN, OPT_OUT)
    sms("verify")
    told = json.loads(sms("export", "(201) 555-0199", "--default-country", "US").output)
    (event,) = told["consent_events"]
    assert (event["recipient"], event["occurred_at"]) == (NUMBER, "2026-03-01T12:00:00Z")
    assert event["seal"]
    assert told["messages"] == told["replies"] == []
    (row,) = csv.DictReader(io.StringIO(sms("export", NUMBER, "--format", "csv").output))
    assert (row["record"], row["type"], row["recipient"]) == ("consent_event", "opt_in", NUMBER)


def test_a_number_that_nobody_knows_has_an_empty_history(sqlite: str) -> None:
    assert json.loads(sms("export", NUMBER).output)["consent_events"] == []
    assert sms("export", NUMBER, "--format", "csv").output == "record\n"


def test_a_number_is_erased_and_the_output_says_what_is_not_reached(
    sqlite: str, tmp_path: Path
) -> None:
    imported(tmp_path, OPT_IN, OPT_OUT)
    done = sms("forget", NUMBER, "--yes")
    assert "erased: 1 consent events, 0 messages" in done.output
    assert "not reached: backups, audience files" in done.output
    assert "5550199" not in done.output
    assert events() == [
        ("opt_in", None, "marketing"),
        ("opt_out", "+447911123456", "*"),
        ("opt_out", None, "*"),
    ]
    assert "3 consent events sealed, 0 unsealed, 2 erased" in sms("verify").output


def test_nothing_is_erased_without_a_yes(sqlite: str, tmp_path: Path) -> None:
    imported(tmp_path, OPT_IN)
    done = sms("forget", NUMBER, input="n\n")
    assert done.exit_code == 1
    assert "5550199" not in done.output
    assert events() == [("opt_in", NUMBER, "marketing")]


@pytest.mark.parametrize("command", ["export", "forget", "explain"])
def test_what_is_no_number_is_refused_without_quoting_it(sqlite: str, command: str) -> None:
    done = sms(command, "5550199")
    assert "no telephone number" in str(done.exception)
    assert "5550199" not in str(done.exception)


@pytest.mark.parametrize("words", [["explain"], ["explain", NUMBER, "--file", "x.jsonl"]])
def test_explain_wants_a_number_or_a_file(sqlite: str, words: list[str]) -> None:
    assert sms(*words).exit_code == 2


def test_explain_wants_an_instant_with_a_zone(sqlite: str) -> None:
    done = sms("explain", NUMBER, "--at", "2026-03-01 12:00")
    assert "no instant" in str(done.exception)


def test_why_a_number_gets_nothing_is_told_in_words(sqlite: str, tmp_path: Path) -> None:
    imported(tmp_path, OPT_IN, f"{NUMBER},opt_out,2026-04-01T12:00:00Z,,")
    told = sms("explain", NUMBER, "--at", "2026-05-01T15:00:00Z").output.splitlines()
    assert told[0] == "verdict: block (opted_out)"
    assert told[1].startswith("rule: ")
    assert told[2].startswith("source: ")
    assert told[3] == "consent events: 1, 2"
    assert "5550199" not in "".join(told)


def test_a_case_that_cannot_be_read_has_a_line_of_its_own(tmp_path: Path) -> None:
    good = {"id": "good", "phone": "+12", "purpose": "alert", "instant": "2026-03-10T15:00:00Z"}
    bad = good | {"id": "bad", "consent_events": ["opt_in"]}
    early = good | {"id": "early", "instant": "0001-01-01T00:00:00+14:00"}
    file = tmp_path / "cases.jsonl"
    lines = ["{", "[]", *(json.dumps(case) for case in (bad, early, good))]
    file.write_text("\n".join(lines) + "\n")
    done = sms("explain", "--file", file)
    assert done.exit_code == 1
    assert isinstance(done.exception, SmsError)
    told = [json.loads(line) for line in done.output.splitlines()]
    assert [line["id"] for line in told] == [None, None, "bad", "early", "good"]
    assert [line["reason_code"] for line in told] == ["unreadable_case"] * 4 + ["invalid_number"]
    for number, line in enumerate(told[:4], start=1):
        assert set(line) == {"id", "verdict", "reason_code", "error"}
        assert line["verdict"] == "block"
        assert line["error"].startswith(f"line {number}: ")


def test_rules_that_cannot_be_read_are_one_error_of_no_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "rules.yaml"
    broken.write_text("rules: [\n")
    monkeypatch.setenv("SMS_RULES", str(broken))
    settings.cache_clear()
    file = tmp_path / "cases.jsonl"
    file.write_text("{}\n{}\n")
    done = sms("explain", "--file", file)
    assert done.output == ""
    assert isinstance(done.exception, RulesError)
