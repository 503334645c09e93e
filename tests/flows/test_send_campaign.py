"""Whole campaigns through command and flow: where the audience comes from, and what comes out."""

import io
import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pandas as pd
import pytest

from data import results, runs
from data.database import reading
from tests.flows.campaigns import Desk, run_of

COLUMNS = [
    *("row", "recipient", "outcome", "reason", "gateway", "gateway_message_id", "segments"),
    *("price", "currency", "attempts", "submitted_at", "final_at"),
]


def outcomes(run_id: str) -> dict[str, int]:
    """The outcomes of a run, which add up to its records or this raises."""
    with reading() as connection:
        return results.check(connection, run_id).outcomes


@pytest.fixture
def contacts(desk: Desk) -> list[str]:
    """What the phone column of an audience holds: 12 people, two more times, and two bad ones."""
    people = desk.people(12)
    return [*people, people[0], people[1], "123", "no number"]


EXPECTED = {"delivered": 12, "duplicate": 2, "invalid": 2}


def test_everybody_gets_one_message_and_every_row_is_accounted_for(
    desk: Desk, contacts: list[str]
) -> None:
    said = desk.sms("send", desk.campaign(desk.audience(contacts)))
    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines()[-2:] == ["Accounted for 16 of 16 rows", f"run {said.run_id}"]
    assert outcomes(said.run_id) == EXPECTED
    assert desk.messages(contacts[:12]) == [1] * 12
    assert runs.get_run(said.run_id).state == runs.FINISHED


def test_results_export_the_documented_columns_in_every_format(
    desk: Desk, contacts: list[str]
) -> None:
    run_id = desk.sms("send", desk.campaign(desk.audience(contacts))).run_id
    as_csv = pd.read_csv(io.BytesIO(desk.sms("results", run_id).stdout), dtype="str")
    as_json = json.loads(desk.sms("results", run_id, "--format", "json").stdout)
    as_parquet = pd.read_parquet(
        io.BytesIO(desk.sms("results", run_id, "--format", "parquet").stdout)
    )
    assert list(as_csv.columns) == list(as_json[0]) == list(as_parquet.columns) == COLUMNS
    assert as_csv["row"].astype(int).tolist() == list(range(1, 17))
    assert as_csv["recipient"].tolist() == contacts
    assert [record["recipient"] for record in as_json] == contacts
    assert as_parquet["outcome"].tolist() == as_csv["outcome"].tolist()
    assert as_csv.loc[as_csv["outcome"] == "delivered", "gateway_message_id"].is_unique


def test_rejects_say_row_column_and_reason(desk: Desk, contacts: list[str]) -> None:
    run_id = desk.sms("send", desk.campaign(desk.audience(contacts))).run_id
    said = desk.sms("rejects", run_id)
    table = pd.read_csv(io.StringIO(said.out))
    assert list(table.columns) == ["row", "column", "reason", "detail"]
    assert table["row"].tolist() == [15, 16]
    assert set(table["column"]) == {"phone"}


def test_a_parquet_audience_is_sent(desk: Desk, contacts: list[str]) -> None:
    path = desk.folder / "audience.parquet"
    pd.DataFrame({"phone": contacts}).to_parquet(path)
    assert outcomes(desk.sms("send", desk.campaign(path)).run_id) == EXPECTED
    assert desk.messages(contacts[:12]) == [1] * 12


def test_a_query_of_an_operator_is_sent(desk: Desk, contacts: list[str]) -> None:
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
    campaign = desk.campaign({"kind": "sql", "connection": "shop"})
    assert outcomes(desk.sms("send", campaign).run_id) == EXPECTED
    assert desk.messages(contacts[:12]) == [1] * 12


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


def test_a_web_api_is_sent_page_by_page(desk: Desk, crm: Crm, contacts: list[str]) -> None:
    campaign = desk.campaign({"kind": "http", "connection": "crm"})
    assert outcomes(desk.sms("send", campaign).run_id) == EXPECTED
    assert desk.messages(contacts[:12]) == [1] * 12


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


def test_the_same_audience_under_a_new_key_has_the_same_outcomes(
    desk: Desk, contacts: list[str]
) -> None:
    audience = desk.audience(contacts)
    first, second = (desk.sms("send", desk.campaign(audience)).run_id for _ in range(2))
    assert outcomes(first) == outcomes(second) == EXPECTED
    assert desk.messages(contacts[:12]) == [2] * 12


def test_a_second_start_of_a_key_is_refused_in_one_line(desk: Desk, contacts: list[str]) -> None:
    campaign = desk.campaign(desk.audience(contacts))
    first = desk.sms("send", campaign)
    second = desk.sms("send", campaign)
    assert (second.code, second.out) == (1, "")
    assert second.err.count("\n") == 1
    assert first.run_id in second.err
    assert "nothing was sent" in second.err
    assert desk.messages(contacts[:12]) == [1] * 12


def test_two_starts_of_a_key_at_one_time_send_once(desk: Desk, contacts: list[str]) -> None:
    campaign = desk.campaign(desk.audience(contacts))
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: desk.process("send", campaign), range(2))
    done, refused = (one, other) if one.code == 0 else (other, one)
    assert (done.code, done.err) == (0, "")
    assert outcomes(done.run_id) == EXPECTED
    assert refused.code == 1
    assert refused.err.count("\n") == 1
    assert "belongs to run" in refused.err
    assert desk.messages(contacts[:12]) == [1] * 12


def test_a_campaign_in_a_file_beside_its_audience_finds_it(desk: Desk) -> None:
    people = desk.people(2)
    desk.audience(people, "beside.csv")
    campaign = desk.campaign({"kind": "csv", "path": "beside.csv"})
    assert desk.sms("send", campaign).code == 0
    assert desk.messages(people) == [1, 1]


def test_a_gateway_that_refuses_some_leaves_the_reason_in_their_rows(desk: Desk) -> None:
    people = [*desk.people(2), "+15005550001", "+12025551610"]
    said = desk.sms("send", desk.campaign(desk.audience(people)))
    assert said.code == 0
    found = json.loads(desk.sms("results", said.run_id, "--format", "json").stdout)
    print(found, Path.cwd())
    assert [record["outcome"] for record in found] == [
        *("delivered", "delivered", "rejected", "suppressed")
    ]
