"""What is kept of a campaign outside the ledger: no number, no name, no secret, anywhere.

The ledger's own database and an export hold numbers: that is what they are for. The sandbox's
journal stands for the network. Everything else that an installation writes or says is searched.
"""

import html
import json
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import httpx
import pytest

from data import runs
from data.settings import settings
from tasks import planning, reporting
from tests.flows.campaigns import Desk, Said, run_of
from tests.flows.conftest import save_gateway
from tests.sandboxes import SID, TOKEN

NAMES = [
    *("Wolfdietrich", "Zephyrine", "Quirinius", "Æthelwulf-Żółć", "名無し権兵衛"),
    *("O’Zyx'Quill", "<b>Xanthippe</b>", "Vercinge|torix", '"Ypsilanti"', "`Ultan`"),
]
WRONG_TOKEN = "a-wrong-token-nobody-may-see"
PASSWORD = "the-database-password"
# The ledger, and the key that is to lie there.
LEDGER = ("sms.db", "sms.db-wal", "sms.db-shm", "secret.key")


def stored() -> Iterator[tuple[str, str]]:
    """Every text in Prefect's database, each with its table and column."""
    path = settings().home / "prefect" / "prefect.db"
    with sqlite3.connect(path) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for table in tables:
            found = database.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in found.description]
            for row in found:
                for name, value in zip(names, row, strict=True):
                    if isinstance(value, str | bytes):
                        text = value if isinstance(value, str) else value.decode(errors="replace")
                        yield f"{table}.{name}", text
    database.close()


def files() -> Iterator[tuple[str, str]]:
    """Every file of the installation but the ledger: logs, reports, what Prefect keeps."""
    for path in settings().home.rglob("*"):
        if path.is_file() and path.name not in LEDGER:
            # A row that was deleted from Prefect's database is still in its pages.
            yield str(path.relative_to(settings().home)), path.read_bytes().decode(errors="replace")


def written(word: str) -> set[str]:
    """The ways in which a word can be written into a file."""
    return {word, json.dumps(word)[1:-1], html.escape(word), repr(word)[1:-1]}


def leaks(told: list[tuple[str, str]], numbers: list[str], words: list[str]) -> list[str]:
    """Where one of these stands. A number is found however it is grouped."""
    found = []
    digits = [re.sub(r"\D", "", number) for number in numbers]
    # With and without the country's code: one digit for these.
    parts = [number for each in digits for number in (each, each[1:]) if len(number) >= 7]
    for place, text in told:
        squeezed = re.sub(r"(?<=\d)[\s().\-/]+(?=\d)", "", text)
        found += [f"{place}: {number}" for number in parts if number in squeezed]
        found += [f"{place}: {word}" for word in words if any(f in text for f in written(word))]
    return found


def artifacts(run_id: str) -> set[str]:
    return {
        text.removesuffix(f"-{run_id}")
        for place, text in stored()
        if place == "artifact.key" and text.endswith(run_id)
    }


def flush() -> None:
    """Wait until the server has stored what the flows have told it."""
    from prefect.logging.handlers import APILogWorker

    APILogWorker.drain_all(timeout=5)
    time.sleep(1.5)


