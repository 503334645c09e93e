"""Whole campaigns through command and flow: where the audience comes from, and what comes out."""

import io
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from data import figures, runs
from data.database import reading
from data.migrate import migrate
from data.settings import settings
from flows.campaign import read_file
from flows.send_campaign import send_campaign
from tests import plans
from tests.flows.campaigns import Desk, Said, outcomes, run_of
from tests.flows.conftest import inside
from tests.sandboxes import Sandbox

COLUMNS = [
    *("row", "recipient", "outcome", "reason", "gateway", "gateway_message_id", "segments"),
    *("price", "currency", "attempts", "submitted_at", "final_at"),
]


@pytest.fixture
def contacts(desk: Desk) -> list[str]:
    """What the phone column of an audience holds: 12 people, two more times, and two bad ones."""
    people = desk.people(12)
    return [*people, people[0], people[1], "123", "no number"]


EXPECTED = {"delivered": 12, "duplicate": 2, "invalid": 2}


@pytest.fixture(scope="module")
def sent(
    installation: dict[str, str], running: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Desk, list[str], Said]:
    """One campaign for all tests that only look at what came of it: 16 rows, and how it went."""
    desk = Desk(tmp_path_factory.mktemp("sent"), running)
    people = desk.people(12)
    rows = [*people, people[0], people[1], "123", "no number"]
    with inside(installation):
        migrate()
        return desk, rows, desk.sms("send", desk.campaign(desk.audience(rows)))


Sent = tuple[Desk, list[str], Said]


def test_everybody_gets_one_message_and_every_row_is_accounted_for(sent: Sent) -> None:
    desk, contacts, said = sent
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-2:] == ["Accounted for 16 of 16 rows", f"run {said.run_id}"]
    assert outcomes(said.run_id) == EXPECTED
    assert desk.messages(contacts[:12]) == [1] * 12
    assert runs.get_run(said.run_id).state == runs.FINISHED


def test_results_export_the_documented_columns_in_every_format(sent: Sent) -> None:
    desk, contacts, said = sent
    as_csv, as_json, as_parquet = (
        desk.sms("results", said.run_id, "--format", kind).stdout
        for kind in ("csv", "json", "parquet")
    )
    table = pd.read_csv(io.BytesIO(as_csv), dtype="str")
    records = json.loads(as_json)
    typed = pd.read_parquet(io.BytesIO(as_parquet))
    assert list(table.columns) == list(records[0]) == list(typed.columns) == COLUMNS
    assert table["row"].astype(int).tolist() == list(range(1, 17))
    assert table["recipient"].tolist() == contacts
    assert [record["recipient"] for record in records] == contacts
    assert typed["outcome"].tolist() == table["outcome"].tolist()
    assert table.loc[table["outcome"] == "delivered", "gateway_message_id"].is_unique


def test_rejects_say_row_column_and_reason(sent: Sent) -> None:
    desk, _, said = sent
    table = pd.read_csv(io.StringIO(desk.sms("rejects", said.run_id).out))
    assert list(table.columns) == ["row", "column", "reason", "detail"]
    assert table["row"].tolist() == [15, 16]
    assert set(table["column"]) == {"phone"}


def test_the_same_audience_under_a_new_key_has_the_same_outcomes(sent: Sent) -> None:
    desk, contacts, first = sent
    second = desk.sms("send", desk.campaign(desk.folder / "audience.csv"))
    assert outcomes(second.run_id) == outcomes(first.run_id) == EXPECTED
    assert desk.messages(contacts[:12]) == [2] * 12


def test_a_second_start_of_a_key_is_refused_in_one_line(sent: Sent) -> None:
    desk, _, first = sent
    before = desk.accepted()
    key = runs.get_run(first.run_id).key
    second = desk.sms("send", desk.campaign(desk.folder / "audience.csv", key=key))
    assert (second.code, second.out) == (1, "")
    assert second.err.count("\n") == 1
    assert first.run_id in second.err
    assert "nothing was sent" in second.err
    assert desk.accepted() == before


def is_planned(desk: Desk, source: Path | dict[str, Any], contacts: list[str]) -> bool:
    """Whether a campaign to this source comes to the same plan as one to a CSV file."""
    said = desk.sms("send", desk.campaign(source, approval=True))
    assert (said.code, said.err) == (3, "")
    with reading() as connection:
        plan = figures.planned(connection, said.run_id)
    counts = plan.groupby("outcome")["rows"].sum().to_dict()
    planned = plans.messages(runs.get_run(said.run_id))
    return counts == {"queued": 12, "duplicate": 2, "invalid": 2} and {*planned} == {*contacts[:12]}


def test_a_parquet_audience_is_planned(desk: Desk, contacts: list[str]) -> None:
    path = desk.folder / "audience.parquet"
    pd.DataFrame({"phone": contacts}).to_parquet(path)
    assert is_planned(desk, path, contacts)