class Season:
    """Campaigns that end in every way, and what the commands said."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.numbers: list[str] = []
        self.said: list[tuple[str, str]] = []

    def audience(self, *more: tuple[str, str], header: str = "phone,first_name,city") -> Path:
        """People with every name, a duplicate written differently, and rows that are unusable."""
        people = self.desk.people(len(NAMES))
        refused = [people[0][:-4] + end for end in ("1610", "1614", "3003", "3008")]
        self.numbers += [*people, *refused]
        again = f"({people[0][2:5]}) {people[0][5:8]}-{people[0][8:]}"
        rows = [*zip(people, NAMES, strict=True), *((number, "Ultan") for number in refused)]
        rows += [(again, "Zephyrine"), ("0049 30 x 4711471", NAMES[0]), ("47114712", ""), *more]
        self.numbers += ["4711471", "47114712", *(phone for phone, _ in more)]
        cells = ['"{}","{}",Byblos'.format(a, b.replace('"', '""')) for a, b in rows]
        path = self.desk.folder / f"audience-{len(self.said)}.csv"
        path.write_text("\n".join([*([header] if header else []), *cells, ""]), encoding="utf-8")
        return path

    def give(self, code: int, *line: object) -> Said:
        said = self.desk.sms(*line)
        assert said.code == code, (line, said.out, said.err)
        self.said += [(f"stdout of {line}", said.out), (f"stderr of {line}", said.err)]
        return said


def broken(season: Season) -> ValueError:
    """An error as pandas and drivers raise it, which quotes the value at fault."""
    return ValueError(f"cannot convert {season.numbers} {NAMES}")


def sent(season: Season) -> None:
    hello = "Hi {{ first_name }} in {{ city | upper }}, ready"
    said = season.give(0, "send", season.desk.campaign(season.audience(), message=hello))
    assert artifacts(said.run_id) >= {"validation", "preview", "rejects", "report", "sending"}
    for what in ("validation.html", "report.md", "report.png"):
        assert (settings().home / "runs" / said.run_id / what).exists()
    season.give(0, "runs")


def refused_for_its_credentials(season: Season) -> None:
    save_gateway("private", token=WRONG_TOKEN)
    season.give(1, "send", season.desk.campaign(season.audience(), gateway="private"))
    season.give(1, "gateway", "check", "private")
    season.give(0, "gateway", "list")


def refused_for_its_audience(season: Season) -> None:
    desk, broken = season.desk, season.desk.folder / "broken.parquet"
    broken.write_bytes(b"PAR1" + season.audience().read_bytes() + b"PAR1")
    unclosed = season.audience(("+12025550198", 'Zephyrine "" "'))
    unclosed.write_text(unclosed.read_text() + '"+12025550199,Quirinius\n')
    for audience in (season.audience(header=""), broken, unclosed):
        season.give(1, "send", desk.campaign(audience))
    wrong = {"kind": "csv", "path": str(season.audience()), "columns": {"phone": "first_name"}}
    season.give(1, "send", desk.campaign(wrong))
    season.give(1, "send", desk.campaign(season.audience(), message="Hi {{ nobody }}"))
    season.give(1, "consent", "import", season.audience())


def broken_down_on_the_way(season: Season) -> None:
    places = [(planning, "_judge"), (planning, "_excluded"), (reporting, "_latency")]
    for module, name in places:
        campaign = season.desk.campaign(season.audience())
        with mock.patch.object(module, name, side_effect=broken(season)):
            said = season.give(1, "send", campaign)
        place = module.__name__.replace(".", "/")
        assert f"a fault of the program: ValueError at {place}.py:" in said.err
        assert said.err.count("\n") == 1


def cancelled_and_rejected(season: Season) -> None:
    for end in (["cancel"], ["resume", "--reject"]):
        campaign = season.desk.campaign(
            season.audience(), message="{{ first_name }}", approval=True
        )
        said = season.give(3, "send", campaign)
        season.give(0, *end, said.run_id, "--note", f"wrong, call {season.numbers[0]}")


def stopped_by_the_gateway(season: Season) -> None:
    save_gateway("revoked")
    campaign = season.desk.campaign(season.audience(), gateway="revoked", approval=True)
    said = season.give(3, "send", campaign)
    save_gateway("revoked", token=WRONG_TOKEN)
    season.give(1, "resume", said.run_id, "--approve")
    save_gateway("revoked")
    season.desk.sandbox.order({"kind": "reset", "times": 3})
    season.give(0, "resume", run_of(campaign).id)


def without_a_database(season: Season) -> None:
    for url in (f"postgresql://sms:{PASSWORD}@127.0.0.1:1/sms", f"nosuch://sms:{PASSWORD}@x/y"):
        for line in (["runs"], ["send", season.desk.campaign(season.audience())]):
            said = season.desk.process(*line, SMS_DATABASE_URL=url)
            assert said.code == 1
            season.said += [(f"{line} with {url[:9]}", said.out + said.err)]
    url = f"postgresql+psycopg://sms:{PASSWORD}@127.0.0.1:1/sms"
    desk, query = season.desk, "SELECT phone FROM people"
    season.give(0, "source", "add", "crm", "sql", "--set", f"url={url}", "--set", f"query={query}")
    season.give(1, "send", desk.campaign({"kind": "sql", "connection": "crm"}))
    season.give(0, "source", "list")


def forged(season: Season) -> None:
    to = season.desk.people(1)[0]
    season.numbers.append(to)
    url = f"{settings().receiver_url}/gateways/sandbox/reports"
    for signature in ({}, {"X-Twilio-Signature": "forged"}):
        form = {"To": to, "MessageStatus": "delivered", "AccountSid": SID}
        answer = httpx.post(f"{url}?to={to}", data=form, headers=signature)
        assert answer.status_code == 403
        season.said.append(("answer of the receiver", answer.text))


@pytest.mark.heavy
@pytest.mark.parametrize(
    "happens",
    [
        sent,
        refused_for_its_credentials,
        refused_for_its_audience,
        broken_down_on_the_way,
        cancelled_and_rejected,
        stopped_by_the_gateway,
        without_a_database,
        forged,
    ],
)
def test_nothing_tells_a_number_a_name_or_a_secret(
    desk: Desk, happens: Callable[[Season], None], caplog: pytest.LogCaptureFixture
) -> None:
    season = Season(desk)
    with caplog.at_level("INFO"):
        happens(season)
    flush()
    told = [*stored(), *files(), *season.said, ("log", caplog.text)]
    places = {place for place, _ in told}
    # Else there would be nothing to find it in.
    assert places >= {"prefect/prefect.db", "logs/prefect-server.log", "logs/receiver.log"}
    assert places >= {
        *("artifact.data", "flow_run.parameters", "flow_run_state.name", "log.message"),
        *("task_run.name", "task_run_state.name", "block_document.data", "events.payload"),
    }
    secrets = [TOKEN, WRONG_TOKEN, PASSWORD, settings().key.decode()]
    assert leaks(told, season.numbers, [*NAMES, "Byblos", "BYBLOS", *secrets]) == []


def test_the_search_finds_what_is_there() -> None:
    told = [("a", "to +1 (202) 555-0123 now"), ("b", json.dumps({"n": "Żółć"})), ("c", "&lt;b&gt;")]
    assert leaks(told, ["+12025550123"], ["Żółć", "<b>"]) == [
        *("a: 12025550123", "a: 2025550123"),
        *("b: Żółć", "c: <b>"),
    ]


def test_the_audience_is_deleted_from_the_disk_once_it_is_planned(desk: Desk) -> None:
    campaign = desk.campaign(desk.audience(desk.people(2)), approval=True)
    run_id = desk.sms("send", campaign).run_id
    folder: Path = settings().home / "runs" / run_id
    assert runs.get_run(run_id).state == runs.WAITING
    assert [path.name for path in folder.iterdir()] == ["validation.html"]