def test_a_query_of_an_operator_is_planned(desk: Desk, contacts: list[str]) -> None:
    path = desk.folder / "shop.db"
    with sqlite3.connect(path) as shop:
        shop.execute("CREATE TABLE people (phone TEXT)")
        shop.executemany("INSERT INTO people VALUES (?)", [(phone,) for phone in contacts])
    shop.close()
    query = "query=SELECT phone FROM people ORDER BY rowid"
    added = desk.sms(
        "source", "add", "shop", "sql", "--set", f"url=sqlite:///{path}", "--set", query
    )
    assert (added.code, added.err) == (0, "")
    assert "shop\tsql" in desk.sms("source", "list").out
    assert is_planned(desk, {"kind": "sql", "connection": "shop"}, contacts)


class Crm:
    """A web API of pages of four contacts; `broken` names a page that fails."""

    token = "crm-bearer-token"

    def __init__(self, contacts: list[str]) -> None:
        self.broken = 0
        crm = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = int(parse_qs(urlsplit(self.path).query).get("page", ["1"])[0])
                allowed = self.headers["Authorization"] == f"Bearer {crm.token}"
                found = [{"phone": phone} for phone in contacts[4 * page - 4 : 4 * page]]
                body = json.dumps(found).encode()
                self.send_response(500 if page == crm.broken else 200 if allowed else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/contacts"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def crm(desk: Desk, contacts: list[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Crm]:
    monkeypatch.setattr("adapters.sources.http.BACK_OFF", 0.001)
    served = Crm(contacts)
    login = f"headers.Authorization=Bearer {served.token}"
    added = desk.sms("source", "add", "crm", "http", "--set", f"url={served.url}", "--set", login)
    assert (added.code, added.err) == (0, "")
    yield served
    served.server.shutdown()
    served.server.server_close()


def test_a_web_api_is_planned_page_by_page(desk: Desk, crm: Crm, contacts: list[str]) -> None:
    assert is_planned(desk, {"kind": "http", "connection": "crm"}, contacts)


def test_a_web_api_that_fails_on_a_later_page_sends_nothing(
    desk: Desk, crm: Crm, contacts: list[str]
) -> None:
    crm.broken = 3
    campaign = desk.campaign({"kind": "http", "connection": "crm"})
    said = desk.sms("send", campaign)
    assert said.code == 1
    assert "page 3" in said.err
    assert "500" in said.err
    assert said.err.count("\n") == 1
    assert crm.token not in said.err
    assert desk.messages(contacts[:12]) == [0] * 12
    assert run_of(campaign).state == runs.FAILED


def test_two_starts_of_a_key_at_one_time_send_once(desk: Desk, contacts: list[str]) -> None:
    campaign = read_file(desk.campaign(desk.audience(contacts)))
    settings().audience_folders = [desk.folder]

    def start() -> dict[str, Any] | runs.RunError:
        try:
            return send_campaign(campaign)
        except runs.RunError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        started = [pool.submit(start) for _ in range(2)]
        one, other = (each.result() for each in started)
    done, refused = (one, other) if isinstance(one, dict) else (other, one)
    assert isinstance(done, dict)
    assert done["outcomes"] == EXPECTED
    assert f"belongs to run {done['run']}" in str(refused)
    assert desk.messages(contacts[:12]) == [1] * 12


def test_a_campaign_in_a_file_beside_its_audience_finds_it(desk: Desk) -> None:
    people = desk.people(2)
    desk.audience(people, "beside.csv")
    campaign = desk.campaign({"kind": "csv", "path": "beside.csv"}, approval=True)
    assert desk.sms("send", campaign).code == 3
    assert {*plans.messages(run_of(campaign))} == {*people}


def test_the_gateway_and_the_consent_ledger_have_their_say(desk: Desk) -> None:
    people = [*desk.people(3), "+15005550001", "+12025551610"]
    ledger = desk.folder / "ledger.csv"
    ledger.write_text(f"phone,type,occurred_at\n{people[1]},opt_out,2026-01-05T10:00:00Z\n")
    imported = desk.sms("consent", "import", ledger)
    assert (imported.code, imported.out) == (0, "1 records read, 1 recorded, 0 rejected\n")
    said = desk.sms("send", desk.campaign(desk.audience(people)))
    assert said.code == 0
    found = json.loads(desk.sms("results", said.run_id, "--format", "json").stdout)
    assert [(record["outcome"], record["reason"]) for record in found] == [
        ("delivered", "delivered"),
        ("suppressed", "opted_out"),
        ("delivered", "delivered"),
        ("rejected", "gateway_21211"),
        ("suppressed", "gateway_opted_out"),
    ]
    assert desk.messages(people) == [1, 0, 1, 0, 0]


def test_promotional_content_needs_the_consent_of_marketing_whatever_it_is_called(
    desk: Desk,
) -> None:
    people = desk.people(2)
    campaign = desk.campaign(
        desk.audience(people), message="20% off", opt_out_text="Reply STOP to opt out"
    )
    said = desk.sms("send", campaign)
    assert said.code == 0, said.err
    assert outcomes(said.run_id) == {"blocked": 2}
    assert run_of(campaign).purpose == "marketing"
    assert desk.messages(people) == [0, 0]
